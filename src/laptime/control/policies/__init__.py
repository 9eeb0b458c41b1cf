"""Policies: which choice for this input under this budget? One interface (policy.Policy), a file each. No torch."""
