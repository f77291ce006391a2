"""The designs of the notebooks: what decides a result is a function here."""
