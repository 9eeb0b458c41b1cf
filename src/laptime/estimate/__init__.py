"""Predict latency, with bounds that hold. No torch here."""
