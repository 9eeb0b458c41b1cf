"""Log a measured run to MLflow: its figures, its settings and its page.

    pip install mlflow-skinny
    python examples/trackers/mlflow_run.py

Here the runs go to the folder mlruns; MLFLOW_TRACKING_URI names a server.
"""

import os

import mlflow

import laptime

os.environ.setdefault("MLFLOW_TRACKING_URI", "file:mlruns")
os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder is enough here
run = laptime.profile("preset:tiny-llm", samples=4, repeats=1, new_tokens=8)

with mlflow.start_run():
    mlflow.log_params(run.info.config)
    mlflow.log_metrics(run.summary.metrics())
    mlflow.log_text(laptime.page(run), "laptime.html")

print(f"logged total_ms = {run.summary.metrics()['total_ms']:.1f}")
