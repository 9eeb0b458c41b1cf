"""`laptime remedy MODEL`: what would make decoding faster, promised from a trace and then measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from laptime.errors import LaptimeError, require_torch


def remedy(
    model: Annotated[str, typer.Argument(help="A hub id, a local path, or preset:NAME (random weights, no download).")],
    prompt_tokens: Annotated[int, typer.Option(help="Text tokens of the prompt; image tokens come on top.")] = 64,
    new_tokens: Annotated[int, typer.Option(help="Tokens to generate: your usual output length.")] = 64,
    batch: Annotated[int, typer.Option(help="Rows per call.")] = 1,
    image_size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT of the image; for a model that takes one.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    only: Annotated[str | None, typer.Option(help="Only these, with commas: buffers,static,fusion,graph,...")] = None,
    rounds: Annotated[int, typer.Option(help="Calls of every remedy; six make an interval.")] = 6,
    out: Annotated[Path | None, typer.Option(help="Folder for remedy.json and remedy.html.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON (laptime.remedy/1) on stdout.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the page here.")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run the model's own code.")] = False,
    seed: Annotated[int, typer.Option(help="Of the inputs and the random weights.")] = 0,
) -> int:
    """What makes decoding faster? Each remedy promised from a trace, applied, measured beside the baseline.

    Example: laptime remedy preset:tiny-llm --new-tokens 32 --only buffers,fast --html remedy.html
    """
    require_torch()
    from laptime.models.loading import load_model
    from laptime.remedy.prove import prove
    from laptime.remedy.remedies import REMEDIES
    from laptime.workload.images import parse_size
    from laptime.workload.inputs import make_inputs

    names = tuple(part.strip() for part in only.split(",")) if only else ()
    known = [each.name for each in REMEDIES]
    if unknown := [name for name in names if name not in known]:
        raise LaptimeError(f"--only {', '.join(unknown)}: no such remedy; there are {', '.join(known)}")
    for path in (out, html):
        if path is not None and path.exists() and path.is_dir() is (path is html):
            raise LaptimeError(
                f"{path}: exists already and is {'a folder' if path.is_dir() else 'a file'}; name another"
            )
    loaded = load_model(model, dtype=dtype, device=device, trust_remote_code=trust_remote_code, seed=seed)
    size = parse_size(image_size) if image_size else ((672, 672) if loaded.is_vlm else None)
    made = make_inputs(
        loaded, prompt_tokens=prompt_tokens, image_size=size, batch=batch, new_tokens=new_tokens, seed=seed
    )
    report = prove(
        loaded.model,
        dict(made.kwargs),
        name=model,
        new_tokens=new_tokens,
        rounds=rounds,
        config={
            "prompt_tokens": made.prompt_tokens,
            "image_tokens": made.image_tokens,
            "dtype": str(loaded.dtype).removeprefix("torch."),
            "seed": seed,
        },
        only=names,
        progress=lambda what: print(what, file=sys.stderr, flush=True),  # noqa: T201
    )
    from laptime.data.run_folder import readable_json, write_atomically
    from laptime.report.remedy.page import remedy_page

    page = remedy_page(report).encode() if out is not None or html is not None else b""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "remedy.json", readable_json(report))
        write_atomically(out / "remedy.html", page)
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(html, page)
    if as_json:
        sys.stdout.write(readable_json(report).decode().rstrip() + "\n")
    else:
        from rich.console import Console

        from laptime.report.remedy.terminal import remedy_report

        Console().print(remedy_report(report))
    return 0
