"""`laptime control`: train, judge and run a policy that chooses the knobs for each input under a latency budget."""

from __future__ import annotations

from laptime.cli.control_ask import ask
from laptime.cli.control_bounds import bounds
from laptime.cli.control_evaluate import evaluate
from laptime.cli.control_features import features
from laptime.cli.control_run import run
from laptime.cli.control_train import train
from laptime.cli.verbs import Group

CONTROL = Group(
    "Choose image tier, experts and blocks for each input, so that its answer is in time.",
    (features, ask, train, bounds, evaluate, run),
)
"""The verbs of `laptime control`, in the order in which they are used."""
