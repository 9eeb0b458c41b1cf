"""A table of measurements: reading it, checking it, and its columns."""
