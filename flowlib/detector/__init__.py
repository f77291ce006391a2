"""A detector for a user's own images: its maps, how it is fitted on normal ones, chosen, calibrated and stored."""
