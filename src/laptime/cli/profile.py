"""`laptime profile MODEL`: where does generate() spend its time?"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from laptime.cli.declared import option
from laptime.cli.options import (
    INPUT,
    MEASURING,
    MODEL,
    OUTPUT,
    Device,
    Dtype,
    DtypeOption,
    ForcePage,
    Html,
    Json,
    ModelName,
    TrustRemoteCode,
    numbers,
)
from laptime.cli.output import give
from laptime.cli.progress import progress
from laptime.data.files import check_new_file
from laptime.errors import require_torch

if TYPE_CHECKING:
    from laptime.data.record import Environment, Sample


class Method(str, Enum):
    """How stages are measured."""

    direct = "direct"
    subtract = "subtract"
    both = "both"


class CachePolicy(str, Enum):
    """What happens to the allocator's cache before every sample."""

    keep = "keep"
    empty = "empty"


class Attention(str, Enum):
    """transformers' attention implementations."""

    eager = "eager"
    sdpa = "sdpa"
    flash_attention_2 = "flash_attention_2"
    flash_attention_3 = "flash_attention_3"
    flex_attention = "flex_attention"


class Cache(str, Enum):
    """transformers' KV caches (`cache_implementation`)."""

    dynamic = "dynamic"
    static = "static"
    offloaded = "offloaded"
    offloaded_static = "offloaded_static"
    quantized = "quantized"


class Autocast(str, Enum):
    """Precisions of torch.autocast."""

    bfloat16 = "bfloat16"
    float16 = "float16"


def profile(
    model: ModelName,
    dtype: DtypeOption = Dtype.auto,
    device: Device = "auto",
    attention: Annotated[
        Attention | None,
        option(
            "--attention", metavar="NAME", help=f"{', '.join(one.value for one in Attention)}.", rich_help_panel=MODEL
        ),
    ] = None,
    cache: Annotated[
        Cache,
        option("--cache", metavar="NAME", help=f"{', '.join(one.value for one in Cache)}.", rich_help_panel=MODEL),
    ] = Cache.dynamic,
    compile_: Annotated[
        bool,
        option("--compile/--no-compile", help="Let a static cache compile decode.", rich_help_panel=MODEL),
    ] = True,
    prefill_chunk: Annotated[
        int | None,
        option("--prefill-chunk", metavar="N", help="Prefill in chunks of N tokens.", rich_help_panel=MODEL),
    ] = None,
    autocast: Annotated[
        Autocast | None,
        option("--autocast", metavar="DTYPE", help="Run under autocast: bfloat16 or float16.", rich_help_panel=MODEL),
    ] = None,
    tf32: Annotated[bool, option("--tf32", help="TF32 in float32 matrix products.", rich_help_panel=MODEL)] = False,
    vision_module: Annotated[
        list[str] | None,
        option(
            "--vision-module", metavar="PATH", help="Where a vision tower is. Once for each.", rich_help_panel=MODEL
        ),
    ] = None,
    projector_module: Annotated[
        list[str] | None,
        option(
            "--projector-module", metavar="PATH", help="Where a projector is. Once for each.", rich_help_panel=MODEL
        ),
    ] = None,
    language_module: Annotated[
        str | None,
        option("--language-module", metavar="PATH", help="Where the language model is.", rich_help_panel=MODEL),
    ] = None,
    adapter: Annotated[
        str | None,
        option("--adapter", metavar="NAME", help="A PEFT adapter: a folder or a hub id.", rich_help_panel=MODEL),
    ] = None,
    quantize: Annotated[
        str | None,
        option(
            "--quantize",
            metavar="NAME",
            help="bnb-8bit, bnb-4bit, quanto-int8, quanto-int4, torchao-int8, hqq-4bit, fp8.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    device_map: Annotated[
        str | None,
        option("--device-map", metavar="MAP", help="As transformers takes it: auto, cuda:0.", rich_help_panel=MODEL),
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    samples: Annotated[int, option("--samples", metavar="N", help="Different inputs.", rich_help_panel=INPUT)] = 20,
    prompt_tokens: Annotated[
        int,
        option(
            "--prompt-tokens", metavar="N", help="Text tokens of a prompt, besides image tokens.", rich_help_panel=INPUT
        ),
    ] = 64,
    new_tokens: Annotated[
        int, option("--new-tokens", metavar="N", help="Tokens to generate.", rich_help_panel=INPUT)
    ] = 32,
    image_size: Annotated[
        str | None,
        option("--image-size", metavar="WIDTHxHEIGHT", help="Size of the image.", rich_help_panel=INPUT),
    ] = None,
    image_tokens: Annotated[
        int | None,
        option("--image-tokens", metavar="N", help="At most N tokens of an image.", rich_help_panel=INPUT),
    ] = None,
    audio_seconds: Annotated[
        float | None,
        option("--audio-seconds", metavar="S", help="Length of the sound.", rich_help_panel=INPUT),
    ] = None,
    generate: Annotated[
        list[str] | None,
        option(
            "--generate",
            metavar="KEY=VALUE",
            help="A further setting of generate(): num_beams=4. Once for each.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    assistant: Annotated[
        str | None,
        option(
            "--assistant", metavar="MODEL", help="A smaller model drafts: assisted decoding.", rich_help_panel=INPUT
        ),
    ] = None,
    batch: Annotated[int, option("--batch", metavar="N", help="Rows per call.", rich_help_panel=INPUT)] = 1,
    data: Annotated[
        Path | None,
        option(
            "--data",
            metavar="FILE",
            help="JSON lines of {image, question}, or images, video, audio; EOS then ends a row.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    seed: Annotated[
        int, option("--seed", metavar="N", help="Seed of inputs and random weights.", rich_help_panel=INPUT, min=0)
    ] = 0,
    repeats: Annotated[
        int, option("--repeats", metavar="N", help="At most N passes over the inputs.", rich_help_panel=MEASURING)
    ] = 5,
    precision: Annotated[
        float,
        option(
            "--precision",
            metavar="SHARE",
            help="Stop when the median's interval is this narrow (relative half-width).",
            rich_help_panel=MEASURING,
        ),
    ] = 0.01,
    time_limit: Annotated[
        float, option("--time-limit", metavar="SECONDS", help="Stop after this time.", rich_help_panel=MEASURING)
    ] = 600.0,
    max_warmups: Annotated[
        int, option("--max-warmups", metavar="N", help="At most N warm-up calls.", rich_help_panel=MEASURING)
    ] = 10,
    cache_policy: Annotated[
        CachePolicy,
        option("--cache-policy", help="The allocator's cache before each sample.", rich_help_panel=MEASURING),
    ] = CachePolicy.keep,
    per_token: Annotated[
        bool, option("--per-token", help="Mark every step too: ITL.", rich_help_panel=MEASURING)
    ] = False,
    percentiles: Annotated[
        str | None,
        option(
            "--percentiles", metavar="N,N,...", help="Show these of all times: 50,90,99.", rich_help_panel=MEASURING
        ),
    ] = None,
    method: Annotated[
        Method,
        option("--method", help="subtract or both: show the error of subtraction.", rich_help_panel=MEASURING),
    ] = Method.direct,
    verify: Annotated[
        bool,
        option("--verify", help="Compare the tokens with those without the timer.", rich_help_panel=MEASURING),
    ] = False,
    out: Annotated[
        Path | None,
        option(
            "--out",
            metavar="FOLDER",
            help="The run folder to write \\[default: runs/MODEL-TIME].",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    html: Html = None,
    force: ForcePage = False,
    as_json: Json = False,
) -> int:
    """Where does generate() spend its time? Vision, prefill, decode, other, on one clock.

    The page is written to --html, else to report.html in the run folder.

    Example: laptime profile preset:tiny-vlm --samples 20 --image-size 672x672 --per-token --out runs/demo

    Exit codes: 0 measured, 1 --verify found different tokens, 2 wrong usage or something that can't be measured.
    """  # fmt: skip
    require_torch()
    check_new_file(html, "--html", force=force)
    from laptime.measure.profile import ProfileRequest
    from laptime.measure.profile import profile as measured
    from laptime.measure.session import MeasuringPlan
    from laptime.workload.generation import read_generate
    from laptime.workload.images import parse_size

    request = ProfileRequest(
        model=model,
        samples=samples,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        image_size=None if image_size is None else parse_size(image_size),
        batch=batch,
        data=data,
        dtype=dtype.value,
        device=device,
        attention=None if attention is None else attention.value,
        cache=None if cache is Cache.dynamic else cache.value,
        compile=compile_,
        prefill_chunk=prefill_chunk,
        tf32=tf32,
        trust_remote_code=trust_remote_code,
        vision_module=vision_module or None,
        projector_module=projector_module or None,
        language_module=language_module,
        seed=seed,
        per_token=per_token,
        verify=verify,
        method=method.value,
        image_tokens=image_tokens,
        audio_s=audio_seconds,
        generate=read_generate(generate or []),
        assistant=assistant,
        adapter=adapter,
        quantize=quantize,
        device_map=device_map,
        percentiles=() if percentiles is None else tuple(numbers("--percentiles", percentiles)),
        plan=MeasuringPlan(
            max_warmups=max_warmups,
            max_repeats=repeats,
            precision=precision,
            time_limit_s=time_limit,
            cache_policy=cache_policy.value,
            autocast=None if autocast is None else autocast.value,
        ),
    )
    folder = out if out is not None else _new_folder(model)
    with progress() as report:
        run = measured(request, folder, report, _hint_once())
    give(run, as_json=as_json, html=html or folder / "report.html", force=force)
    return 1 if any(end.tokens == "different" for end in run.sessions) else 0


def _hint_once() -> Callable[[Environment, Sample], None]:
    """Says on stderr, after the first warm-up call that shows it, that torch's threads may wait for one another."""
    from laptime.report.profile.words import early_threads_hint

    said = False

    def watch(environment: Environment, sample: Sample) -> None:
        nonlocal said
        if not said and (hint := early_threads_hint(environment, sample)):
            said = True
            print(hint, file=sys.stderr, flush=True)  # noqa: T201

    return watch


def _new_folder(model: str) -> Path:
    """runs/MODEL-TIME."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", model.removeprefix("preset:")).strip("-.")[-48:].lstrip("-.") or "run"
    return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
