"""Samples as values and as columns: one record, its run folder, its tables, and what they say together."""
