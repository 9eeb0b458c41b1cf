"""`laptime serve-bench URL`: how fast does an endpoint answer, under which load?"""

from __future__ import annotations

import os
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from laptime.cli.declared import argument, option
from laptime.cli.options import (
    INPUT,
    MEASURING,
    MODEL,
    OUTPUT,
    QUESTION,
    ForcePage,
    Html,
    Json,
    Seed,
    milliseconds,
    names,
)
from laptime.cli.options import share as parse_share
from laptime.cli.output import give
from laptime.data.files import check_new_file
from laptime.errors import LaptimeError

if TYPE_CHECKING:
    from laptime.engines.loads import Load
    from laptime.engines.result import Slo

LOAD = "Load"


class ApiName(str, Enum):
    """The two streaming interfaces."""

    chat = "chat"
    completions = "completions"


class Arrivals(str, Enum):
    """How requests of a rate arrive."""

    poisson = "poisson"
    constant = "constant"


def serve_bench(
    url: Annotated[str, argument(metavar="URL", help="The server: http://localhost:8000.")],
    concurrency: Annotated[
        str | None,
        option("--concurrency", metavar="N,N,...", help="Levels: N requests at once; default 1.", rich_help_panel=LOAD),
    ] = None,
    rate: Annotated[
        str | None, option("--rate", metavar="R,R,...", help="Levels: arrivals per second.", rich_help_panel=LOAD)
    ] = None,
    arrivals: Annotated[
        Arrivals, option("--arrivals", help="How the requests of --rate arrive.", rich_help_panel=LOAD)
    ] = Arrivals.poisson,
    ramp: Annotated[
        str | None,
        option("--ramp", metavar="R,R", help="One level whose rate grows from one to the other.", rich_help_panel=LOAD),
    ] = None,
    replay: Annotated[
        Path | None,
        option("--replay", metavar="FILE", help="Recorded arrivals, one time in seconds a line.", rich_help_panel=LOAD),
    ] = None,
    requests: Annotated[
        int, option("--requests", min=1, metavar="N", help="Of each level.", rich_help_panel=LOAD)
    ] = 100,
    find_load: Annotated[
        float | None,
        option(
            "--find-load",
            metavar="R",
            help="Search the largest rate within --slo, from this one.",
            rich_help_panel=LOAD,
        ),
    ] = None,
    slo: Annotated[
        str | None,
        option("--slo", metavar="LIMITS", help="ttft=200ms,tpot=30ms,total=2s,share=95%.", rich_help_panel=QUESTION),
    ] = None,
    api: Annotated[ApiName, option("--api", help="The interface.", rich_help_panel=MODEL)] = ApiName.chat,
    model: Annotated[
        str | None,
        option("--model", metavar="NAME", help="Default: the one that it offers.", rich_help_panel=MODEL),
    ] = None,
    api_key_env: Annotated[
        str | None,
        option(
            "--api-key-env", metavar="NAME", help="The environment variable that holds the key.", rich_help_panel=MODEL
        ),
    ] = None,
    prompt_tokens: Annotated[
        int,
        option("--prompt-tokens", min=1, metavar="N", help="Of made-up prompts, about.", rich_help_panel=INPUT),
    ] = 128,
    new_tokens: Annotated[
        int, option("--new-tokens", min=1, metavar="N", help="At most, of an answer.", rich_help_panel=INPUT)
    ] = 64,
    data: Annotated[
        Path | None, option("--data", metavar="FILE", help="Questions, as of a sweep.", rich_help_panel=INPUT)
    ] = None,
    body: Annotated[
        str | None,
        option(
            "--body",
            metavar="JSON",
            help="More fields of each request: '{\"ignore_eos\": true}'.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    fixed_prompt: Annotated[
        bool, option("--fixed-prompt", help="One prompt for all, so that caches work.", rich_help_panel=INPUT)
    ] = False,
    warmup: Annotated[
        int, option("--warmup", min=0, metavar="N", help="Requests before measuring.", rich_help_panel=MEASURING)
    ] = 2,
    timeout: Annotated[
        str,
        option("--timeout", metavar="TIME", help="A request is given up after it.", rich_help_panel=MEASURING),
    ] = "120s",
    resume: Annotated[
        bool, option("--resume", help="Go on: send only what --out lacks.", rich_help_panel=MEASURING)
    ] = False,
    seed: Seed = 0,
    out: Annotated[
        Path | None, option("--out", metavar="FOLDER", help="The run folder to write.", rich_help_panel=OUTPUT)
    ] = None,
    html: Html = None,
    force: ForcePage = False,
    as_json: Json = False,
) -> int:
    """How fast does an endpoint answer, under which load?

    It sends streaming requests of OpenAI's protocol to the address that you
    name, and to no other. A chunk is never taken for a token, failed requests
    are never left out, and the client measures its own lag.

    Example: laptime serve-bench http://localhost:8000 --concurrency 1,4,16

    Exit codes: 0 done, 1 no request was answered, 2 usage or no such server.
    """  # fmt: skip
    if find_spec("aiohttp") is None:
        raise LaptimeError("aiohttp is not installed but needed to send requests: pip install 'laptime[serve]'")
    import asyncio

    from laptime.cli.progress import progress
    from laptime.data.run_folder import check_free
    from laptime.engines.address import endpoint_url, model_of
    from laptime.engines.bench import ServeRequest, check_question
    from laptime.engines.bench import serve_bench as bench
    from laptime.engines.questions import Asking, of_examples

    check_new_file(html, "--html", force=force)
    if out is not None:
        check_free(out, resume=resume)
    loads = _loads(concurrency, rate, arrivals.value, ramp, requests, seed)
    if replay is not None:
        from laptime.engines.loads import replay as replayed

        loads.append(replayed(replay))
    if not loads and find_load is None:
        loads = _loads("1", None, arrivals.value, None, requests, seed)
    if find_load is not None and not 0 < find_load < float("inf"):
        raise LaptimeError(f"--find-load {find_load}: write a rate above 0")
    limits = None if slo is None else parse_slo(slo)
    extra, headers = _body(body), _headers(api_key_env)
    address, timeout_s = endpoint_url(url, api.value), milliseconds("--timeout", timeout) / 1e3
    check_question(resume=resume, out=out, first_per_s=find_load, slo=limits)
    examples = []
    if data is not None:
        from laptime.workload.reading import read_examples

        examples = read_examples(data)
    asking = Asking(
        api=api.value,
        model=model or asyncio.run(model_of(address, headers)),
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        extra=extra,
    )
    request = ServeRequest(
        url=url,
        asking=asking,
        loads=loads,
        questions=of_examples(asking, examples),
        headers=headers,
        timeout_s=timeout_s,
        warmup=warmup,
        slo=limits,
        first_per_s=find_load,
        search_requests=requests,
        fixed_prompt=fixed_prompt,
        seed=seed,
        resume=resume,
    )
    with progress() as show:
        report = bench(request, out, show)
    give(report, as_json=as_json, html=html, force=force)
    return 0 if any(level.finished for level in report.levels) else 1


def parse_slo(words: str) -> Slo:
    """Limits as ttft=200ms,tpot=30ms,total=2s,share=95%. Raises LaptimeError for anything else."""
    from laptime.engines.result import Slo

    limits: dict[str, float] = {}
    for part in names(words):
        name, _, value = part.partition("=")
        if name not in ("ttft", "tpot", "total", "share") or not value:
            raise LaptimeError(f"--slo {words}: {part!r} is no limit; write ttft=200ms,tpot=30ms,total=2s,share=95%")
        try:
            if name != "share" and _is_number(value):
                raise LaptimeError(f"--slo {words}: {part} says no unit; write {name}={value}s or {name}={value}ms")
            limit = parse_share("--slo", value) if name == "share" else milliseconds("--slo", value)
        except LaptimeError as error:
            raise LaptimeError(str(error).replace(f"--slo {value}", f"--slo {part}", 1)) from None
        limits["share" if name == "share" else f"{name}_ms"] = limit
    if not limits.keys() - {"share"}:
        raise LaptimeError(f"--slo {words}: names no time; write at least one of ttft=, tpot= and total=")
    return Slo(**limits)


def _is_number(words: str) -> bool:
    try:
        float(words)
    except ValueError:
        return False
    return True


def _loads(
    concurrency: str | None, rate: str | None, arrivals: str, ramp: str | None, requests: int, seed: int
) -> list[Load]:
    from laptime.engines import loads

    found = [loads.concurrency(int(n), requests) for n in _numbers("--concurrency", concurrency, whole=True)]
    for place, per_s in enumerate(_numbers("--rate", rate)):
        made = (
            loads.constant(per_s, requests) if arrivals == "constant" else loads.poisson(per_s, requests, seed + place)
        )
        found.append(made)
    ends = _numbers("--ramp", ramp)
    if len(ends) not in (0, 2):
        raise LaptimeError(f"--ramp {ramp}: write two rates, as 1,20")
    if ends:
        found.append(loads.ramp(ends[0], ends[1], requests))
    return found


def _numbers(option: str, words: str | None, *, whole: bool = False) -> list[float]:
    values: list[float] = []
    for word in names(words or ""):
        try:
            value = float(int(word) if whole else float(word))
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            kind = "whole numbers above 0" if whole else "numbers above 0"
            raise LaptimeError(f"{option} {words}: write {kind}, as 1,4,16")
        values.append(value)
    return values


def _headers(variable: str | None) -> dict[str, str]:
    if variable is None:
        return {}
    key = os.environ.get(variable)
    if not key:
        raise LaptimeError(f"--api-key-env {variable}: there is no such environment variable; export it first")
    return {"Authorization": f"Bearer {key}"}


def _body(words: str | None) -> dict[str, Any]:
    import msgspec

    try:
        return {} if words is None else msgspec.json.decode(words, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise LaptimeError(
            f"--body {words}: no JSON object ({error}); write it as '{{\"ignore_eos\": true}}'"
        ) from None
