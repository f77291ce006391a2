"""Borescope videos of engine blades, made up: surface, defects, camera, data set."""
