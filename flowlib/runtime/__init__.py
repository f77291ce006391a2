"""What everything else stands on: paths, files, fetching, what is kept of earlier runs, jobs in processes."""
