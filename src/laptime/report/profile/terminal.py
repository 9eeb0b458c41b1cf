"""What a person reads in the terminal: a run's summary, the cost of measuring, the environment.

Every function returns a rich renderable for `console.print`. It looks right from 80 columns on, and without
colour when it is piped. Strings from outside are put in as `Text`, so no markup or control character in them acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from laptime.data.percentiles import asked_percentiles, percentiles
from laptime.data.record import Environment, Overhead, StrategyCost
from laptime.data.run_folder import Run
from laptime.data.subtraction import summarise_subtraction
from laptime.data.summary import StageSummary, Summary
from laptime.report.kit.environment import environment_pairs
from laptime.report.kit.numbers import NOTHING, interval_ends, number, percent, text
from laptime.report.kit.terminal import BAR_CELLS, Column, bar, columns_table, facts_table, with_remarks
from laptime.report.kit.text import counted, one_line
from laptime.report.profile.subtraction import subtraction_sentence
from laptime.report.profile.words import (
    SHARES,
    closure_sentence,
    cut_sentence,
    few_samples_sentence,
    gaps_sentence,
    headline,
    left_out_lines,
    load_sentence,
    model_name,
    neighbours_sentence,
    rates_sentence,
    session_sentence,
    threads_hint,
    time_name,
    unclean_sentence,
)

STAGE_STYLES = {
    "preprocessing": "cyan",
    "queue": "white",
    "vision": "green",
    "audio": "magenta",
    "encode": "red",
    "prefill": "yellow",
    "decode": "blue",
    "other": "bright_black",
    "total": "",
}


def profile_report(run: Run) -> RenderableType:
    """A run: its point, its table, whether its samples close, how the session ended, and the error of subtraction."""
    lines = [closure_sentence(run.samples)] if run.samples else []
    lines += [session_sentence(end) for end in run.sessions]
    if loading := load_sentence(run.info.session):
        lines.append(loading)
    if (subtracted := summarise_subtraction(run.subtractions)) is not None:
        lines.append(subtraction_sentence(subtracted))
    summary = run.summary
    if hint := threads_hint(run, summary):
        lines.append(hint)
    table = profile_table(summary, title=model_name(run))
    report = with_remarks(table, [one_line(line, 600) for line in lines])
    chosen = percentiles(run.samples, asked_percentiles(run.info.session))
    if chosen:
        report = Group(report, percentiles_table(chosen))
    if not summary.used:
        return report
    neighbours = [Text(sentence, style="yellow") for end in run.sessions if (sentence := neighbours_sentence(end))]
    return Group(Text(headline(summary), style="bold"), *neighbours, report)


def profile_table(summary: Summary, *, title: str | None = None) -> RenderableType:
    """The summary of a run: a row for each stage, then the figures that people compare, then what was left out."""
    if not summary.samples:
        return Text("No sample was measured.")
    if not summary.used:
        return Text(f"Only warm-up calls were measured ({summary.samples}): there is nothing to summarise.")
    figures = (Column(head, numeric=True) for head in ("median", "95 % interval", "p95", "share"))
    table = columns_table(
        Column(narrow="keep", min_width=20), *figures, Column(narrow="keep", min_width=BAR_CELLS), title=title
    )
    for name, stage in summary.stages.items():
        if stage.mean > 0:  # a text-only model has no vision to show
            table.add_row(*_stage_cells(name, stage), end_section=name == "total")
    for row in _figure_rows(summary):
        table.add_row(*row)
    body = with_remarks(table, list(_remarks(summary)))
    unclean = unclean_sentence(summary)
    return body if unclean is None else Group(Text(unclean, style="bold yellow"), body)


def percentiles_table(chosen: Mapping[str, Mapping[str, float]]) -> RenderableType:
    """A row for each time, a column for each percentile that was asked for."""
    heads = list(next(iter(chosen.values())))
    table = columns_table(
        Column(narrow="keep", min_width=20), *(Column(head, numeric=True) for head in heads), title="Percentiles"
    )
    for name, values in chosen.items():
        if not any(values.values()):  # no vision to show
            continue
        table.add_row(time_name(name), *(text(ms, "ms") for ms in values.values()))
    return table


def overhead_table(overhead: Overhead) -> RenderableType:
    """What looking costs on this machine: unit costs, and what each way of measuring adds to one generate()."""
    units = columns_table("", "median", "95 % interval", title="Cost of one", numeric=(1, 2))
    for name, interval in (
        ("read of the host's clock", overhead.host_clock_us),
        ("step's call that takes no mark", overhead.idle_probe_us),
        ("mark (event and host clock)", overhead.mark_us),
        ("synchronize, device idle", overhead.synchronize_idle_us),
        ("synchronize, work queued", overhead.synchronize_drain_us),
    ):
        if interval is not None:
            units.add_row(name, text(interval.value, "µs"), interval_ends(interval, "µs"))
    tokens = sorted({cost.tokens for cost in overhead.strategies})
    added = columns_table(
        Column(narrow="keep"),
        *(Column(counted(tokens_of_call, "token"), numeric=True) for tokens_of_call in tokens),
        title="Added to one generate()",
    )
    for strategy in dict.fromkeys(cost.strategy for cost in overhead.strategies):
        costs = {cost.tokens: cost for cost in overhead.strategies if cost.strategy == strategy}
        added.add_row(Text(one_line(strategy, 60)), *(_added(costs.get(of_call)) for of_call in tokens))
    step = overhead.drained_step_us
    drain = "" if step is None else f"; the drain on a step of {text(step, 'µs')}"
    return Group(units, with_remarks(added, [Text(f"On {one_line(overhead.device, 80)}{drain}.", style="dim")]))


def environment_table(environment: Environment, packages: Mapping[str, str] | None = None) -> RenderableType:
    """Every known fact of the environment, and the fingerprint under which measurements may be compared.

    packages: installed versions by name.
    """
    table = facts_table(environment_pairs(environment))
    if packages:
        shown = [f"{name} {version}" for name, version in packages.items() if name not in ("torch", "transformers")]
        table.add_row("packages", Text(", ".join(shown)))
    table.add_row("fingerprint", Text(environment.fingerprint(), style="bold"))
    return table


def _stage_cells(name: str, stage: StageSummary) -> list[Text]:
    weight = "bold" if name == "total" else ""
    return [
        Text(name.capitalize(), style=weight),
        Text(text(stage.median.value, "ms"), style="bold"),
        Text(interval_ends(stage.median, "ms")),
        Text(text(stage.p95, "ms")),
        Text("" if name == "total" else percent(stage.share)),
        Text("" if name == "total" else bar(stage.share), style=STAGE_STYLES.get(name, "")),
    ]


def _figure_rows(summary: Summary) -> Iterable[tuple[str, str, str, str]]:
    for name, interval in (
        ("First token (TTFT)", summary.ttft_ms),
        ("Per token (TPOT)", summary.tpot_ms),
        ("Decode per token", summary.decode_per_token_ms),
    ):
        yield name, text(interval.value if interval else None, "ms"), interval_ends(interval, "ms"), ""
    if summary.itl_p50_ms is not None:
        yield "Between tokens (ITL)", text(summary.itl_p50_ms, "ms"), "", text(summary.itl_p95_ms, "ms")
    if summary.preprocess_ms is not None:
        ends = interval_ends(summary.preprocess_ms, "ms")
        yield "Preprocessing", text(summary.preprocess_ms.value, "ms"), ends, ""
    if (drafting := summary.drafting) is not None:
        for name, interval in (("Draft (of decode)", drafting.draft_ms), ("Verify (of decode)", drafting.verify_ms)):
            yield name, text(interval.value, "ms"), interval_ends(interval, "ms"), ""
        yield "Tokens per forward", number(drafting.tokens_per_forward), "", ""
        yield "Drafts kept", percent(drafting.acceptance), "", ""
    yield "Tokens/s", number(summary.tokens_per_s), "", ""
    if summary.prefill_tokens_per_s is not None:
        yield "Prefill tokens/s", number(summary.prefill_tokens_per_s), "", ""
    if summary.decode_tokens_per_s is not None:
        yield "Decode tokens/s", number(summary.decode_tokens_per_s), "", ""
    if summary.cached_tokens_mean is not None:
        yield "Cached of the prompt", f"{number(summary.cached_tokens_mean)} tokens", "", ""
    if summary.memory_peak_bytes is not None:
        yield "Peak memory", text(summary.memory_peak_bytes, "bytes"), "", ""
    if summary.energy_j is not None:
        yield "Energy per call", text(summary.energy_j.value, "J"), interval_ends(summary.energy_j, "J"), ""
        yield "Energy per token", text(summary.energy_per_token_j, "J"), "", ""


def _remarks(summary: Summary) -> Iterable[Text]:
    first, *others = left_out_lines(summary)
    yield Text(first)
    for line in others:
        yield Text(line, style="yellow")
    if cut := cut_sentence(summary):
        yield Text(cut)
    if gaps := gaps_sentence(summary):
        yield Text(gaps, style="dim")
    if summary.used > 1:
        yield Text(SHARES, style="dim")
    yield Text(rates_sentence(summary), style="dim")
    if few := few_samples_sentence(summary):
        yield Text(few, style="dim")


def _added(cost: StrategyCost | None) -> str:
    return text(cost.added_ms, "ms") if cost else NOTHING
