"""`laptime trace FILE`: what did the GPU wait for?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from laptime.cli.declared import argument, option
from laptime.cli.options import INPUT, QUESTION, Force, Html, Json, milliseconds
from laptime.cli.output import give
from laptime.errors import LaptimeError


def trace(
    files: Annotated[
        list[Path],
        argument(
            metavar="FILE...",
            help="A PyTorch profiler file (.json, .json.gz) or an Nsight Systems export (.sqlite). Several of them, a"
            " folder, or a .tar or .zip of them: the ranks of one run, side by side.",
        ),
    ],
    compare: Annotated[
        Path | None,
        option("--compare", metavar="FILE", help="Set this trace beside the first.", rich_help_panel=INPUT),
    ] = None,
    device: Annotated[
        int | None, option("--device", metavar="N", help="Look at this GPU only.", rich_help_panel=INPUT)
    ] = None,
    ranks: Annotated[
        bool,
        option(
            "--ranks", help="The GPUs of one file are ranks of one run: set them side by side.", rich_help_panel=INPUT
        ),
    ] = False,
    whatif: Annotated[
        bool,
        option(
            "--whatif",
            help="Of several ranks: replay a step of all of them together, and say what remedies would leave of it.",
            rich_help_panel=QUESTION,
        ),
    ] = False,
    capture: Annotated[
        Path | None,
        option(
            "--capture",
            metavar="FILE",
            help="A trace of the capture of the graphs that the first replays: it names their kernels.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    tpot: Annotated[
        str | None,
        option(
            "--tpot",
            metavar="MS",
            help="The time per token, or per step, without the profiler: what-if then starts from it.",
            rich_help_panel=QUESTION,
        ),
    ] = None,
    prefill: Annotated[
        str | None,
        option(
            "--prefill", metavar="MS", help="The same of the prefill that the trace holds.", rich_help_panel=QUESTION
        ),
    ] = None,
    vision: Annotated[
        str | None,
        option("--vision", metavar="MS", help="The same of one pass of the vision tower.", rich_help_panel=QUESTION),
    ] = None,
    html: Html = None,
    force: Force = False,
    as_json: Json = False,
) -> int:
    """What did the GPU wait for?

    The answer names the causes of idle time, shows one step to scale, and says what each remedy would leave of it.
    To see the trace itself with its gaps, use laptime export FILE --format perfetto.

    Example: laptime trace decode.json.gz --html decode.html --tpot 14.6

    Several ranks: laptime trace ranks/ --whatif --html ranks.html

    Exit codes: 0 done, 1 the file can't support an answer, 2 usage or unreadable input.
    """
    # No trace needs threads for products of matrices. They cost start-up time, and a reader uses a second process
    # only while this one has a single thread. It works because numpy isn't imported yet.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from laptime.trace.read.rank_files import trace_files

    tpot_ms = None if tpot is None else milliseconds("--tpot", tpot)
    given = {"prefill": prefill, "vision": vision}
    stage_ms = {stage: milliseconds(f"--{stage}", ms) for stage, ms in given.items() if ms is not None}
    if html is not None:
        from laptime.data.files import check_new_file

        check_new_file(html, "--html", force=force)
    with trace_files(files) as found:
        if len(found) > 1 or ranks:
            from laptime.trace.ranks import ranks_of

            these = f"these are {len(found)} ranks" if len(found) > 1 else "--ranks takes its GPUs for ranks"
            for option, value in (
                ("--compare", compare),
                ("--device", device),
                ("--capture", capture),
                ("--tpot", None if whatif else tpot),
                ("--prefill", prefill),
                ("--vision", vision),
            ):
                if value is not None:
                    mend = "name one file" if len(found) > 1 else "leave one of the two out"
                    raise LaptimeError(f"{option} is for one trace, and {these}; {mend}")
            source = files[0].name if len(files) == 1 else f"{len(found)} files"
            beside = ranks_of(source, found, named=files)
            if len(beside.ranks) == 1:
                raise LaptimeError(f"{source}: --ranks sets the GPUs of a file side by side, and this file has one")
            if whatif:
                from laptime.trace.rank_whatif import with_what_if  # it takes as long again

                beside = with_what_if(beside, found, tpot_ms=tpot_ms)
            give(beside, as_json=as_json, html=html, force=force)
            return 0
        if whatif:
            raise LaptimeError(f"--whatif is for several ranks, and {found[0].name} is one trace, which always has it")
        from laptime.trace.analysis import read_trace  # ranks don't need it, and start-up counts

        analysis = read_trace(found[0], tpot_ms=tpot_ms, device=device, capture=capture, stage_ms=stage_ms)
    unsupported = analysis.integrity.verdict == "unsupported"
    if compare is None:
        give(analysis, as_json=as_json, html=html, force=force)
    else:
        from laptime.trace.comparison import compare as compare_traces

        other = read_trace(compare, device=device)
        unsupported |= other.integrity.verdict == "unsupported"
        give(compare_traces(analysis, other), as_json=as_json, html=html, force=force)
    return 1 if unsupported else 0
