"""`laptime importance MODEL`: which decoder blocks matter least, on the user's own questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laptime.cli import options
from laptime.cli.output import give
from laptime.data.files import check_new_file, write_new_file
from laptime.errors import LaptimeError, require_torch


def importance(
    model: options.ModelName,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="Questions to measure on; without it: random tokens, which say little.",
            rich_help_panel=options.INPUT,
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option("--samples", metavar="N", min=1, help="How many of the questions.", rich_help_panel=options.INPUT),
    ] = 16,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write the file that a sweep's `importance:` names.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    dtype: options.DtypeOption = options.Dtype.auto,
    device: options.Device = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    seed: options.Seed = 0,
    force: options.Force = False,
    as_json: options.Json = False,
) -> int:
    """Which decoder blocks matter least, and what does the model lose without them?

    A sweep measures the same by itself where blocks vary, on its own inputs.
    Here it is done once, and the file can be kept: importance: FILE.

    Example: laptime importance HuggingFaceTB/SmolLM2-135M-Instruct --data questions.jsonl --out importance.json

    Exit codes: 0 done, 2 usage or unreadable input.
    """  # fmt: skip
    check_new_file(out, "--out", force=force)
    require_torch()
    from laptime.models.block_importance import block_importance, importance_text
    from laptime.models.loading import load_model
    from laptime.workload.datasets import inputs_from_example
    from laptime.workload.inputs import make_inputs
    from laptime.workload.reading import read_examples

    examples = None if data is None else read_examples(data, samples=samples, seed=seed)
    loaded = load_model(model, dtype=dtype.value, device=device, trust_remote_code=trust_remote_code, seed=seed)
    if examples is None:
        inputs = [make_inputs(loaded, prompt_tokens=64, seed=seed + number) for number in range(min(samples, 8))]
    else:
        inputs = [inputs_from_example(loaded, example) for example in examples]
    if not inputs:
        raise LaptimeError(f"{data}: holds no question; importance needs at least one")
    result = block_importance(loaded.model, [one.kwargs for one in inputs], (), loaded.name)
    if out is not None:
        write_new_file(out, importance_text(result.importance, model=loaded.name).encode(), "--out", force=force)
    give(result, as_json=as_json)
    return 0
