"""The samples of a run as a comparison needs them: columns of numbers, so that a million of them are cheap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from laptime.data.record import STAGES, Sample, Scalar
from laptime.data.stats import Floats, Ints
from laptime.data.usable import Grade, grade, left_out_counts

DECODE_PER_TOKEN = "decode_per_token"  # noqa: S105 - a stage's name
TIMES = (*STAGES, "total", DECODE_PER_TOKEN)
SHAPE = ("prompt_tokens", "image_tokens", "batch")
"""What says of an input how large it was."""


@dataclass(frozen=True, eq=False)
class Calls:
    """One entry a sample in each column. A number that wasn't recorded is NaN.

    config_id, sample_id, flags: each sample's place in `config_ids`, `sample_ids` and `flag_texts`.
    config: its place in `configs`, the configurations as they were written.
    times: by the names in TIMES, in ms. shape: (n, 3), the columns of SHAPE.
    """

    config_ids: tuple[str, ...]
    sample_ids: tuple[str, ...]
    flag_texts: tuple[str, ...]
    configs: tuple[Mapping[str, Scalar], ...]
    config_id: Ints
    sample_id: Ints
    flags: Ints
    config: Ints
    repeat: Ints
    started_unix_ms: Floats
    output_tokens: Floats
    shape: Floats
    times: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.repeat)

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Calls:
        """These samples (places or a mask)."""
        columns = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name in _PER_SAMPLE}
        return replace(self, **columns, times={name: values[rows] for name, values in self.times.items()})

    def in_order(self) -> Calls:
        """All of them, in the order in which they were measured."""
        return self.take(np.argsort(self.started_unix_ms, kind="stable"))

    def kinds(self) -> set[str]:
        """The ids of their configurations."""
        return {self.config_ids[place] for place in np.unique(self.config_id)}

    def sizes(self, name: str) -> set[int | None]:
        """The different values of `output_tokens` or of a column of SHAPE; None for one that wasn't recorded."""
        values = self.output_tokens if name == "output_tokens" else self.shape[:, SHAPE.index(name)]
        return {None if value != value else int(value) for value in np.unique(values).tolist()}

    def first_config(self) -> Mapping[str, Scalar]:
        """The configuration of the first sample; empty without any."""
        return self.configs[self.config[0]] if len(self) else {}


_PER_SAMPLE = frozenset(
    {"config_id", "sample_id", "flags", "config", "repeat", "started_unix_ms", "output_tokens", "shape"}
)


def calls_of(samples: Sequence[Sample]) -> Calls:
    """The same of samples in memory. A repeated key stays as it is flagged."""
    config_ids, sample_ids, texts = Names[str](), Names[str](), Names[str]()
    places: dict[int, int] = {}  # one object is one configuration, and many samples may share it
    configs: list[Mapping[str, Scalar]] = []
    for sample in samples:
        if id(sample.config) not in places:
            places[id(sample.config)] = len(configs)
            configs.append(sample.config)
    times = {name: numbers(map(attrgetter(f"stages.{name}_ms"), samples)) for name in TIMES if name != DECODE_PER_TOKEN}
    times[DECODE_PER_TOKEN] = numbers(map(attrgetter("decode_per_token_ms"), samples))
    return Calls(
        config_id=config_ids.places(sample.config_id for sample in samples),
        sample_id=sample_ids.places(sample.sample_id for sample in samples),
        flags=texts.places(",".join(sample.flags) for sample in samples),
        config_ids=config_ids.known(),
        sample_ids=sample_ids.known(),
        flag_texts=texts.known(),
        configs=tuple(configs),
        config=np.array([places[id(sample.config)] for sample in samples], dtype=np.int64),
        repeat=np.array([sample.repeat for sample in samples], dtype=np.int64),
        started_unix_ms=numbers(sample.started_unix_ms for sample in samples),
        output_tokens=numbers(sample.output_tokens for sample in samples),
        shape=np.column_stack([numbers(map(attrgetter(name), samples)) for name in SHAPE]),
        times=times,
    )


Name = TypeVar("Name", str, bytes)


class Names(Generic[Name]):
    """Texts, numbered as they come."""

    def __init__(self) -> None:
        self._known: dict[Name, int] = {}

    def places_of(self, texts: Iterable[Name]) -> list[int]:
        """The number of each text; a new one gets the next."""
        known = self._known
        return [known.setdefault(text, len(known)) for text in texts]

    def places(self, texts: Iterable[Name]) -> Ints:
        """The same as an array."""
        return np.array(self.places_of(texts), dtype=np.int64)

    def known(self) -> tuple[Name, ...]:
        """All of them, by their numbers."""
        return tuple(self._known)


def places_of_keys(*columns: Ints) -> Ints:
    """A number for each different row of some columns of numbers."""
    keys = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        _, inverse = np.unique(column, return_inverse=True)
        _, keys = np.unique(keys * (int(inverse.max(initial=0)) + 1) + inverse.reshape(-1), return_inverse=True)
    return keys.reshape(-1).astype(np.int64)


def numbers(values: Iterable[float | int | None]) -> Floats:
    """Values as an array; None becomes NaN."""
    return np.array(list(values), dtype=np.float64)


def usable_calls(calls: Calls, keep: Collection[str] = ()) -> tuple[npt.NDArray[np.bool_], bool]:
    """A mask of the samples that statistics use, as laptime.data.usable.usable, and whether these are flagged ones."""
    by_text = [(grade(0, text, keep), grade(-1, text, keep)) for text in calls.flag_texts]
    grades = np.array(by_text, dtype=np.int64).reshape(-1, 2)[calls.flags, (calls.repeat < 0).astype(np.int64)]
    best = int(grades.min(initial=Grade.WARM_UP))
    used = (grades == best) & (best < Grade.WARM_UP)
    return used, best in (Grade.DISTURBED, Grade.COLD)


def left_out(calls: Calls, used: npt.NDArray[np.bool_]) -> dict[str, int]:
    """Why the others were left out, as laptime.data.usable.left_out_reasons."""
    others = calls.take(~used)
    kinds = Counter(zip((others.repeat < 0).tolist(), others.flags.tolist(), strict=True))
    return left_out_counts({(warm_up, calls.flag_texts[text]): count for (warm_up, text), count in kinds.items()})


def joined(parts: Sequence[Calls]) -> Calls:
    """Several calls' samples behind each other."""
    config_ids, sample_ids, texts = Names[str](), Names[str](), Names[str]()
    first = [
        {
            "config_id": config_ids.places(one.config_ids)[one.config_id],
            "sample_id": sample_ids.places(one.sample_ids)[one.sample_id],
            "flags": texts.places(one.flag_texts)[one.flags],
            "config": one.config + sum(len(before.configs) for before in parts[:number]),
        }
        for number, one in enumerate(parts)
    ]
    same = ("repeat", "started_unix_ms", "output_tokens", "shape")
    return Calls(
        config_ids=config_ids.known(),
        sample_ids=sample_ids.known(),
        flag_texts=texts.known(),
        configs=tuple(config for one in parts for config in one.configs),
        **{name: np.concatenate([one[name] for one in first]) for name in first[0]},
        **{name: np.concatenate([getattr(one, name) for one in parts]) for name in same},
        times={name: np.concatenate([one.times[name] for one in parts]) for name in TIMES},
    )
