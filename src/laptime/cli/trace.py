"""`laptime trace FILE`: what did the GPU wait for?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from laptime.errors import LaptimeError


def trace(
    file: Annotated[Path, typer.Argument(help="PyTorch profiler .json/.json.gz or Nsight Systems .sqlite.")],
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON (laptime.trace/1) on stdout.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page here.")] = None,
    compare: Annotated[Path | None, typer.Option(help="A second trace, set beside the first.")] = None,
    tpot: Annotated[
        float | None,
        typer.Option(help="Time per token in ms without the profiler: takes its tax out of what-if.", min=0.0),
    ] = None,
    export: Annotated[str | None, typer.Option(help="perfetto: a trace with gap and step tracks.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where --export writes.")] = None,
    device: Annotated[int | None, typer.Option(help="Look at this GPU only.")] = None,
) -> int:
    """What did the GPU wait for? Example: laptime trace decode.json.gz --html decode.html --tpot 14.6

    Exit codes: 0 done, 1 the file can't support an answer, 2 usage or unreadable input.
    """
    from laptime.trace.command import one_thread

    one_thread()
    from laptime.trace.analysis import answer, read_trace, views
    from laptime.trace.read.reading import read_timeline

    if export is not None and export != "perfetto":
        raise LaptimeError(f"--export {export}: not known; perfetto is")
    if (export is None) != (out is None):
        raise LaptimeError("--export perfetto and --out FILE go together")
    if tpot is not None and not tpot > 0:
        raise LaptimeError(f"--tpot {tpot:g}: a time per token is above 0 ms")

    timeline = read_timeline(file)
    seen = views(timeline, device=device)
    analysis = answer(timeline, seen, tpot_ms=tpot)
    code = 1 if analysis.integrity.verdict == "unsupported" else 0
    written: list[Path] = []
    if export is not None and out is not None:
        from laptime.report.trace.perfetto import write_perfetto

        try:
            with out.open("wb") as target:
                write_perfetto(timeline, seen, target)
        except OSError as error:
            raise LaptimeError(f"{out}: {error.strerror}; choose another --out") from error
        written.append(out)
    comparison = None
    if compare is not None:
        from laptime.trace.comparison import compare as compare_traces

        comparison = compare_traces(analysis, read_trace(compare, device=device))
    if html is not None:
        from laptime.report.trace.page import comparison_page, trace_page

        page = trace_page(analysis) if comparison is None else comparison_page(comparison)
        try:
            html.write_text(page, encoding="utf-8")
        except OSError as error:
            raise LaptimeError(f"{html}: {error.strerror}; choose another --html") from error
        written.append(html)
    if as_json:
        import msgspec

        value = analysis if comparison is None else comparison
        sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
        sys.stdout.buffer.flush()
    elif not written:
        from rich.console import Console

        from laptime.report.trace.terminal import comparison_report, trace_report

        Console().print(trace_report(analysis) if comparison is None else comparison_report(comparison))
    for path in written:
        typer.echo(str(path), err=as_json)
    return code
