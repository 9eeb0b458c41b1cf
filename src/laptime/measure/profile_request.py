"""What a profile is asked for, and what can be refused of it before a model is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from laptime.errors import LaptimeError
from laptime.measure.session import MeasuringPlan
from laptime.models.quantized import need_package
from laptime.workload.generation import check_generate

Method = Literal["direct", "subtract", "both"]

CACHES = ("dynamic", "static", "offloaded", "offloaded_static", "quantized")
"""transformers' KV caches (`cache_implementation`)."""

MAX_AUDIO_S = 3600


class ProfileRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to profile: a model, a workload, the knobs and how to measure."""

    model: str
    samples: int = 20
    prompt_tokens: int = 64
    new_tokens: int = 32
    image_size: tuple[int, int] | None = None  # width, height; None: the default of the kind of model
    batch: int = 1
    image_tokens: int | None = None  # at most so many of an image; None: as the checkpoint's processor makes them
    audio_s: float | None = None  # seconds of sound; None: the default of the kind of model
    data: Path | None = None  # JSONL of {image, question} instead of a synthetic workload
    generate: Mapping[str, Any] = {}  # further arguments of generate(): sampling, beams
    assistant: str | None = None  # a smaller model that drafts: a folder, a hub id or a preset
    adapter: str | None = None  # a PEFT adapter's folder or hub id
    quantize: str | None = None  # laptime.models.quantized.QUANTIZATIONS
    device_map: str | None = None
    percentiles: tuple[float, ...] = ()  # of all times, shown beside the medians
    dtype: str = "auto"
    device: str = "auto"
    attention: str | None = None
    cache: str | None = None  # transformers' cache_implementation; None is its dynamic cache
    compile: bool = True  # let transformers compile the decode step where the cache allows it
    prefill_chunk: int | None = None
    tf32: bool = False
    trust_remote_code: bool = False
    vision_module: str | Sequence[str] | None = None  # several towers are a list
    projector_module: str | Sequence[str] | None = None
    language_module: str | None = None
    seed: int = 0
    per_token: bool = False
    verify: bool = False
    method: Method = "direct"
    plan: MeasuringPlan = MeasuringPlan()

    @property
    def assisted(self) -> bool:
        """Whether a draft model or prompt lookup was asked for by name; a checkpoint's own is refused."""
        return self.assistant is not None or self.generate.get("prompt_lookup_num_tokens") is not None


def check(request: ProfileRequest) -> None:
    """Raise LaptimeError for what can be refused before a model is loaded."""
    _check_types(request)
    _check_types(request.plan)
    for name, value in (
        ("`samples`", request.samples),
        ("`prompt_tokens`", request.prompt_tokens),
        ("`new_tokens`", request.new_tokens),
        ("`batch`", request.batch),
        ("`repeats`", request.plan.max_repeats),
    ):
        if value < 1:
            raise LaptimeError(f"{name} {value}: must be at least 1")
    if request.prefill_chunk is not None and request.prefill_chunk < 1:
        raise LaptimeError(f"`prefill_chunk` {request.prefill_chunk}: must be at least 1")
    if request.plan.max_warmups < 0:
        raise LaptimeError(f"`max_warmups` {request.plan.max_warmups}: can't be negative")
    if not request.plan.time_limit_s > 0:
        raise LaptimeError(f"`time_limit` {request.plan.time_limit_s:g}: write a number of seconds above 0")
    if request.audio_s is not None and not 0 < request.audio_s <= MAX_AUDIO_S:
        raise LaptimeError(
            f"`audio_seconds` {request.audio_s:g}: write a number of seconds above 0, at most {MAX_AUDIO_S}"
        )
    if request.seed < 0:
        raise LaptimeError(f"`seed` {request.seed}: can't be negative")
    for percentile in request.percentiles:
        if not 0 < percentile < 100:
            raise LaptimeError(f"`percentiles` {percentile:g}: write numbers between 0 and 100, as 50,90,99")
    check_cache(request.cache)
    check_generate(request.generate)
    if request.verify and request.generate.get("do_sample"):
        raise LaptimeError("`verify` compares greedy tokens; leave out do_sample=true, or `verify`")
    if request.generate and request.method != "direct":
        raise LaptimeError(f"`method` {request.method} times greedy calls; leave out `generate`")
    _check_assisted(request)
    if not 0 < request.plan.precision < 1:
        raise LaptimeError(f"`precision` {request.plan.precision}: write a share between 0 and 1, such as 0.01")
    if request.plan.autocast not in (None, "bfloat16", "float16"):
        raise LaptimeError(f"`autocast` {request.plan.autocast}: bfloat16 or float16")
    if request.data is not None and not request.data.is_file():
        raise LaptimeError(f"{request.data}: no such file; `data` takes JSON lines of {{image, question}}")


def _check_assisted(request: ProfileRequest) -> None:
    """Raise LaptimeError for what transformers drafts for in no way."""
    if not request.assisted:
        return
    how = "prompt_lookup_num_tokens" if request.assistant is None else "`assistant`"
    if request.assistant is not None and request.generate.get("prompt_lookup_num_tokens") is not None:
        raise LaptimeError("`assistant` and prompt_lookup_num_tokens both draft; leave one of them out")
    if request.batch > 1:
        raise LaptimeError(f"`batch` {request.batch}: {how} drafts for one row a call; leave `batch` out")
    if (request.generate.get("num_beams") or 1) > 1:
        raise LaptimeError(f"num_beams: {how} drafts for greedy search and sampling; leave num_beams out")
    if (request.cache or "").endswith("static"):
        raise LaptimeError(f"`cache` {request.cache}: {how} takes rejected tokens back, and a static cache can't")
    if request.method != "direct":
        raise LaptimeError(f"`method` {request.method} times greedy calls; leave out {how}")


def _check_types(part: ProfileRequest | MeasuringPlan) -> None:
    """Raise LaptimeError for a value of another kind, which only a call from Python can bring."""
    try:
        msgspec.convert(msgspec.structs.asdict(part), type(part))
    except msgspec.ValidationError as error:
        wrong, _, path = str(error).partition(" - at `$.")
        name = re.split(r"[^a-z0-9_]", path)[0]
        value = str(getattr(part, name, ""))[:80]
        raise LaptimeError(f"{name} {value!r}: {wrong[:1].lower()}{wrong[1:]}") from None


def check_cache(cache: str | None) -> None:
    """Raise LaptimeError for a cache that transformers doesn't have, or one whose package is missing."""
    if cache is not None and cache not in CACHES:
        raise LaptimeError(f"`cache` {cache}: unknown; use one of {', '.join(CACHES)}")
    if cache == "quantized":
        need_package("optimum-quanto", "`cache` quantized")
