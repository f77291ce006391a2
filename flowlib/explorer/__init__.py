"""Notebook 07: state and models, pictures and panels, sheets and widgets, and the tabs that show them."""
