"""`laptime control`: train, judge and run a policy that chooses the knobs for each input under a latency budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typer import Typer


def control_verbs() -> Typer:
    """`laptime control VERB`, in the order in which they are used."""
    import typer

    from laptime.cli.control_ask import ask
    from laptime.cli.control_evaluate import evaluate
    from laptime.cli.control_features import features
    from laptime.cli.control_run import run
    from laptime.cli.control_train import train

    app = typer.Typer(
        help="Choose image tier, experts and blocks for each input, so that its answer is in time.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    app.command("features")(features)
    app.command("ask")(ask)
    app.command("train")(train)
    app.command("evaluate")(evaluate)
    app.command("run")(run)
    return app
