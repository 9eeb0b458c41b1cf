"""What is audited: a frame of samples, and for a run folder its environment, plan and failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from laptime.data.columns import KEY, KNOB, STAGE_COLUMNS
from laptime.data.frame import read_frame
from laptime.data.measuring_time import MeasuringTime, frame_time
from laptime.data.outside import DAMAGE, read_regular
from laptime.data.record import Scalar, SessionEnd, WorkerStart
from laptime.data.run_folder import RunInfo, read_failures, read_info, read_sessions, read_workers
from laptime.data.usable import usable_rows, warm_up_rows
from laptime.engines.request import ClientWakes, RequestOutline, read_outlines, read_wakes
from laptime.errors import LaptimeError

if TYPE_CHECKING:  # polars takes 0.2 s to import, so the functions that need it import it
    import polars

USED_COLUMNS = (
    "row", *KEY, "worker", *STAGE_COLUMNS, "output_tokens", "prompt_tokens", "image_tokens", "crops", "batch",
    "started_unix_ms", "gpu_sm_mhz", "flags",
)  # fmt: skip
"""The columns by which rules judge times. Copying all columns of a million rows would take longer than reading them."""

WORKED_OUT = ("row", "gaps", "gaps_ms", "gaps_at_once")
"""Columns of a frame that no file holds."""

MOST_BYTES_WITH_GAPS = 128 << 20
"""Larger folders and tables are read without the gaps between tokens: a list for each sample takes its time."""

AT_ONCE_MS = 0.05
"""No forward is known that takes less: two tokens so near to one another came together."""

SORTED = 8
"""So many times in ascending order are sorted: chance does it once in 40,320 tables."""

LIKE = 3
"""A group of the same work needs this many samples, at the median over groups, to be compared with its median."""


class PlannedConfig(msgspec.Struct, frozen=True):
    """One configuration of a sweep's plan."""

    config_id: str
    config: dict[str, Scalar] = {}


class PlannedSamples(msgspec.Struct, frozen=True):
    """What a sweep is to measure (plan.json): every configuration with every sample, `repeats` times."""

    schema: Literal["laptime.plan/1"]
    configs: list[PlannedConfig]
    samples: list[str]
    repeats: int
    agreement: dict[int, float] = {}  # laptime.sweeps.plan.SweepPlan


@dataclass(frozen=True)
class Measurements:
    """Samples in the order of their files (column `row`), and what is known of how they were measured."""

    source: str
    frame: polars.DataFrame
    info: RunInfo | None = None
    workers: list[WorkerStart] = field(default_factory=list)
    plan: PlannedSamples | None = None
    failed: frozenset[tuple[str, str, int]] = frozenset()
    sessions: list[SessionEnd] = field(default_factory=list)
    requests: list[RequestOutline] = field(default_factory=list)
    wakes: list[ClientWakes] = field(default_factory=list)

    def has(self, column: str) -> bool:
        """Whether at least one sample has a value there."""
        return column in self.frame.columns and self.frame[column].null_count() < self.frame.height

    @cached_property
    def configs(self) -> int:
        """How many configurations were measured."""
        return int(self.frame["config_id"].n_unique()) if self.frame.height else 0

    @cached_property
    def measured(self) -> polars.DataFrame:
        """All but the warm-up calls."""
        warm_up = warm_up_rows(self.frame)
        return self.frame.filter(~warm_up) if warm_up.any() else self.frame

    def of(self, *columns: str) -> polars.DataFrame:
        """`measured`, but only the row, the key and these columns: what a rule then filters or sorts, it copies."""
        return self.measured.select(*dict.fromkeys(("row", *KEY, *columns)))

    @cached_property
    def used(self) -> polars.DataFrame:
        """The samples that a summary uses and that have a total, in the order in which they were measured.

        Further columns: `at` (milliseconds of measuring since the first one, laptime.data.measuring_time; without start
        times the position within its worker), `equal_ms` (the total, at the length that answers to the same work
        usually have), `work` (which samples are of the same work), `deviation` (log of that over its median for the
        same work) and `within` (`at` less the median of the same work).
        """
        import polars
        from polars import String, col, concat_str

        mask = usable_rows(self.frame)[0] & (self.frame["total_ms"] > 0).fill_null(value=False)
        rows = self.frame.select(USED_COLUMNS).filter(mask)
        if self.timed:
            at = polars.Series(self.time.at_ms).filter(mask)
            rows = rows.with_columns(at - at.min()).rename({"": "at"}).sort("at", "row")
        else:
            position = col("row").rank("ordinal").over("worker").cast(float) - 1
            rows = rows.with_columns(at=position).sort("at", "row")
        same = self._same_work(rows)
        alike = [name for name in same if name != "output_tokens"]
        rows = rows.with_columns(equal_ms=col("total_ms") if "output_tokens" in same else equal_length_ms(alike))
        if _scatter(rows, "equal_ms", alike) > _scatter(rows, "total_ms", alike):  # decode doesn't go with these tokens
            rows = rows.with_columns(equal_ms=col("total_ms"))
        log = col("equal_ms").log()
        group = concat_str([col(name).cast(String).fill_null("–") for name in same], separator="\x1f")
        return rows.with_columns(
            deviation=log - log.median().over(same), within=col("at") - col("at").median().over(same), work=group
        )

    @cached_property
    def repeated(self) -> bool:
        """Whether `used` compares repeats of the same input, and not only inputs of the same size."""
        return bool(self.used.height) and "sample_id" in self._same_work(self.used)

    @cached_property
    def timed(self) -> bool:
        """Whether it is known when each sample began."""
        times = self.frame["started_unix_ms"]
        return bool(self.frame.height and times.null_count() == 0 and (times > 0).all())

    @cached_property
    def order_unknown(self) -> str | None:
        """Why nobody can say in which order samples were measured; None where start times or the file's order do."""
        if self.timed or self.measured.height < SORTED:
            return None
        for name in ("total_ms", *STAGE_COLUMNS, "ttft_ms", "decode_per_token_ms"):
            if not self.has(name):
                continue
            parts = [part[name].drop_nulls() for part in self.measured.partition_by("config_id")]
            parts = [part for part in parts if part.n_unique() >= SORTED]
            if parts and all(part.is_sorted() or part.is_sorted(descending=True) for part in parts):
                return f"no start times, and the rows are sorted by {name}: the order of measuring isn't known"
        return None

    @cached_property
    def time(self) -> MeasuringTime:
        """When each sample of `frame` was measured; for samples that are `timed`."""
        return frame_time(self.frame)

    def _same_work(self, rows: polars.DataFrame) -> list[str]:
        """The finest columns by which samples group into the same work, with enough in a group to compare."""
        sizes = ["output_tokens", "prompt_tokens", "image_tokens", "crops", "batch"]
        given = ["prompt_tokens", "image_tokens", "crops"]
        for keys in (["config_id", "sample_id", *given], ["config_id", *sizes], ["config_id", *given, "batch"]):
            if rows.height and (rows.group_by(keys).len()["len"].median() or 0) >= LIKE:  # type: ignore[operator]
                return keys
        return ["config_id"]

    def shown_config(self, config_id: str | None) -> str:
        """A configuration by what tells it from the others: its knobs that vary, else its id."""
        if config_id is None:
            return "the only configuration"
        row = self._varying.get(config_id)
        return f"{config_id} ({', '.join(row)})" if row else config_id

    @cached_property
    def _varying(self) -> dict[str, list[str]]:
        knobs = [name for name in self.frame.columns if name.startswith(KNOB)]
        first = self.frame.group_by("config_id", maintain_order=True).agg(*(name_first(k) for k in knobs))
        varying = [k for k in knobs if first[k].n_unique() > 1]
        return {
            row["config_id"]: [f"{k.removeprefix(KNOB)} {row[k]}" for k in varying if row[k] is not None]
            for row in first.to_dicts()
            if row["config_id"] is not None
        }


def _scatter(rows: polars.DataFrame, name: str, alike: list[str]) -> float:
    """How much the same work differs: the mean of the logarithms' distances from their median."""
    from polars import col

    log = col(name).log()
    found = rows.select((log - log.median().over(alike)).abs().mean()).item()
    return 0.0 if found is None else float(found)


def equal_length_ms(alike: list[str]) -> polars.Expr:
    """The total of a call if its answer had the length that is usual among calls with the same values in `alike`.

    Answers that are sampled differ in length, and longer ones are no slower. Where decode isn't known, the total.
    """
    from polars import col, when

    steps = col("output_tokens") - 1
    usual = steps.median().over(alike)
    other = (steps > 0) & (usual > 0) & (steps != usual) & (col("decode_ms") > 0)
    return when(other).then(col("total_ms") + col("decode_ms") * (usual / steps - 1)).otherwise(col("total_ms"))


def name_first(name: str) -> polars.Expr:
    """The first value of a column in each group."""
    from polars import col

    return col(name).first()


def read_measurements(path: str | Path) -> Measurements:
    """Whatever laptime.data.frame.read_frame reads, and for a run folder its run.json, worker starts, plan and
    failures.

    Raises LaptimeError for anything unreadable.
    """
    place = Path(path)
    frame = _numbered(_with_gaps(read_frame(place, bulky=_size(place) <= MOST_BYTES_WITH_GAPS)))
    if not (place / "run.json").exists():
        return Measurements(source=str(path), frame=frame)
    failures = read_failures(place)
    return Measurements(
        source=str(path),
        frame=frame,
        info=read_info(place),
        workers=read_workers(place),
        plan=_plan(place / "plan.json"),
        failed=frozenset((f.config_id, f.sample_id, f.repeat) for f in failures),
        sessions=read_sessions(place),
        requests=read_outlines(place),
        wakes=read_wakes(place),
    )


def measurements_of(frame: polars.DataFrame, source: str = "samples") -> Measurements:
    """A frame alone, ready to be audited. Columns that it lacks are null."""
    from laptime.data.frame import complete

    return Measurements(source=source, frame=_numbered(_with_gaps(complete(frame, source, bulky=True))))


def _with_gaps(frame: polars.DataFrame) -> polars.DataFrame:
    """The frame with what the gaps between tokens come to instead of the gaps.

    `gaps` is their number, `gaps_ms` their sum, `gaps_at_once` how many are shorter than AT_ONCE_MS.
    """
    from polars import col, element

    if "itl_ms" in frame.columns and frame["itl_ms"].null_count() < frame.height:
        at_once = col("itl_ms").list.eval((element() < AT_ONCE_MS).cast(int)).list.sum()
        gaps = col("itl_ms").list
        frame = frame.with_columns(gaps=gaps.len(), gaps_ms=gaps.sum(), gaps_at_once=at_once)
    return frame.drop("itl_ms", "text", strict=False)


def _size(place: Path) -> int:
    """The bytes of a file, or of the samples in a folder: of a run, or of older JSON files."""
    of_run = (place / "run.json").exists()
    files = place.glob("samples-*.jsonl" if of_run else "*.json") if place.is_dir() else [place]
    return sum(file.stat().st_size for file in files if file.is_file())


def _numbered(frame: polars.DataFrame) -> polars.DataFrame:
    """The frame with the place of each sample in its file as the column `row`."""
    return frame.drop("row", strict=False).with_row_index("row")


def _plan(file: Path) -> PlannedSamples | None:
    try:
        return msgspec.json.decode(read_regular(file), type=PlannedSamples)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LaptimeError(f"{file}: {error.strerror}") from error
    except DAMAGE as error:
        raise LaptimeError(f"{file}: not a sweep's plan ({error}); use the laptime that wrote it") from error
