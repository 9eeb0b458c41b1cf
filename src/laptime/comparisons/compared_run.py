"""A run as a comparison needs it: its description, and its samples as columns.

A folder's lines are read into columns block by block: a fraction of the time and memory of
laptime.data.run_folder.load_run. Marks, token ids, texts and gaps between tokens are not read at all.
"""

from __future__ import annotations

import gc
from array import array
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from laptime.comparisons.calls import DECODE_PER_TOKEN, SHAPE, TIMES, Calls, Names, calls_of, numbers, places_of_keys
from laptime.data.frame import read_blocks
from laptime.data.outside import DAMAGE
from laptime.data.record import Flag, Sample, Scalar, StageTimes, UnixMs, Whole
from laptime.data.run_folder import FILES, Run, RunInfo, load_run, read_info
from laptime.data.stats import Floats
from laptime.data.usable import REPEATED_KEY
from laptime.errors import LaptimeError


@dataclass(frozen=True)
class ComparedRun:
    """What a comparison reads of a run."""

    path: str
    info: RunInfo
    calls: Calls


def compared_run(run: Run | ComparedRun) -> ComparedRun:
    """The same of a run that is in memory."""
    return run if isinstance(run, ComparedRun) else ComparedRun(run.path, run.info, calls_of(run.samples))


def load_compared(path: str | Path) -> ComparedRun:
    """A run folder. Raises LaptimeError as load_run does."""
    folder = Path(path)
    info = read_info(folder)
    was_on = gc.isenabled()
    gc.disable()  # millions of samples that are in no cycle
    try:
        calls = _calls(folder)
    finally:
        if was_on:
            gc.enable()
    return ComparedRun(str(folder), info, with_repeated_keys_flagged(calls))


def with_repeated_keys_flagged(calls: Calls) -> Calls:
    """The samples with a flag on each whose key an earlier one has, so that every key counts once."""
    keys = places_of_keys(calls.config_id, calls.sample_id, calls.repeat)
    first = np.zeros(len(keys), dtype=np.bool_)
    first[np.unique(keys, return_index=True)[1]] = True
    if first.all():
        return calls
    texts = Names[str]()
    texts.places(calls.flag_texts)
    more = [text if REPEATED_KEY in text else ",".join(filter(None, (text, REPEATED_KEY))) for text in calls.flag_texts]
    return replace(calls, flags=np.where(first, calls.flags, texts.places(more)[calls.flags]), flag_texts=texts.known())


class _Line(msgspec.Struct, gc=False):
    """The fields of a sample's line that a comparison reads. Its configuration stays as it is written."""

    config_id: str
    sample_id: str
    repeat: Whole
    config: msgspec.Raw
    stages: StageTimes
    output_tokens: Whole | None = None
    prompt_tokens: Whole | None = None
    image_tokens: Whole | None = None
    batch: Whole = 1
    started_unix_ms: UnixMs = 0.0
    flags: list[Flag] = []


_NUMBERS = ("started_unix_ms", "output_tokens", *SHAPE, *(f"stages.{name}_ms" for name in TIMES[:-1]))


def _calls(folder: Path) -> Calls:
    """The samples of all files, in their order."""
    decoder = msgspec.json.Decoder(_Line)
    config_ids, sample_ids, texts, configs = Names[str](), Names[str](), Names[str](), Names[bytes]()
    whole: dict[str, array[int]] = {
        name: array("q") for name in ("config_id", "sample_id", "flags", "config", "repeat")
    }
    real: dict[str, list[Floats]] = {name: [np.empty(0)] for name in _NUMBERS}
    for file in sorted(folder.glob(f"{FILES[Sample]}-*.jsonl")):
        for block in read_blocks(file):
            try:
                lines: list[Any] = decoder.decode_lines(block)
                whole["config"].extend(configs.places_of(bytes(line.config) for line in lines))
                whole["repeat"].extend([line.repeat for line in lines])
            except DAMAGE as error:
                load_run(folder)  # says the line
                raise LaptimeError(f"{file}: not records of laptime ({error}); remove that line") from error
            whole["config_id"].extend(config_ids.places_of(line.config_id for line in lines))
            whole["sample_id"].extend(sample_ids.places_of(line.sample_id for line in lines))
            whole["flags"].extend(texts.places_of(",".join(line.flags) if line.flags else "" for line in lines))
            for name, parts in real.items():
                parts.append(numbers(map(attrgetter(name), lines)))
    try:
        written = tuple(msgspec.json.decode(one, type=dict[str, Scalar]) for one in configs.known())
    except DAMAGE as error:
        load_run(folder)
        raise LaptimeError(f"{folder}: a configuration is damaged ({error}); remove that line") from error
    columns = {name: np.concatenate(parts) for name, parts in real.items()}
    places = {name: np.frombuffer(values, dtype=np.int64) for name, values in whole.items()}
    times = {name: columns[f"stages.{name}_ms"] for name in TIMES[:-1]}
    mismatch = np.array(["forwards-mismatch" in text for text in texts.known()], dtype=np.bool_)
    steps = columns["output_tokens"] - 1
    with np.errstate(invalid="ignore"):
        known = (steps >= 1) & ~(mismatch[places["flags"]] if len(mismatch) else False)
        times[DECODE_PER_TOKEN] = np.where(known, times["decode"] / np.where(known, steps, 1), np.nan)
    return Calls(
        config_ids=config_ids.known(),
        sample_ids=sample_ids.known(),
        flag_texts=texts.known(),
        configs=written,
        **places,
        started_unix_ms=columns["started_unix_ms"],
        output_tokens=columns["output_tokens"],
        shape=np.column_stack([columns[name] for name in SHAPE]),
        times=times,
    )
