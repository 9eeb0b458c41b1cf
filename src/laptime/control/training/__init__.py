"""Training of policies on a decision table. Everything here imports torch; what it makes runs without."""
