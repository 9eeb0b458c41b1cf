"""Every question under every choice: its score, its answer's length and its time. No torch.

The table comes from a sweep that asked every question under every choice. Policies are trained and judged on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.choices import ChoiceSpace, ModelFacts, Tier
from laptime.errors import LaptimeError
from laptime.models.block_list import read_blocks, read_experts

if TYPE_CHECKING:
    import polars

Half = Literal["train", "held-out"]
FEWEST = 20
"""Questions of the training half from which lengths and scores are learnt."""
IN_A_SWEEP = 60
"""A sweep of so many questions has FEWEST in its training half, but for one sweep in some hundred."""
KNOB_COLUMNS = ("config.tier", "config.crops", "config.top_k", "config.blocks")
BLOCK_COLUMNS = ("config.importance", "config.active_blocks")
"""What says which blocks ran: it goes with config.blocks, and is no choice of its own."""
EXPERTS_COLUMN = "config.experts"
"""How many experts each block had: it goes with config.top_k."""


class DecisionTable(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of every question (rows) under every choice of the space (columns).

    score: 0 to 1, the mean over repeats. output_tokens, total_ms (ms): the median over repeats; total_ms is NaN where
    no time was measured. prompt_tokens, image_tokens, crops: of the model's input, 0 where not recorded. left_out: the
    number of questions of the sweep that lacked a choice. most_tokens: the longest answer that the sweep allowed.
    """

    space: ChoiceSpace
    model: ModelFacts
    sample_ids: tuple[str, ...]
    question_types: tuple[str, ...]
    score: npt.NDArray[np.float32]
    output_tokens: npt.NDArray[np.int32]
    total_ms: npt.NDArray[np.float64]
    prompt_tokens: npt.NDArray[np.int32]
    image_tokens: npt.NDArray[np.int32]
    crops: npt.NDArray[np.int32]
    most_tokens: int
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.sample_ids)

    def take(self, rows: npt.NDArray[np.intp]) -> DecisionTable:
        """These questions, by their places."""
        arrays = ("score", "output_tokens", "total_ms", "prompt_tokens", "image_tokens", "crops")
        return msgspec.structs.replace(
            self,
            sample_ids=tuple(self.sample_ids[int(row)] for row in rows),
            question_types=tuple(self.question_types[int(row)] for row in rows),
            **{name: getattr(self, name)[rows] for name in arrays},
        )

    def half(self, which: Half) -> DecisionTable:
        """One half of the questions. A hash of a question's id decides its half, so it is the same on every machine."""
        rows = np.array([i for i, name in enumerate(self.sample_ids) if half_of(name) == which], dtype=np.intp)
        if len(rows) == 0:
            raise LaptimeError(f"none of the table's {len(self)} questions falls into the {which} half; measure more")
        return self.take(rows)

    def row(self, sample_id: str) -> int:
        """The place of one question. Raises LaptimeError for one that is not there."""
        try:
            return self.sample_ids.index(sample_id)
        except ValueError:
            raise LaptimeError(f"question {sample_id}: not among the table's {len(self)}") from None


def too_few(questions: int, why: str) -> str:
    """The message for fewer than FEWEST training questions. why: what they are too few for."""
    return (
        f"{questions} training questions are too few {why}: {FEWEST} or more are needed, and about half of a "
        f"sweep's train; sweep {IN_A_SWEEP} or more (workload.samples, workload.data), or score more of them with "
        "laptime control ask"
    )


def half_of(sample_id: str) -> Half:
    """The half that a question belongs to."""
    digest = blake2b(f"half:{sample_id}".encode("utf-8", "surrogatepass"), digest_size=1).digest()
    return "train" if digest[0] % 2 == 0 else "held-out"


def question_type(sample_id: str) -> str:
    """The id's part before its last '-': "code-000123" is a "code"; "all" without one."""
    return sample_id.rpartition("-")[0] or "all"


def decision_table(frame: polars.DataFrame, model: ModelFacts | None = None, keep: Sequence[str] = ()) -> DecisionTable:
    """The table of a sweep's run, from its frame (laptime.estimate.table.reading.read_table).

    Warm-ups and flagged samples are left out, but for the flags in `keep`. Repeats become one cell (mean score, median
    time). Questions that lack a choice are left out and counted. model: adds what a sweep doesn't record (kind,
    experts).

    Raises LaptimeError when no question has every choice, nothing was scored, or a setting that is no choice (dtype,
    cache, batch) varies.
    """
    import polars
    from polars import col

    from laptime.estimate.table.reading import clean

    missing = [name for name in ("sample_id", "score", "output_tokens", "total_ms") if name not in frame.columns]
    if missing:
        raise LaptimeError(f"the table has no column {missing[0]!r}; a sweep's run folder has it")
    rows = clean(frame, keep).filter(col("total_ms").is_not_null() & (col("output_tokens") >= 1))
    if rows.height == 0:
        raise LaptimeError("no clean sample in this table: policies learn from a sweep's measured samples")
    _refuse_other_knobs(rows)
    scored = rows.filter(col("score").is_not_null())
    if scored.height == 0:
        raise LaptimeError("no sample of this sweep has a score; name the questions' answers and a metric (docs/sweep)")
    knobs = [name for name in KNOB_COLUMNS if name in scored.columns and scored[name].null_count() < scored.height]
    sizes = [name for name in ("prompt_tokens", "image_tokens", "crops") if name in scored.columns]
    cells = scored.group_by(["sample_id", *knobs]).agg(
        col("score").mean(), col("output_tokens").median(), col("total_ms").median(), *(col(n).median() for n in sizes)
    )
    space = msgspec.structs.replace(_space(cells, knobs), active=_active(scored), experts=_experts(scored))
    if len(space) < 2:
        raise LaptimeError("this sweep has one configuration: there is nothing to choose; sweep tier, top_k or blocks")
    ids = sorted(set(cells["sample_id"].to_list()))
    row_of = {name: row for row, name in enumerate(ids)}
    rows_of_cells = np.array([row_of[name] for name in cells["sample_id"].to_list()])
    number = _numbers(cells, space, knobs)
    filled = np.zeros((len(ids), len(space)), dtype=np.bool_)
    filled[rows_of_cells, number] = True
    whole = np.flatnonzero(filled.all(axis=1))
    if len(whole) == 0:
        raise LaptimeError(
            f"none of {len(ids)} questions has all {len(space)} choices ({int((~filled).sum())} of {filled.size} cells "
            "are missing); every question needs every configuration of the grid: resume the sweep, or "
            "keep flagged samples (`keep`)"
        )

    def matrix(name: str, kind: type[np.generic]) -> npt.NDArray[np.generic]:
        values = np.zeros(filled.shape)
        if name in cells.columns:
            values[rows_of_cells, number] = cells[name].cast(polars.Float64).fill_null(0.0).to_numpy()
        return values[whole].astype(kind)

    facts = _facts(rows, space)
    return DecisionTable(
        space=space,
        model=facts if model is None else _merged(model, facts),
        sample_ids=tuple(ids[int(row)] for row in whole),
        question_types=tuple(question_type(ids[int(row)]) for row in whole),
        score=matrix("score", np.float32),  # type: ignore[arg-type]
        output_tokens=matrix("output_tokens", np.int32),  # type: ignore[arg-type]
        total_ms=matrix("total_ms", np.float64),  # type: ignore[arg-type]
        prompt_tokens=matrix("prompt_tokens", np.int32),  # type: ignore[arg-type]
        image_tokens=matrix("image_tokens", np.int32),  # type: ignore[arg-type]
        crops=matrix("crops", np.int32),  # type: ignore[arg-type]
        most_tokens=_most_tokens(scored),
        left_out=len(ids) - len(whole),
    )


def _refuse_other_knobs(rows: polars.DataFrame) -> None:
    """Raise LaptimeError if another setting than the choices varies: its values would be mixed into one cell."""
    for name in rows.columns:
        if not name.startswith("config.") or name in (*KNOB_COLUMNS, *BLOCK_COLUMNS, EXPERTS_COLUMN):
            continue
        values = rows[name].unique().to_list()
        if len(values) > 1:
            some = ", ".join(sorted(map(str, values))[:4])
            if name == "config.image_tokens_limit":
                raise LaptimeError(
                    f"image_tokens varies in this sweep ({some}), and control doesn't choose it: keep one value of it, "
                    "and sweep tier, top_k or blocks (docs/appendix/knobs.md, Image tokens)"
                )
            raise LaptimeError(f"{name.removeprefix('config.')} varies in this sweep ({some}): keep one value of it")


def _space(cells: polars.DataFrame, knobs: list[str]) -> ChoiceSpace:
    tiers: list[Tier] = []
    if "config.tier" in knobs or "config.crops" in knobs:
        tiers = sorted(set(_tiers(cells)), key=lambda tier: (tier.high, tier.low))
    numbers = {name: sorted(set(map(int, cells[name].to_list()))) if name in knobs else [] for name in KNOB_COLUMNS[2:]}
    top_ks, blocks = numbers["config.top_k"], numbers["config.blocks"]
    return ChoiceSpace(tiers=tuple(tiers), top_ks=tuple(top_ks), blocks=tuple(blocks))


def _experts(rows: polars.DataFrame) -> tuple[tuple[int, ...], ...]:
    """How many experts each block had at each top-k, ascending; empty where every block had the same number.

    Raises LaptimeError where one top-k was measured with different experts by block.
    """
    if EXPERTS_COLUMN not in rows.columns or rows[EXPERTS_COLUMN].null_count() == rows.height:
        return ()
    had: dict[int, tuple[int, ...]] = {}
    for row in rows.select(["config.top_k", EXPERTS_COLUMN]).unique().iter_rows(named=True):
        top_k, written = int(row["config.top_k"]), row[EXPERTS_COLUMN]
        numbers = () if written is None else read_experts(str(written))
        if had.setdefault(top_k, numbers) != numbers:
            raise LaptimeError(f"top-k {top_k} was measured with different experts by block; keep one choice of them")
    return tuple(had[top_k] for top_k in sorted(had))


def _active(rows: polars.DataFrame) -> tuple[tuple[int, ...], ...]:
    """Which blocks ran at each number of them, ascending; empty where they were chosen by their position.

    Raises LaptimeError where one number of blocks was measured with different blocks, or the sweep doesn't say which.
    """
    if "config.importance" not in rows.columns or rows["config.importance"].null_count() == rows.height:
        return ()
    columns = [name for name in ("config.blocks", *BLOCK_COLUMNS) if name in rows.columns]
    ran: dict[int, tuple[int, ...]] = {}
    for row in rows.select(columns).unique().iter_rows(named=True):
        count, written = int(row["config.blocks"]), row.get("config.active_blocks")
        if written is None and row["config.importance"] is not None:
            raise LaptimeError(
                f"the sweep doesn't say which {count} blocks ran (it was made before that was recorded); sweep anew"
            )
        active = tuple(range(count)) if written is None else read_blocks(str(written))
        if ran.setdefault(count, active) != active:
            raise LaptimeError(f"{count} blocks were measured with different blocks active; keep one choice of them")
    return tuple(ran[count] for count in sorted(ran))


def _tiers(cells: polars.DataFrame) -> list[Tier]:
    """The tier of each row: its crops as a range, its name where it has one."""
    none = [None] * cells.height
    names = cells["config.tier"].to_list() if "config.tier" in cells.columns else none
    crops = cells["config.crops"].to_list() if "config.crops" in cells.columns else none
    return [_tier(name, some) for name, some in zip(names, crops, strict=True)]


def _tier(name: str | None, crops: object) -> Tier:
    from laptime.data.record import TIERS

    low, _, high = str(crops if crops is not None else "").partition("-")
    try:
        ends = (int(float(low)), int(float(high or low)))
    except ValueError:
        if name not in TIERS:
            raise LaptimeError(f"tier {name} with crops {crops}: crops are a number or a range such as 1-3") from None
        ends = TIERS[name]
    return Tier(name or (str(ends[0]) if ends[0] == ends[1] else f"{ends[0]}-{ends[1]}"), *ends)


def _numbers(cells: polars.DataFrame, space: ChoiceSpace, knobs: list[str]) -> npt.NDArray[np.int64]:
    """The choice number of each row."""
    number = np.zeros(cells.height, dtype=np.int64)
    if space.tiers:
        number_of = {tier: i for i, tier in enumerate(space.tiers)}
        number += np.array([number_of[tier] for tier in _tiers(cells)])
    for name, values in (("config.top_k", space.top_ks), ("config.blocks", space.blocks)):
        number *= max(1, len(values))
        if name in knobs:
            number += np.searchsorted(np.array(values), cells[name].cast(int).to_numpy())
    return number


def _facts(rows: polars.DataFrame, space: ChoiceSpace) -> ModelFacts:
    name = rows["config.model"][0] if "config.model" in rows.columns else None
    return ModelFacts(
        name=str(name or ""), blocks=max(space.blocks, default=None), top_k=max(space.top_ks, default=None)
    )


def _merged(known: ModelFacts, swept: ModelFacts) -> ModelFacts:
    """What is known of the model, completed by the sweep. Raises LaptimeError when the sweep is of another model."""
    if known.blocks and swept.blocks and swept.blocks > known.blocks:
        raise LaptimeError(
            f"the sweep ran {swept.blocks} blocks, the model {known.name} has {known.blocks}: not its own"
        )
    return ModelFacts(
        name=known.name or swept.name,
        kind=known.kind,
        blocks=known.blocks or swept.blocks,
        experts=known.experts,
        top_k=known.top_k or swept.top_k,
    )


def _most_tokens(rows: polars.DataFrame) -> int:
    longest = int(rows["output_tokens"].max() or 1)  # type: ignore[arg-type]
    if "config.new_tokens" in rows.columns and rows["config.new_tokens"].dtype.is_integer():
        longest = max(longest, int(rows["config.new_tokens"].max() or 1))  # type: ignore[arg-type]
    return longest
