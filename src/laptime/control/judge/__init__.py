"""Judging policies: their answers and times, measured or looked up."""
