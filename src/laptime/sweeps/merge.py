"""Makes one run of the parts that several workers wrote. A part is a run folder; a merged run can be merged again.

Lines are copied byte for byte, and the order of the parts doesn't matter. Of two different samples with one key the one
that was measured first is kept. Nothing here needs torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from laptime.data.files import whole_folder, write_whole
from laptime.data.json_text import readable_json
from laptime.data.outside import DAMAGE, read_part
from laptime.data.record import Failure, Sample
from laptime.data.run_folder import FILES, RunInfo, locked_for_run, read_info
from laptime.data.shown import Shown
from laptime.errors import LaptimeError
from laptime.sweeps.config import changes
from laptime.sweeps.plan import Key, SweepPlan, read_plan, write_plan

CONFLICTS_LISTED = 100


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """Two samples that differ and have one key."""

    config_id: str
    sample_id: str
    repeat: int
    kept: str  # the run that it was taken from
    left: str


class MergeReport(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """What came of a merge."""

    ROWS: ClassVar[str] = "examples"

    schema: str = "laptime.merge/1"
    out: str
    runs: list[str]
    samples: int  # in the merged run, warm-ups included
    failures: int
    overlap: int  # samples that several runs hold alike
    conflicts: int
    missing: int | None  # planned keys that are neither measured nor failed; None without a plan
    examples: list[Conflict]  # of the conflicts, at most CONFLICTS_LISTED


class _Line(msgspec.Struct, frozen=True, gc=False):
    """Where a line stands, and what decides between two lines of one key."""

    key: Key
    started_unix_ms: float
    digest: bytes
    source: int
    kind: str
    worker: str  # of the file that it stands in
    begin: int
    end: int


class _LineKey(msgspec.Struct, gc=False):
    """The fields of a record that a merge looks at."""

    config_id: str = ""
    sample_id: str = ""
    repeat: int = 0
    started_unix_ms: float = 0.0


def merge(sources: Sequence[str | Path], out: str | Path) -> MergeReport:
    """Merge run folders into a new folder.

    sources: run folders of one sweep, or of one profile. out: a folder that is new or empty.
    Raises LaptimeError and writes nothing: a source is no run, the schema versions, plans or models differ, a line is
    damaged, or `out` isn't free.
    """
    folders, target = [Path(source) for source in sources], Path(out)
    if not folders:
        raise LaptimeError("nothing to merge: name the run folders")
    with locked_for_run(target):
        return _merge(folders, target)


def _merge(folders: Sequence[Path], target: Path) -> MergeReport:
    infos = [read_info(source) for source in folders]
    plans = [read_plan(source) for source in folders]
    _check_alike(folders, infos, plans)
    chosen: dict[object, _Line] = {}
    overlap = 0
    conflicts: list[tuple[Key, int, int]] = []
    for number, source in enumerate(folders):
        for line in _lines(number, source):
            identity = line.key if line.kind == FILES[Sample] else (line.kind, line.digest)
            kept = chosen.setdefault(identity, line)
            if kept is line:
                continue
            first, second = sorted((kept, line), key=_age)
            chosen[identity] = first
            if kept.digest == line.digest:
                overlap += line.kind == FILES[Sample]
            else:
                conflicts.append((line.key, first.source, second.source))
    report = MergeReport(
        out=str(target),
        runs=[str(source) for source in folders],
        samples=sum(line.kind == FILES[Sample] for line in chosen.values()),
        failures=sum(line.kind == FILES[Failure] for line in chosen.values()),
        overlap=overlap,
        conflicts=len(conflicts),
        missing=_missing(plans[0], chosen),
        examples=[
            Conflict(
                config_id=key[0], sample_id=key[1], repeat=key[2], kept=str(folders[kept]), left=str(folders[left])
            )
            for key, kept, left in sorted(conflicts)[:CONFLICTS_LISTED]
        ],
    )
    earliest = min(infos, key=lambda info: (info.created_unix_ms, msgspec.json.encode(info)))
    _write(target, earliest, plans[infos.index(earliest)], folders, list(chosen.values()))
    return report


def _age(line: _Line) -> tuple[float, bytes, str]:
    return (line.started_unix_ms, line.digest, line.worker)


def _check_alike(sources: Sequence[Path], infos: Sequence[RunInfo], plans: Sequence[SweepPlan | None]) -> None:
    first, info, plan = sources[0], infos[0], plans[0]
    for source, other, other_plan in zip(sources[1:], infos[1:], plans[1:], strict=True):
        if other.schema_version != info.schema_version:
            raise LaptimeError(
                f"{source}: schema version {other.schema_version}, {first} has {info.schema_version}; "
                "runs of different versions are not merged: measure again with one laptime"
            )
        if (plan is None) != (other_plan is None):
            raise LaptimeError(f"{source if plan else first} is no sweep, {first if plan else source} is; merge alike")
        if plan is None or other_plan is None:
            changed = [k for k in sorted({*info.config, *other.config}) if info.config.get(k) != other.config.get(k)]
        else:
            changed = changes(plan.sweep_config, other_plan.sweep_config)
            if not changed and [c.config_id for c in plan.configs] != [c.config_id for c in other_plan.configs]:
                changed = ["configurations (another model or device default)"]
        if changed:
            raise LaptimeError(
                f"{source} and {first} are runs of different plans: {'; '.join(changed[:3])}; merge parts of one sweep"
            )


def _lines(number: int, source: Path) -> Iterator[_Line]:
    """Every finished line of a run."""
    decoder = msgspec.json.Decoder(_LineKey)
    for kind in FILES.values():
        for file in sorted(source.glob(f"{kind}-*.jsonl")):
            content = read_part(file)
            worker = file.name.removeprefix(f"{kind}-").removesuffix(".jsonl")
            begin = 0
            while (end := content.find(b"\n", begin) + 1) > 0:
                raw = content[begin:end]
                if raw.isspace():
                    begin = end
                    continue
                try:
                    head = decoder.decode(raw)
                except DAMAGE as error:
                    number = content.count(b"\n", 0, begin) + 1
                    raise LaptimeError(
                        f"{file}, line {number}: not a record of laptime ({error}); remove that line"
                    ) from error
                digest = hashlib.blake2b(raw, digest_size=16).digest()
                key = (head.config_id, head.sample_id, head.repeat)
                yield _Line(key, head.started_unix_ms, digest, number, kind, worker, begin, end)
                begin = end


def _missing(plan: SweepPlan | None, chosen: dict[object, _Line]) -> int | None:
    if plan is None:
        return None
    return len(plan.keys() - {line.key for line in chosen.values() if line.kind in (FILES[Sample], FILES[Failure])})


def _write(out: Path, info: RunInfo, plan: SweepPlan | None, sources: Sequence[Path], chosen: Sequence[_Line]) -> None:
    """Write the merged run, whole or not at all."""
    files: dict[str, list[_Line]] = {}
    for line in sorted(chosen, key=_age):
        files.setdefault(f"{line.kind}-{line.worker}.jsonl", []).append(line)
    with whole_folder(out, ("run.json",), force=False) as folder:
        for name, lines in files.items():
            contents = {n: read_part(sources[n] / name) for n in sorted({line.source for line in lines})}
            with (folder / name).open("wb") as file:
                file.writelines(contents[line.source][line.begin : line.end] for line in lines)
        write_whole(folder / "run.json", readable_json(info))
        if plan is not None:
            write_plan(folder, plan)
