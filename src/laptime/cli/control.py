"""`laptime control`: train, judge and run a policy that chooses the knobs for each input under a latency budget."""

from __future__ import annotations

import typer

from laptime.cli.control_ask import ask
from laptime.cli.control_bounds import bounds
from laptime.cli.control_evaluate import evaluate
from laptime.cli.control_features import features
from laptime.cli.control_run import run
from laptime.cli.control_train import train

CONTROL = typer.Typer(
    help="Choose image tier, experts and blocks for each input, so that its answer is in time.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
"""The verbs of `laptime control`, in the order in which they are used."""

for verb in (features, ask, train, bounds, evaluate, run):
    CONTROL.command(verb.__name__, context_settings={"help_option_names": ["-h", "--help"]})(verb)
