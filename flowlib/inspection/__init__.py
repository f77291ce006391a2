"""A detector at work on a user's files: media, cropping, ingest, normal images, verdicts, overlays."""
