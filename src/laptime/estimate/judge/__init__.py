"""Judging a predictor: held-out splits, errors, coverage, and the ceiling that noise sets."""
