"""The report of a controller."""
