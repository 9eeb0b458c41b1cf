"""Learn how long calls take from a table, and ask which of them keep a budget.

python examples/fit_and_ask_a_budget.py
"""

import itertools
import random

import polars

import laptime

noise = random.Random(0)
rows = [
    {"batch": batch, "prompt": prompt, "total_ms": (20 + 3 * batch + 0.05 * prompt) * noise.uniform(0.95, 1.1)}
    for batch, prompt, _ in itertools.product([1, 2, 4, 8], [128, 256, 512, 1024], range(8))
]
fitted = laptime.fit_run(polars.DataFrame(rows), target="total_ms", features=["batch", "prompt"])
answer = laptime.budget(fitted, {"batch": [1, 2, 4, 8], "prompt": [128, 512]}, budget_ms=50, confidence=0.95)

laptime.show(answer)
best = fitted.predictor().quantile(polars.DataFrame({"batch": [1], "prompt": [200]}), 0.95)
print(f"one request of 200 tokens takes at most {best[0]:.1f} ms, in 95 of 100 cases")
