"""Upper bounds on the time of each choice, and the leeway that a promise over all answers leaves."""
