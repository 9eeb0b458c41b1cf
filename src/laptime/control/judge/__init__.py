"""Judging a controller: its answers and times, measured or looked up."""
