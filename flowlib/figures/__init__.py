"""Pictures from tables and arrays; a module a notebook, and what they share."""
