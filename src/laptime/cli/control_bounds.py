"""`laptime control bounds POLICY`: what each choice takes on FastModel, and the policy written with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from laptime.cli import options
from laptime.cli.control_features import SomeQuestions
from laptime.cli.declared import argument, option
from laptime.cli.output import print_json, say
from laptime.data.files import check_new_folder, whole_folder
from laptime.errors import require_torch

SCHEMA = "laptime.bounds/1"


def bounds(
    policy: Annotated[Path, argument(metavar="POLICY", help="What laptime control train wrote.")],
    data: Annotated[
        Path,
        option(
            "--data",
            metavar="FILE",
            help="Questions that the policy didn't learn from; 19 or more for a promise of 95 %.",
            rich_help_panel=options.INPUT,
        ),
    ],
    out: options.OutFolder,
    force: options.Force = False,
    samples: SomeQuestions = None,
    model: options.PolicyModel = None,
    dtype: options.DtypeOption = options.Dtype.auto,
    device: options.Device = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> int:
    """Measure what each choice takes on FastModel, and write the policy with these bounds.

    `control run` answers on FastModel with such a policy. It has no leeway: that was proven with the bounds before.

    Example: laptime control bounds policy --data more/questions.jsonl --out policy-fast

    Exit codes: 0 done, 2 usage or unreadable input.
    """
    require_torch()
    import msgspec
    import numpy as np

    from laptime.control.adaptive_model import AdaptiveModel
    from laptime.control.bounds.measured_bounds import check_enough
    from laptime.control.policies.saved_policy import MARKS, model_to_load, read_policy, write_policy
    from laptime.control.tables.features import language_features
    from laptime.models.loading import load_model
    from laptime.report.kit.numbers import count, text
    from laptime.workload.reading import read_examples

    check_new_folder(out, MARKS, force=force)
    saved, known = read_policy(policy)
    name = model_to_load(saved, model, policy, "--model")
    examples = read_examples(data, samples=samples, seed=seed)
    check_enough(len(examples), known.confidence)
    loaded = load_model(name, dtype=dtype.value, device=device, trust_remote_code=trust_remote_code)
    adaptive = AdaptiveModel.load(loaded, policy, fast=True)
    try:
        choices = len(adaptive.space)
        say(f"{count(len(examples) * choices)} calls, and what captures and warms up before", err=True)
        adaptive.warm_up(examples[0])
        adaptive.learn_bounds(examples)
        learnt = adaptive.bounds
    finally:
        adaptive.close()
    with whole_folder(out, MARKS, force=force) as folder:
        write_policy(msgspec.structs.replace(saved, leeway=None), learnt, folder)
    bound, _ = learnt.for_questions(np.stack([language_features(example.prompt) for example in examples]))
    usual = np.median(bound, axis=0)
    if as_json:
        print_json({
            "schema": SCHEMA, "folder": str(out), "questions": len(examples), "confidence": learnt.confidence,
            "bound_ms": {str(learnt.space.choice(number)): float(usual[number]) for number in range(choices)},
        })  # fmt: skip
        return 0
    least, most = int(usual.argmin()), int(usual.argmax())
    say(
        f"{out}: bounds of {choices} choices on FastModel, of {len(examples)} questions: "
        f"{text(float(usual[least]), 'ms')} ({learnt.space.choice(least)}) to {text(float(usual[most]), 'ms')} "
        f"({learnt.space.choice(most)}) in the median question"
    )
    return 0
