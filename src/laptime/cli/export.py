"""`laptime export PATH`: samples as a table or as the older JSON files, a run or a trace as a timeline for Perfetto."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, NamedTuple

from laptime.cli.declared import argument, option
from laptime.cli.options import OUTPUT, Force, Json
from laptime.cli.output import print_json, say
from laptime.data.files import check_new_file, check_new_folder, whole_folder, write_new_file

LEGACY_FILES = ("*_imgsizetier-*.json",)
"""What a folder of the older JSON files holds: only such a folder is ever replaced."""


class Format(str, Enum):
    """What an export can be."""

    parquet = "parquet"
    csv = "csv"
    legacy_json = "legacy-json"
    perfetto = "perfetto"
    otlp_json = "otlp-json"
    prometheus = "prometheus"


class Exported(NamedTuple):
    """What is to be written: one file, or several with their names, made one by one. A timeline has no rows."""

    content: bytes | Iterator[tuple[str, bytes]]
    rows: int | None = None
    columns: int | None = None


def export(
    path: Annotated[
        Path,
        argument(
            metavar="PATH",
            help="A run folder or a table of samples; for perfetto a run folder or a trace file, "
            "for otlp-json and prometheus a run folder.",
        ),
    ],
    format_: Annotated[
        Format,
        option(
            "--format",
            metavar="NAME",
            help="parquet, csv, legacy-json, perfetto, otlp-json or prometheus.",
            rich_help_panel=OUTPUT,
        ),
    ] = Format.parquet,
    to: Annotated[
        Path | None,
        option(
            "--out",
            "--to",
            metavar="FILE",
            help="The file to write, for legacy-json a folder. Default: beside PATH, with its name. --to is the same.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> int:
    """Write samples as a table, a timeline for Perfetto, or figures for a dashboard.

    A table has one row for each sample and a column for each knob. It reads back as it was written, and no cell of a
    CSV file is taken for a formula. Open a timeline at https://ui.perfetto.dev. otlp-json has a span for each call and
    each stage, for an OpenTelemetry collector; prometheus has each configuration's figures for a scrape.

    Example: laptime export runs/demo --format csv --out demo.csv

    Exit codes: 0 done, 2 usage or unreadable input.
    """
    target = to or _beside(path, format_)
    if format_ is Format.legacy_json:
        check_new_folder(target, LEGACY_FILES, force=force, option="--out")
    else:
        check_new_file(target, "--out", force=force)
    exported = _exported(path, format_)
    if isinstance(exported.content, bytes):
        packed = format_ is Format.perfetto and target.suffix == ".gz"  # Perfetto's UI opens both
        content = gzip.compress(exported.content, mtime=0) if packed else exported.content
        write_new_file(target, content, "--out", force=force)
    else:
        with whole_folder(target, LEGACY_FILES, force=force, option="--out") as folder:
            for name, content in exported.content:
                (folder / name).write_bytes(content)
    if as_json:
        print_json(
            {
                "schema": "laptime.export/1",
                "format": format_.value,
                "file": str(target),
                "rows": exported.rows,
                "columns": exported.columns,
            }
        )
    else:
        say(str(target))
    return 0


def _exported(path: Path, format_: Format) -> Exported:
    if format_ is Format.perfetto:
        return _timeline(path)
    if format_ in (Format.otlp_json, Format.prometheus):
        from laptime.data.run_folder import load_run

        run = load_run(path)
        if format_ is Format.otlp_json:
            from laptime.report.ci.opentelemetry import otlp_json

            return Exported(otlp_json(run))
        from laptime.report.ci.prometheus import prometheus_text

        return Exported(prometheus_text(run))
    return _samples(path, format_)


def _beside(path: Path, format_: Format) -> Path:
    whole = path.resolve()
    name = whole.name if whole.is_dir() else whole.name.partition(".")[0]
    endings = {
        Format.legacy_json: "-legacy",
        Format.perfetto: ".perfetto.json",
        Format.otlp_json: ".otlp.json",
        Format.prometheus: ".prom",
    }
    return path.parent / f"{name}{endings.get(format_, f'.{format_.value}')}"


def _samples(path: Path, format_: Format) -> Exported:
    from laptime.data.frame import read_frame

    frame = read_frame(path, bulky=True)
    if format_ is Format.legacy_json:
        from laptime.data.legacy_export import legacy_files

        return Exported(legacy_files(frame), frame.height, frame.width)
    buffer = io.BytesIO()
    if format_ is Format.csv:
        from laptime.data.csv_cells import to_csv

        to_csv(frame).write_csv(buffer)
    else:
        frame.write_parquet(buffer)
    return Exported(buffer.getvalue(), frame.height, frame.width)


def _timeline(path: Path) -> Exported:
    if path.is_dir():
        from laptime.data.run_folder import load_run
        from laptime.report.profile.perfetto import profile_to_perfetto

        return Exported(profile_to_perfetto(load_run(path)))
    from laptime.report.trace.perfetto import trace_to_perfetto
    from laptime.trace.read.reading import read_timeline

    return Exported(trace_to_perfetto(read_timeline(path)))
