"""The report of an engine's own marks."""
