"""Which of these measurements are not valid, and why."""
