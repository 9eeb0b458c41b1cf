"""The report of an estimator."""
