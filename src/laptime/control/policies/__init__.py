"""Policies: which choice for this input under this budget? All have one interface, policy.Policy. No torch."""
