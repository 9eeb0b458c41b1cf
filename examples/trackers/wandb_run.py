"""Log a measured run to Weights & Biases: its figures, its settings and its page.

    pip install wandb
    WANDB_MODE=offline python examples/trackers/wandb_run.py

Offline, the run is a folder below ./wandb that `wandb sync` sends later.
"""

import wandb

import laptime

run = laptime.profile("preset:tiny-llm", samples=4, repeats=1, new_tokens=8)

with wandb.init(project="laptime", config=run.info.config) as logged:
    logged.log({**run.summary.metrics(), "page": wandb.Html(laptime.page(run))})

print(f"logged total_ms = {run.summary.metrics()['total_ms']:.1f}")
