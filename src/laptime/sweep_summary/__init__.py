"""What a sweep says: each configuration, what each knob buys, the Pareto front. Pure functions over frames."""
