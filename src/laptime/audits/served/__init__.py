"""Results of other programs that load a serving engine: read, and judged for what their users fall over."""
