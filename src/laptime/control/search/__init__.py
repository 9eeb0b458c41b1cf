"""Which blocks run, and how many experts in each of them, chosen by the answers that are then right."""
