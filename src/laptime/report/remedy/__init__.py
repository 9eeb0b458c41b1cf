"""The report of remedies."""
