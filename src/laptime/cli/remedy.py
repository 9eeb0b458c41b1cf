"""`laptime remedy MODEL`: what would make decoding faster, promised from a trace and then measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from laptime.cli import options
from laptime.cli.declared import option
from laptime.cli.output import give
from laptime.data.files import check_new_file, check_new_folder, whole_folder, write_whole
from laptime.errors import require_torch
from laptime.remedy.result import NAMES, RemedyReport

MARKS = ("remedy.json",)
"""What a folder of this verb holds: only such a folder is replaced by --force."""


def remedy(
    model: options.ModelName,
    dtype: options.DtypeOption = options.Dtype.auto,
    device: options.Device = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    prompt_tokens: Annotated[
        int,
        option(
            "--prompt-tokens",
            metavar="N",
            min=1,
            help="Text tokens of the prompt; image tokens come on top.",
            rich_help_panel=options.INPUT,
        ),
    ] = 64,
    new_tokens: Annotated[
        int,
        option(
            "--new-tokens",
            metavar="N",
            help="Tokens to generate, at least 8: your usual output.",
            rich_help_panel=options.INPUT,
        ),
    ] = 64,
    batch: Annotated[
        int, option("--batch", metavar="N", min=1, help="Rows per call.", rich_help_panel=options.INPUT)
    ] = 1,
    image_size: Annotated[
        str | None,
        option(
            "--image-size",
            metavar="WIDTHxHEIGHT",
            help="Image size, for a model that takes images.",
            rich_help_panel=options.INPUT,
        ),
    ] = None,
    seed: options.Seed = 0,
    only: Annotated[
        str | None,
        option(
            "--only",
            metavar="NAME,...",
            help=f"Try these remedies only: {', '.join(NAMES[1:])}.",
            rich_help_panel=options.MEASURING,
        ),
    ] = None,
    rounds: Annotated[
        int,
        option(
            "--rounds",
            metavar="N",
            help="Calls of every remedy; six make a 95 % interval.",
            rich_help_panel=options.MEASURING,
        ),
    ] = 6,
    out: Annotated[
        Path | None,
        option(
            "--out", metavar="FOLDER", help="Write remedy.json and remedy.html there.", rich_help_panel=options.OUTPUT
        ),
    ] = None,
    html: options.Html = None,
    force: options.Force = False,
    as_json: options.Json = False,
) -> int:
    """Find what makes decoding faster: each remedy is promised from a trace, applied, and measured.

    Traces of kernels need a CUDA GPU. Without one, remedies are applied and measured, and nothing is promised.

    Example: laptime remedy preset:tiny-llm --new-tokens 32 --only buffers,fast --html remedy.html

    Exit codes: 0 measured, 2 the model or an option can't be used.
    """
    check_new_file(html, "--html", force=force)
    if out is not None:
        check_new_folder(out, MARKS, force=force)
    require_torch()
    from laptime.remedy.prove import RemedyInput, RemedyOptions, prove_by_name
    from laptime.workload.images import parse_size

    report = prove_by_name(
        model,
        RemedyInput(
            prompt_tokens=prompt_tokens,
            batch=batch,
            image_size=parse_size(image_size) if image_size else None,
            seed=seed,
        ),
        RemedyOptions(new_tokens=new_tokens, rounds=rounds, only=tuple(options.names(only or ""))),
        loading={"dtype": dtype.value, "device": device, "trust_remote_code": trust_remote_code},
        progress=lambda what: print(what, file=sys.stderr, flush=True),  # noqa: T201
    )
    if out is not None:
        _write_folder(report, out, force=force)
    give(report, as_json=as_json, html=html, force=force)
    return 0


def _write_folder(report: RemedyReport, out: Path, *, force: bool) -> None:
    from laptime.data.json_text import readable_json
    from laptime.report.results import page

    with whole_folder(out, MARKS, force=force) as folder:
        write_whole(folder / "remedy.json", readable_json(report))
        write_whole(folder / "remedy.html", page(report).encode())
