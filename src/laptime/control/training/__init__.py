"""Training of policies on a decision table, with torch. Trained policies run without it."""
