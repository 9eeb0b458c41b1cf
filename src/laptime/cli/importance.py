"""`laptime importance MODEL`: which decoder blocks matter least, on the user's own questions."""

from __future__ import annotations

from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

from laptime.cli import options
from laptime.cli.declared import option
from laptime.cli.output import give
from laptime.data.files import check_new_file, write_new_file
from laptime.errors import LaptimeError, require_torch

SAMPLES, SCORE, WIDTH, TRIES, NEW_TOKENS = 16, "exact", 3, 8, 16
SEARCH = "Search"


class Search(str, Enum):
    """What a search chooses."""

    blocks = "blocks"
    experts = "experts"


def importance(
    model: options.ModelName,
    data: Annotated[
        Path | None,
        option(
            "--data",
            metavar="FILE",
            help="Questions to measure on; without it: random tokens, which say little.",
            rich_help_panel=options.INPUT,
        ),
    ] = None,
    samples: Annotated[
        int,
        option(
            "--samples",
            metavar="N",
            min=1,
            help="How many of the questions; --search takes all.",
            rich_help_panel=options.INPUT,
        ),
    ] = SAMPLES,
    out: Annotated[
        Path | None,
        option(
            "--out",
            metavar="FILE",
            help="Write the file that a sweep's `importance:` or `experts:` names.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    search: Annotated[
        Search | None,
        option(
            "--search",
            metavar="blocks|experts",
            help="Beam search by the answers that are then right: which blocks run, or experts in each block.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    score: Annotated[
        str | None,
        option(
            "--score",
            metavar="KIND",
            help="How answers are scored; likelihood: how probable the right one is, none is written.",
            show_default=SCORE,
            rich_help_panel=SEARCH,
        ),
    ] = None,
    totals: Annotated[
        str | None,
        option(
            "--totals",
            metavar="N,N,...",
            help="How many blocks run, or experts over all blocks: 28,26,24.",
            rich_help_panel=SEARCH,
        ),
    ] = None,
    width: Annotated[
        int | None,
        option(
            "--width",
            metavar="N",
            min=1,
            help="Settings kept at each step.",
            show_default=str(WIDTH),
            rich_help_panel=SEARCH,
        ),
    ] = None,
    tries: Annotated[
        int | None,
        option(
            "--tries",
            metavar="N",
            min=1,
            help="Settings asked the questions at each step.",
            show_default=str(TRIES),
            rich_help_panel=SEARCH,
        ),
    ] = None,
    new_tokens: Annotated[
        int | None,
        option(
            "--new-tokens",
            metavar="N",
            min=1,
            help="Tokens of an answer.",
            show_default=str(NEW_TOKENS),
            rich_help_panel=SEARCH,
        ),
    ] = None,
    dtype: options.DtypeOption = options.Dtype.auto,
    device: options.Device = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    seed: options.Seed = 0,
    force: options.Force = False,
    as_json: options.Json = False,
    html: options.Html = None,
) -> int:
    """Which decoder blocks matter least, and what does the model lose without them?

    A sweep measures the same by itself where blocks vary, on its own inputs.
    Here it is done once, and the file can be kept: importance: FILE.

    --search blocks chooses by measured accuracy, on half of scored questions.

    Example: laptime importance HuggingFaceTB/SmolLM2-135M-Instruct --data questions.jsonl --out importance.json

    Exit codes: 0 done, 2 usage or unreadable input.
    """  # fmt: skip
    check_new_file(out, "--out", force=force)
    check_new_file(html, "--html", force=force)
    of_search = {"score": score, "totals": totals, "width": width, "tries": tries, "new-tokens": new_tokens}
    given = [f"--{name}" for name, value in of_search.items() if value is not None]
    if search is None and given:
        raise LaptimeError(f"{', '.join(given)}: goes with --search blocks or --search experts")
    if search is not None and data is None:
        raise LaptimeError("--search needs questions with their answers: --data FILE")
    wanted = [] if totals is None else _totals(totals)
    require_torch()
    from laptime.control.search.result import check_searchable
    from laptime.workload.reading import read_examples

    many = None if search is not None and samples == SAMPLES else samples
    examples = None if data is None else read_examples(data, samples=many, seed=seed)
    scored = score or SCORE
    if search is not None and examples is not None:
        check_searchable(scored, examples)
    from laptime.cli.progress import progress
    from laptime.control.search.beam import Beam
    from laptime.control.search.scored_set import SetSettings
    from laptime.control.search.search import search_knob
    from laptime.models.block_importance import block_importance, importance_text
    from laptime.models.loading import load_model
    from laptime.workload.datasets import inputs_from_example
    from laptime.workload.inputs import make_inputs

    loaded = load_model(model, dtype=dtype.value, device=device, trust_remote_code=trust_remote_code, seed=seed)
    if search is not None and examples is not None:
        with progress() as report:
            searched = search_knob(
                loaded,
                examples,
                SetSettings(kind=scored, new_tokens=new_tokens or NEW_TOKENS),
                search.value,
                wanted,
                Beam(width=width or WIDTH, tries=tries or TRIES),
                lambda done, of: report("steps", done, of),
            )
        if out is not None:
            text = importance_text(
                searched.importance, model=loaded.name, active=searched.active, experts=searched.experts
            )
            write_new_file(out, text.encode(), "--out", force=force)
        give(searched, as_json=as_json, html=html, force=force)
        return 0
    if examples is None:
        inputs = [make_inputs(loaded, prompt_tokens=64, seed=seed + number) for number in range(min(samples, 8))]
    else:
        inputs = [inputs_from_example(loaded, example) for example in examples]
    if not inputs:
        raise LaptimeError(f"{data}: holds no question; importance needs at least one")
    with progress() as report:
        tell = partial(report, "forwards")
        result = block_importance(loaded.model, [one.kwargs for one in inputs], (), loaded.name, tell)
    if out is not None:
        write_new_file(out, importance_text(result.importance, model=loaded.name).encode(), "--out", force=force)
    give(result, as_json=as_json, html=html, force=force)
    return 0


def _totals(words: str) -> list[int]:
    """The numbers of --totals. Raises LaptimeError for what is no whole number above 0."""
    written = [
        int(word) if word.isascii() and word.isdecimal() and len(word) < 10 else 0 for word in options.names(words)
    ]
    if not written or min(written) < 1:
        raise LaptimeError(f"--totals {words}: write whole numbers above 0, as 28,26,24")
    return written
