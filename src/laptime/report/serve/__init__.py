"""The report of a load on an endpoint."""
