"""Notebook 07: state and models, pictures and panels, and the tabs that show them."""
