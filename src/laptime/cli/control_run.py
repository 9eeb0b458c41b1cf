"""`laptime control run POLICY`: one answer within a budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from laptime.errors import LaptimeError, require_torch


def run(
    policy: Annotated[Path, typer.Argument(help="What `laptime control train` wrote.")],
    question: Annotated[str, typer.Option(help="What is asked.")],
    budget_ms: Annotated[str, typer.Option("--budget-ms", help="The time that the answer may take: 40, 40ms, 0.04s.")],
    image: Annotated[Path | None, typer.Option(help="The image that is asked about.")] = None,
    model: Annotated[str | None, typer.Option(help="Default: the model that the policy was trained for.")] = None,
    new_tokens: Annotated[int | None, typer.Option(help="At most so many tokens.", min=1)] = None,
    repeats: Annotated[int, typer.Option(help="Ask so many times; the last answer is shown.", min=1)] = 2,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run the model's own code.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The answer and its sample as JSON on stdout.")] = False,
) -> int:
    """Answer one question within a budget: knobs as the policy chooses them, for this call only.

    Example: laptime control run policy --image page.png --question "Read the small code?" --budget-ms 40

    Exit codes: 0 done and in time, 1 late, or no setting of the knobs is known to keep the budget, 2 usage.
    """
    require_torch()
    from laptime.cli.options import milliseconds
    from laptime.control.adaptive_model import AdaptiveModel
    from laptime.control.question import Question
    from laptime.control.policies.saved_policy import read_policy
    from laptime.data.run_folder import readable_json
    from laptime.models.loading import load_model
    from laptime.workload.datasets import open_image

    budget = milliseconds("--budget-ms", budget_ms)
    saved = read_policy(policy)
    name = model or saved.model.name
    if not name:
        raise LaptimeError(f"{policy}: doesn't say which model it was trained for; name it with --model")
    if not question.strip():
        raise LaptimeError("--question is empty; ask something")
    asked = Question(question, None if image is None else open_image(image, "--image"))
    loaded = load_model(name, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    adaptive = AdaptiveModel.load(loaded, policy)
    adaptive.warm_up(asked)
    for _ in range(repeats):
        answer = adaptive.generate(asked, budget_ms=budget, max_new_tokens=new_tokens)
    decision = answer.sample.decision
    assert decision is not None
    unfit = "no-choice-fits" in answer.sample.flags
    if as_json:
        told = {"schema": "laptime.answer/1", "text": answer.text, "spent_ms": answer.spent_ms, "sample": answer.sample}
        sys.stdout.write(readable_json(told).decode())
    else:
        bound = "nothing is promised"
        if decision.bound_ms is not None:
            bound = f"bound {decision.bound_ms:.1f} ms{_sure(decision.confidence)}"
        knobs = saved.policy.space.choice(answer.choice)
        typer.echo(answer.text)
        typer.echo(
            f"{answer.spent_ms:.1f} ms of {budget:g} ms ({bound}); {knobs}; decided in {decision.deciding_ms:.2f} ms"
            + ("; no choice was known to fit: the fastest was taken" if unfit else ""),
            err=True,
        )
    return 1 if unfit or answer.spent_ms > budget else 0


def _sure(confidence: float | None) -> str:
    return "" if confidence is None else f" with {100 * confidence:.0f} %"
