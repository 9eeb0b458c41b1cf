"""`laptime engine FOLDER`: where each request's time went inside a serving engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from laptime.cli.declared import argument, option
from laptime.cli.options import INPUT, OUTPUT, Force, Html, Json
from laptime.cli.output import give
from laptime.data.files import check_new_file


def engine(
    folder: Annotated[
        Path,
        argument(
            metavar="FOLDER|LOG",
            help="What LAPTIME_VLLM named when vLLM started, or a log of requests of SGLang or TensorRT-LLM.",
        ),
    ],
    client: Annotated[
        Path | None,
        option("--client", metavar="RUN", help="A run of serve-bench on the same host.", rich_help_panel=INPUT),
    ] = None,
    out: Annotated[
        Path | None,
        option("--out", metavar="FOLDER", help="A run folder with each request's stages.", rich_help_panel=OUTPUT),
    ] = None,
    perfetto: Annotated[
        Path | None,
        option("--perfetto", metavar="FILE", help="Requests and steps for Perfetto.", rich_help_panel=OUTPUT),
    ] = None,
    html: Html = None,
    force: Force = False,
    as_json: Json = False,
) -> int:
    """Where did each request's time go inside the engine?

    vLLM's server was started with LAPTIME_VLLM=FOLDER and laptime installed beside it. SGLang and
    TensorRT-LLM write logs of their requests themselves: name the file. Preprocessing, queue, vision,
    prefill, decode and other sum to each request's total. With --client they sum to what the client waited for.

    Example: laptime engine /tmp/engine --client runs/serve --html engine.html

    A log: laptime engine requests.jsonl --out runs/engine

    Exit codes: 0 done, 2 usage or unreadable input.
    """
    from laptime.data.run_folder import check_free
    from laptime.engines.engine_report import engine_report, write_run

    for file, name in ((html, "--html"), (perfetto, "--perfetto")):
        check_new_file(file, name, force=force)
    if out is not None:
        check_free(out)
    report = engine_report(folder, client)
    if out is not None:
        write_run(folder, client, out)
    if perfetto is not None:
        from laptime.data.files import write_new_file
        from laptime.report.engine.perfetto import engine_to_perfetto

        write_new_file(perfetto, engine_to_perfetto(report), "--perfetto", force=force)
    give(report, as_json=as_json, html=html, force=force)
    return 0
