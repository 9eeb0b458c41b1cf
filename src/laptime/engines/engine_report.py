"""From what an engine's marks say to a report: levels, steps, other programs' figures beside. Pure functions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

import msgspec

from laptime.data.finding import Finding
from laptime.data.line_file import LineFile
from laptime.data.record import STAGES, Interval, Scalar
from laptime.data.run_folder import RunFolder, new_info, read_info
from laptime.data.stats import median_interval
from laptime.engines.engine_result import Beside, EngineLevel, EngineReport, StageFigure, StepFigures
from laptime.engines.engine_run import EngineRun, read_engine_run
from laptime.engines.joined import JoinedRequests, join_client, sample_of
from laptime.engines.life import SPAN_WORDS, RequestLife, lives_of
from laptime.engines.request import RequestSample, between_ms
from laptime.engines.step import StepSample
from laptime.errors import LaptimeError
from laptime.measure.host import describe_host

OUT_OF_ORDER_MS = 0.1
DRAWN = 60
"""Requests that the page draws at most."""


def engine_report(folder: str | Path, client: str | Path | None = None) -> EngineReport:
    """What the plug-in wrote to `folder`; with `client`, a run folder of serve-bench, from end to end.

    Raises LaptimeError for what can't be read, and where no request can be followed.
    """
    run = read_engine_run(folder)
    joined = join_client(run, None if client is None else Path(client))
    steps = run.steps.get(0, [])
    lives, missing = lives_of(joined.requests, steps)
    if not lives:
        raise LaptimeError(f"{folder}: no request can be followed ({len(run.requests)} ended, {len(steps)} steps)")
    drawn = _drawn(lives)
    levels = [_level(name, [life for life in lives if life.request.load == name]) for name in _names(lives)]
    return EngineReport(
        source=str(folder),
        client=None if client is None else str(client),
        engine=run.infos[0].engine,
        version=run.infos[0].version,
        clock_error_ns=max(info.clock_error_ns for info in run.infos),
        cross_host=joined.cross_host,
        requests=len(lives),
        left_out=_left_out(joined, missing),
        levels=levels,
        steps=_step_figures(run, lives),
        waiting_most=max((one.waiting for one in run.load), default=None),
        cache_share_most=max((one.cache_share for one in run.load), default=None),
        findings=list(_findings(levels, joined, missing)),
        lives=drawn,
        shown_steps=_lived_through(drawn, steps),
    )


def write_run(folder: str | Path, client: str | Path | None, out: str | Path) -> None:
    """Write a run folder with a sample for each request, its stages in it, and the steps beside.

    Raises LaptimeError as engine_report does, and for a folder that can't hold a run.
    """
    run = read_engine_run(folder)
    joined = join_client(run, None if client is None else Path(client))
    lives, _ = lives_of(joined.requests, run.steps.get(0, []))
    config: dict[str, Scalar] = {"engine": run.infos[0].engine, "engine_version": run.infos[0].version}
    if client is not None:
        config |= read_info(client).config
    info = new_info(sys.argv, config, describe_host(), {"engine_folder": str(folder), "planned": len(lives)})
    with RunFolder(out, info, "engine") as written:
        written.begin()
        written.append_all([sample_of(life, config, "engine") for life in lives])
        written.write_summary()
        for name, values in (("requests", [life.request for life in lives]), ("steps", run.steps.get(0, []))):
            lines = LineFile(Path(out) / f"{name}-engine.jsonl")
            lines.append(b"\n".join(msgspec.json.encode(value) for value in values))
            lines.close()


def _names(lives: Sequence[RequestLife]) -> list[str]:
    return list(dict.fromkeys(life.request.load for life in lives))


def _level(name: str, lives: Sequence[RequestLife]) -> EngineLevel:
    requests = [life.request for life in lives]
    totals = [life.total_ns / 1e6 for life in lives]
    mean = sum(totals) / len(totals)
    stepped = all(life.steps is not None for life in lives)
    per_token = [
        life.stages["decode"] / 1e6 / (life.request.output_tokens - 1)
        for life in lives
        if life.request.output_tokens is not None and life.request.output_tokens > 1 and "decode" in life.stages
    ]
    return EngineLevel(
        name=name,
        requests=len(lives),
        total=_figure(totals, mean),
        stages={
            stage: _figure([life.stages.get(stage, 0) / 1e6 for life in lives], mean)
            for stage in STAGES
            if any(life.stages.get(stage) for life in lives)
        },
        kinds={
            kind: sum(life.kinds.get(kind, 0) for life in lives) / len(lives) / 1e6
            for kind in SPAN_WORDS
            if any(life.kinds.get(kind) for life in lives)
        },
        cost_ms=sum(life.cost_ns or 0 for life in lives) / len(lives) / 1e6 if stepped else None,
        ttft_ms=median_interval([life.ttft_ns / 1e6 for life in lives]),
        decode_per_token_ms=median_interval(per_token) if per_token else None,
        prompt_tokens_mean=_mean([request.prompt_tokens for request in requests]),
        output_tokens_mean=_mean([request.output_tokens for request in requests]),
        cached_share=_cached(requests),
        tokens_per_step=_tokens_per_step(lives),
        chunked=sum((life.prefill_steps or 0) > 1 and "preempted" not in life.request.flags for life in lives)
        if stepped
        else None,
        preempted=sum("preempted" in request.flags for request in requests),
        shared=sum("shared-step" in request.flags for request in requests) if stepped else None,
        out_of_order_ms=max(life.out_of_order_ns for life in lives) / 1e6,
        beside=list(_beside(lives)),
    )


def _figure(values: Sequence[float], total_mean: float) -> StageFigure:
    mean = sum(values) / len(values)
    return StageFigure(median=median_interval(values), mean_ms=mean, share=mean / total_mean if total_mean else 0.0)


Times = Callable[[RequestLife], float | None]


def _said(name: str) -> Times:
    def read(life: RequestLife) -> float | None:
        value = life.request.engine.get(name)
        return float(value) * 1e3 if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    return read


def _beside(lives: Sequence[RequestLife]) -> Iterator[Beside]:
    """Figures that others give of the same requests, and what the difference is by definition."""

    def ttft(life: RequestLife) -> float | None:
        return between_ms(life.request.arrival, life.request.first_token)

    def waited(life: RequestLife) -> float | None:
        return between_ms(life.request.arrival, life.request.scheduled)

    def to_first(life: RequestLife) -> float | None:
        return life.stages.get("prefill", 0) / 1e6 + life.stages.get("vision", 0) / 1e6

    def decode(life: RequestLife) -> float | None:
        return between_ms(life.request.first_token, life.request.last_token)

    def whole(life: RequestLife) -> float | None:
        return between_ms(life.request.arrival, life.request.delivered)

    def per_token(life: RequestLife) -> float | None:
        time, tokens = decode(life), life.request.output_tokens
        return time / (tokens - 1) if time is not None and tokens is not None and tokens > 1 else None

    def client_ttft(life: RequestLife) -> float | None:
        return life.request.ttft_ms

    def client_tpot(life: RequestLife) -> float | None:
        return life.request.tpot_ms

    def own_ttft(life: RequestLife) -> float | None:
        return life.ttft_ns / 1e6

    asked: tuple[tuple[str, str, Times, Times, str], ...] = (
        ("queue", "vLLM queued_time", waited, _said("queued_time"),
         "it begins when the core takes the request in, so it leaves out preprocessing and the wait for the step that "
         "runs"),
        ("TTFT from arrival", "vLLM Prometheus", ttft, _said("time_to_first_token"),
         "the same two ends; it is taken when the front end handles the token, on the wall clock"),
        ("prefill", "vLLM prefill_time", to_first, _said("prefill_time"),
         "it counts from scheduling to the core's output, so it holds vision, the start of the step and its end"),
        ("decode, first to last token", "vLLM decode_time", decode, _said("decode_time"), "the same two instants"),
        ("time per token", "vLLM mean_time_per_output_token", per_token, _said("mean_time_per_output_token"),
         "the same; with one token it says 0, where there is none"),
        ("end to end", "vLLM e2e_latency", whole, _said("e2e_latency"), "the same two ends, on the wall clock"),
        ("TTFT from due", "the client", own_ttft, client_ttft,
         "the way out: detokenising, HTTP, and a first chunk that waits for whole characters"),
        ("time per token", "the client's TPOT", per_token, client_tpot,
         "chunks that hold several tokens, and their way out"),
    )  # fmt: skip
    for name, whose, here, there, why in asked:
        pairs = [(a, b) for life in lives if (a := here(life)) is not None and (b := there(life)) is not None]
        if pairs:
            differences = [b - a for a, b in pairs]
            yield Beside(
                name=name,
                whose=whose,
                here_ms=median(a for a, _ in pairs),
                there_ms=median(b for _, b in pairs),
                difference_ms=median(differences),
                largest_ms=max(differences, key=abs),
                n=len(pairs),
                why=why,
            )


def _step_figures(run: EngineRun, lives: Sequence[RequestLife]) -> StepFigures | None:
    first, last = min(life.spans[0].begin for life in lives), max(life.spans[-1].end for life in lives)
    steps = [step for step in run.steps.get(0, []) if first <= step.begin <= last]
    if not steps:
        return None
    gaps = [
        (after.begin - before.end) / 1e6
        for before, after in pairwise(steps)
        if {row.number for row in before.rows} & {row.number for row in after.rows}
    ]
    kinds = {True: [step for step in steps if step.mixed], False: [step for step in steps if not step.mixed]}
    return StepFigures(
        steps=len(steps),
        mixed=len(kinds[True]),
        with_images=sum(step.encoder is not None for step in steps),
        busy_ms=sum(step.end - step.begin for step in steps) / 1e6,
        gap=median_interval(gaps) if gaps else None,
        gaps_ms=sum(gaps),
        decode_step=_lengths([step for step in kinds[False] if not step.rows[0].prefill]),
        prefill_step=_lengths([step for step in kinds[False] if step.rows[0].prefill]),
        mixed_step=_lengths(kinds[True]),
        tokens_mean=sum(step.tokens for step in steps) / len(steps),
        requests_mean=sum(len(step.rows) for step in steps) / len(steps),
        requests_most=max(len(step.rows) for step in steps),
        skew=_skew(run),
        workers=len(run.steps),
    )


def _lengths(steps: Sequence[StepSample]) -> Interval | None:
    return median_interval([(step.end - step.begin) / 1e6 for step in steps]) if steps else None


def _skew(run: EngineRun) -> Interval | None:
    """How far apart several workers ended the same step; None for one worker."""
    if len(run.steps) < 2:
        return None
    ends: dict[int, list[int]] = {}
    for steps in run.steps.values():
        for step in steps:
            ends.setdefault(step.number, []).append(step.end)
    apart = [(max(one) - min(one)) / 1e6 for one in ends.values() if len(one) == len(run.steps)]
    return median_interval(apart) if apart else None


def _findings(
    levels: Sequence[EngineLevel], joined: JoinedRequests, missing: Sequence[RequestSample]
) -> Iterator[Finding]:
    if joined.cross_host:
        yield Finding(
            code="cross-host",
            severity="warning",
            message="client and engine ran on different hosts (or an older laptime wrote the client's run), so their "
            "clocks are not joined; the lives begin at the engine",
        )
    for level in levels:
        if level.out_of_order_ms > OUT_OF_ORDER_MS:
            yield Finding(
                code="out-of-order",
                severity="severe",
                message=f"{level.name}: an instant precedes the one before it by {level.out_of_order_ms:.3f} ms, so "
                "clocks are not joined well; the parts around it are wrong by that much",
            )
        beside = level.kinds.get("beside-prefill", 0.0) + level.kinds.get("stalled", 0.0)
        if beside > 0.1 * level.total.mean_ms:
            yield Finding(
                code="others-prefill",
                severity="info",
                message=f"{level.name}: {100 * beside / level.total.mean_ms:.0f} % of the mean request's time it "
                "decoded beside another request's prompt, or waited for steps without it",
            )
        if level.cached_share is not None and level.cached_share > 0.05:
            yield Finding(
                code="cached-prefixes",
                severity="info",
                message=f"{level.name}: {100 * level.cached_share:.0f} % of the prompt tokens came from the prefix "
                "cache",
            )
        if level.preempted:
            yield Finding(
                code="preempted",
                severity="warning",
                count=level.preempted,
                message=f"{level.name}: {level.preempted} of {level.requests} requests were preempted and computed "
                "again; the cache of keys and values is too small for this load",
            )
    if missing:
        yield Finding(
            code="not-followed",
            severity="info",
            count=len(missing),
            message=f"{len(missing)} requests have no steps or lack an instant (aborted, or before the marks began)",
        )


def _left_out(joined: JoinedRequests, missing: Sequence[RequestSample]) -> dict[str, int]:
    counts = {
        "failed at the client": len(joined.failed),
        "unknown to the engine": 0 if joined.cross_host else joined.client_only,
        "not of this client": 0 if joined.cross_host else joined.engine_only,
        "not followed": len(missing),
    }
    return {name: count for name, count in counts.items() if count}


def _drawn(lives: Sequence[RequestLife]) -> list[RequestLife]:
    """The first requests of the last load, without their texts: a report holds figures."""
    last = [life for life in lives if life.request.load == lives[-1].request.load]
    first = sorted(last, key=lambda life: life.spans[0].begin)[:DRAWN]
    without = [msgspec.structs.replace(life.request, text=None, chunks=[]) for life in first]
    return [msgspec.structs.replace(life, request=request) for life, request in zip(first, without, strict=True)]


def _lived_through(lives: Sequence[RequestLife], steps: Sequence[StepSample]) -> list[StepSample]:
    first, end = lives[0].spans[0].begin, max(life.spans[-1].end for life in lives)
    return [step for step in steps if step.end > first and step.begin < end]


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _cached(requests: Sequence[RequestSample]) -> float | None:
    pairs = [(r.cached_tokens, r.prompt_tokens) for r in requests if r.cached_tokens is not None and r.prompt_tokens]
    return sum(cached for cached, _ in pairs) / sum(prompt for _, prompt in pairs) if pairs else None


def _tokens_per_step(lives: Sequence[RequestLife]) -> float | None:
    known = [(tokens - 1, life.decode_steps or 0) for life in lives if (tokens := life.request.output_tokens or 0) > 1]
    steps = sum(count for _, count in known)
    return sum(tokens for tokens, _ in known) / steps if steps else None
