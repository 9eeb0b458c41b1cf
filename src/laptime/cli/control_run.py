"""`laptime control run POLICY`: one answer within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from laptime.cli import options
from laptime.cli.declared import argument, option
from laptime.cli.output import print_json, say
from laptime.errors import LaptimeError, require_torch

MOST_CHOICES = 26
"""As many options as there are letters."""


def run(
    policy: Annotated[Path, argument(metavar="POLICY", help="What laptime control train wrote.")],
    question: Annotated[
        str, option("--question", metavar="TEXT", help="What is asked.", rich_help_panel=options.QUESTION)
    ],
    budget_ms: options.BudgetMs,
    image: Annotated[
        Path | None,
        option("--image", metavar="FILE", help="The image that is asked about.", rich_help_panel=options.QUESTION),
    ] = None,
    choice: Annotated[
        list[str] | None,
        option(
            "--choice",
            metavar="TEXT",
            help="An option of a multiple-choice question; once for each.",
            rich_help_panel=options.QUESTION,
        ),
    ] = None,
    new_tokens: Annotated[
        int | None,
        option(
            "--new-tokens", metavar="N", min=1, help="The most tokens of the answer.", rich_help_panel=options.QUESTION
        ),
    ] = None,
    model: options.PolicyModel = None,
    dtype: options.DtypeOption = options.Dtype.auto,
    device: options.Device = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    repeats: Annotated[
        int,
        option(
            "--repeats",
            metavar="N",
            min=1,
            help="Ask N times and show the last answer.",
            rich_help_panel=options.MEASURING,
        ),
    ] = 2,
    fast: Annotated[
        bool,
        option(
            "--fast",
            help="Answer on FastModel, without launch gaps; the policy's bounds are of the plain path.",
            rich_help_panel=options.MEASURING,
        ),
    ] = False,
    online: options.Online = True,
    as_json: options.Json = False,
) -> int:
    """Answer one question within a budget: the policy chooses the knobs, for this call only.

    Example: laptime control run policy --image page.png --question "Read the small code?" --budget-ms 40

    Exit codes: 0 done and in time, 1 late, or no setting of the knobs is known to keep the budget, 2 usage.
    """
    budget = options.milliseconds("--budget-ms", budget_ms or "")
    if not question.strip():
        raise LaptimeError("--question is empty; ask something")
    choices = tuple(choice or ())
    if choices and not (2 <= len(choices) <= MOST_CHOICES and len(set(choices)) == len(choices)):
        raise LaptimeError(f"--choice: give 2 to {MOST_CHOICES} different options (found {len(choices)})")
    require_torch()
    from laptime.control.adaptive_model import AdaptiveModel
    from laptime.control.policies.saved_policy import model_to_load, read_policy
    from laptime.control.question import Question
    from laptime.models.loading import load_model
    from laptime.report.kit.numbers import plain_percent, plain_text, text
    from laptime.workload.media import open_image
    from laptime.workload.scoring.choice import chosen

    saved, _ = read_policy(policy)
    name = model_to_load(saved, model, policy, "--model")
    if image is None and saved.policy.needs.pixels:
        raise LaptimeError(f"--image is missing: {policy} chooses by the question's image too; name its file")
    asked = Question(question, None if image is None else open_image(image, "--image"), choices=choices)
    loaded = load_model(name, dtype=dtype.value, device=device, trust_remote_code=trust_remote_code)
    adaptive = AdaptiveModel.load(loaded, policy, fast=fast or None, online=online)
    adaptive.warm_up(asked)
    for _ in range(repeats):
        answer = adaptive.generate(asked, budget_ms=budget, max_new_tokens=new_tokens)
    decision = answer.sample.decision
    assert decision is not None
    unfit = "no-choice-fits" in answer.sample.flags
    at = chosen(answer.text, choices) if choices else None
    named = None if at is None else choices[at]
    if as_json:
        print_json(
            {
                "schema": "laptime.answer/1",
                "text": answer.text,
                "option": named,
                "spent_ms": answer.spent_ms,
                "sample": answer.sample,
            }
        )
    else:
        bound = "nothing is promised"
        if decision.bound_ms is not None:
            bound = f"bound {text(decision.bound_ms, 'ms')}"
            bound += "" if decision.confidence is None else f" with {plain_percent(round(decision.confidence, 2))}"
        knobs = saved.policy.space.choice(answer.choice)
        say(answer.text if named is None else f"{answer.text}  (option: {named})")
        say(
            f"{text(answer.spent_ms, 'ms')} of {plain_text(budget, 'ms')} ({bound}); {knobs}; "
            f"decided in {text(decision.deciding_ms, 'ms')}"
            + ("; no choice was known to fit: the fastest was taken" if unfit else ""),
            err=True,
        )
    return 1 if unfit or answer.spent_ms > budget else 0
