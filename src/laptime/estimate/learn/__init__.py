"""Learning latency from a table: regressors, their selection, and calibrated answers."""
