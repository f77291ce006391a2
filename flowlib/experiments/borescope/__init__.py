"""Thesis section 5, notebook 05: frames of simulated blades, maps of every method, what is measured of them."""
