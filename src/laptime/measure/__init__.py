"""Exact measuring: marks on one clock, spans between them, samples under watch."""
