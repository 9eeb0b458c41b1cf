"""`laptime profile MODEL`: where does generate() spend its time?"""

from __future__ import annotations

import re
import sys
import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laptime.errors import LaptimeError, require_torch

if TYPE_CHECKING:
    from laptime.data.run_folder import Run


class Method(str, Enum):
    """How stages are taken: laptime's way, the seeds' way, or both side by side."""

    direct = "direct"
    subtract = "subtract"
    both = "both"


class CachePolicy(str, Enum):
    """What happens to the allocator's cache before every sample."""

    keep = "keep"
    empty = "empty"


class Export(str, Enum):
    """Other tools' formats."""

    perfetto = "perfetto"


def profile(
    model: Annotated[str, typer.Argument(help="A hub id, a local path, or preset:NAME (random weights, no download).")],
    samples: Annotated[int, typer.Option(help="Different inputs.")] = 20,
    prompt_tokens: Annotated[int, typer.Option(help="Text tokens of a prompt; image tokens come on top.")] = 64,
    new_tokens: Annotated[int, typer.Option(help="Tokens to generate.")] = 32,
    image_size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT of the image.")] = None,
    batch: Annotated[int, typer.Option(help="Rows per call.")] = 1,
    data: Annotated[Path | None, typer.Option(help="JSON lines of {image, question}; EOS then ends a row.")] = None,
    per_token: Annotated[bool, typer.Option("--per-token", help="Also mark every step: ITL.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")] = False,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    attention: Annotated[str | None, typer.Option(help="sdpa, eager, flash_attention_2, ...")] = None,
    cache: Annotated[str | None, typer.Option(help="transformers' cache_implementation, e.g. static.")] = None,
    compile_: Annotated[bool, typer.Option("--compile/--no-compile", help="Let a static cache compile decode.")] = True,
    prefill_chunk: Annotated[int | None, typer.Option(help="Prefill in chunks of so many tokens.")] = None,
    autocast: Annotated[str | None, typer.Option(help="bfloat16 or float16.")] = None,
    tf32: Annotated[bool, typer.Option("--tf32", help="TF32 in float32 matrix products.")] = False,
    cache_policy: Annotated[
        CachePolicy, typer.Option(help="The allocator's cache before a sample.")
    ] = CachePolicy.keep,
    repeats: Annotated[int, typer.Option(help="At most so many passes over the inputs.")] = 5,
    precision: Annotated[float, typer.Option(help="Stop at this relative half-width of the median's interval.")] = 0.01,
    time_limit: Annotated[float, typer.Option(help="Stop after so many seconds of measuring.")] = 600.0,
    max_warmups: Annotated[int, typer.Option(help="Give up waiting for steadiness after so many calls.")] = 10,
    method: Annotated[Method, typer.Option(help="subtract: the seeds' way, to see its error.")] = Method.direct,
    verify: Annotated[bool, typer.Option("--verify", help="Check that tokens are the same without the timer.")] = False,
    vision_module: Annotated[str | None, typer.Option(help="Path of the vision tower in the model.")] = None,
    projector_module: Annotated[str | None, typer.Option(help="Path of the projector.")] = None,
    language_module: Annotated[str | None, typer.Option(help="Path of the language model.")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run the model's own code.")] = False,
    export: Annotated[Export | None, typer.Option(help="Also write the timeline for this tool.")] = None,
    seed: Annotated[int, typer.Option(help="Of the inputs and the random weights.")] = 0,
) -> int:
    """Where does generate() spend its time? Vision, prefill, decode, other: one call, one clock, the sum closed.

    Example: laptime profile preset:tiny-vlm --samples 20 --prompt-tokens 64 --new-tokens 32 --image-size 672x672
    --per-token --out runs/demo
    """
    folder = out if out is not None else Path("runs") / _default_name(model)
    if autocast not in (None, "bfloat16", "float16"):
        raise LaptimeError(f"--autocast {autocast}: bfloat16 or float16")
    if not 0 < precision < 1:
        raise LaptimeError(f"--precision {precision}: a share between 0 and 1, e.g. 0.01")

    require_torch()
    from laptime.data.run_folder import RunFolder, check_free, load_run, new_info
    from laptime.measure.profile import ProfileRequest, prepare, run
    from laptime.measure.session import MeasuringPlan
    from laptime.workload.images import parse_size

    check_free(folder)
    request = ProfileRequest(
        model=model,
        samples=samples,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        image_size=None if image_size is None else parse_size(image_size),
        batch=batch,
        data=data,
        dtype=dtype,
        device=device,
        attention=attention,
        cache=cache,
        compile=compile_,
        prefill_chunk=prefill_chunk,
        tf32=tf32,
        trust_remote_code=trust_remote_code,
        vision_module=vision_module,
        projector_module=projector_module,
        language_module=language_module,
        seed=seed,
        per_token=per_token,
        verify=verify,
        method=method.value,
        plan=MeasuringPlan(
            max_warmups=max_warmups,
            max_repeats=repeats,
            min_repeats=1,
            precision=precision,
            time_limit_s=time_limit,
            cache_policy=cache_policy.value,
            autocast=autocast,
        ),
    )
    prepared = prepare(request)
    info = new_info(
        sys.argv,
        prepared.config,
        prepared.environment,
        {"method": method.value, "per_token": per_token, "precision": precision, "max_repeats": repeats},
    )
    from laptime.cli.progress import progress

    with RunFolder(folder, info) as run_folder:
        with progress() as report:
            end = run(prepared, request, run_folder.append, report)
        run_folder.append(end)
        run_folder.write_summary()
    return _show(load_run(folder), as_json=as_json, export=export)


def _show(run: Run, *, as_json: bool, export: Export | None) -> int:
    from laptime.data.run_folder import profile_json, write_atomically
    from laptime.report.profile.page import profile_page

    folder = Path(run.path)
    write_atomically(folder / "report.html", profile_page(run).encode())
    if export is Export.perfetto:
        from laptime.report.profile.perfetto import profile_to_perfetto

        write_atomically(folder / "perfetto.json", profile_to_perfetto(run))
    if as_json:
        sys.stdout.write(profile_json(run).decode() + "\n")
    else:
        from rich.console import Console

        from laptime.report.profile.terminal import profile_report

        Console().print(profile_report(run))
        typer.echo(f"page: {folder / 'report.html'}")
    return 1 if any(end.tokens == "different" for end in run.sessions) else 0


def _default_name(model: str) -> str:
    name = re.sub(r"[^A-Za-z0-9.]+", "-", model.removeprefix("preset:")).strip("-")[-48:] or "run"
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
