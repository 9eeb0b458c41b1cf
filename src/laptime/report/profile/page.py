"""The page of a profile: where the time of generate() goes, in one picture, and everything that stands behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from laptime.data.percentiles import asked_percentiles, percentiles
from laptime.data.record import Interval, Sample
from laptime.data.run_folder import Run
from laptime.data.subtraction import summarise_subtraction
from laptime.data.summary import Summary, summarise
from laptime.data.usable import LEFT_OUT_REASONS
from laptime.report.kit.environment import environment_section
from laptime.report.kit.html import Html, card, cards, chart, definitions, details, join, note, section, table, tag
from laptime.report.kit.numbers import NOTHING, count, interval_ends, number, percent, quantity, text
from laptime.report.kit.page import asset, chart_scripts, document
from laptime.report.kit.text import counted, shortened
from laptime.report.profile.data import in_order, profile_data, shown_stages, stage_bar, stage_legend, stage_swatches
from laptime.report.profile.subtraction import subtraction_section
from laptime.report.profile.words import (
    MEANINGS,
    closure_sentence,
    created,
    cut_sentence,
    facts,
    few_samples_sentence,
    gaps_sentence,
    headline,
    load_sentence,
    model_name,
    neighbours_sentence,
    rates_sentence,
    session_sentence,
    threads_hint,
    time_name,
    unclean_sentence,
)


def profile_page(run: Run) -> str:
    """The whole page as one HTML document."""
    summary = run.summary
    subtraction = summarise_subtraction(run.subtractions)
    samples = in_order(run.samples)
    environment = run.info.environment
    neighbours = [note(said, kind="warning") for end in run.sessions if (said := neighbours_sentence(end))]
    return document(
        title=shortened(model_name(run), 200),
        headline=headline(summary),
        meta=facts(run, summary),
        lead=join(*neighbours, lead_picture(summary)),
        sections=[
            *(samples_sections(samples) if samples else []),
            *percentiles_section(run),
            *([host_section(samples, environment.device)] if samples else []),
            *([subtraction_section(subtraction)] if subtraction else []),
            flags_section(
                samples, summary, [(shortened(f.sample_id, 200), shortened(f.error, 500)) for f in run.failures]
            ),
            how_taken(run, samples, summary),
            environment_section(run),
        ],
        data=profile_data(run, summary),
        scripts=[
            *chart_scripts(),
            asset("profile/stage_rows.js"),
            asset("kit/charts/pair_scatter.js"),
            asset("profile/page.js"),
        ],
        styles=[asset("profile/page.css")],
        footer=[f"laptime {run.info.laptime}", f"environment {environment.fingerprint()}", created(run)],
    )


def lead_picture(summary: Summary) -> Html:
    """The one big bar, its legend, and the cards."""
    if not summary.used:
        return note("The run holds no finished sample. The section Flags says what failed, and why.", kind="warning")
    mean = text(summary.stages["total"].mean, "ms")
    few = few_samples_sentence(summary)
    said = [line for line in (cut_sentence(summary), gaps_sentence(summary), rates_sentence(summary)) if line]
    unclean = unclean_sentence(summary)
    return join(
        note(unclean, kind="warning") if unclean else None,
        stage_bar(summary.mean_stages_ms),
        stage_legend(summary.mean_stages_ms),
        tag("p", f"The mean of {counted(summary.used, 'sample')}: {mean}. Every share is of their summed time.",
            class_="hero-note"),
        summary_cards(summary),
        tag("p", " ".join(said), class_="hero-note"),
        note(few) if few else None,
    )  # fmt: skip


def summary_cards(summary: Summary) -> Html:
    """The figures that people compare, with their intervals."""
    rate = card("Throughput", number(summary.tokens_per_s), "tokens/s", "generated tokens over summed time")
    preparing = None
    if summary.preprocess_ms is not None:
        preparing = _interval_card("Preprocessing", summary.preprocess_ms, "ms", "before the call, in no stage")
    rates = [
        card(f"{name} rate", number(value), "tokens/s", of)
        for name, value, of in (
            ("Prefill", summary.prefill_tokens_per_s, "prompt tokens over prefill"),
            ("Decode", summary.decode_tokens_per_s, "tokens after a row's first over decode"),
        )
        if value is not None
    ]
    rounds: list[Html | None] = []
    if (drafting := summary.drafting) is not None:
        kept = "no token was drafted"
        if drafting.acceptance is not None:
            kept = f"{percent(drafting.acceptance)} of the drafted tokens kept"
        rounds = [
            _interval_card("Draft", drafting.draft_ms, "ms", "of decode: making candidates"),
            _interval_card("Verify", drafting.verify_ms, "ms", "of decode: forwards over them"),
            card("Tokens per forward", number(drafting.tokens_per_forward), "", kept),
        ]
    gaps = None
    if summary.itl_p50_ms is not None:
        value, unit = quantity(summary.itl_p50_ms, "ms")
        gaps = card("Between tokens (ITL)", value, unit, f"p95 {text(summary.itl_p95_ms, 'ms')}")
    memory, memory_unit = quantity(summary.memory_peak_bytes, "bytes")
    energy_note = "no energy counter, or calls too short for it"
    if summary.energy_j is not None:
        energy_note = f"{text(summary.energy_per_token_j, 'J')} a token"
    return cards(
        _interval_card("First token (TTFT)", summary.ttft_ms, "ms", "start to the first token chosen"),
        _interval_card("Per token (TPOT)", summary.tpot_ms, "ms", "(last token − TTFT) / (N − 1)"),
        gaps,
        preparing,
        rate,
        *rounds,
        *rates,
        card("Peak memory", memory, memory_unit, "highest during a call" if memory_unit else "not known"),
        card("Energy per call", *quantity(summary.energy_j.value if summary.energy_j else None, "J"), energy_note),
    )


def percentiles_section(run: Run) -> list[Html]:
    """The percentiles that were asked for, if any."""
    wanted = asked_percentiles(run.info.session)
    chosen = percentiles(run.samples, wanted)
    if not chosen:
        return []
    rows = [
        [time_name(name), *(text(ms, "ms") for ms in values.values())]
        for name, values in chosen.items()
        if any(values.values())
    ]
    heads = ["time", *next(iter(chosen.values()))]
    return [section("Percentiles", table(heads, rows, numeric=range(1, len(heads))), id="percentiles")]


def samples_sections(samples: Sequence[Sample]) -> list[Html]:
    """The parts that scripts draw: a bar for each sample, distributions, token gaps, the run in order."""
    per_token = any(sample.itl_ms for sample in samples)
    has_gpu = any(sample.gpu for sample in samples)
    return [
        section(
            "Every sample",
            toolbar(samples),
            stage_swatches(shown_stages([sample.stages for sample in samples])),
            chart("stage-rows", "A bar for each sample, divided by stage"),
            id="samples",
            lead="A row is one generate() call. Point at it for every figure; pale rows are left out of the summary.",
        ),
        section(
            "Distributions",
            tag("div", id="distributions"),
            id="distribution-section",
            lead="In milliseconds, each on its own scale. Line: median; band: its 95 % interval; dashes: 95th "
            "percentile. Full colour: what the filter above shows of the samples in the summary; pale: the others, "
            "warm-up calls too. They don't set the scale.",
        ),
        section(
            "Between tokens",
            chart("token-gaps", "Time before each output token: median and 5th to 95th percentile")
            if per_token
            else note(
                "Not measured: it takes an event at every step, and a second token. Add --per-token (in Python "
                "per_token=True)."
            ),
            id="itl",
            lead="Time before each output token, over the samples of the summary: median, and 5th to 95th percentile.",
        ),
        section(
            "Over the run",
            chart("run-order", "Total, clocks, temperature and power in the order of the samples"),
            None if has_gpu else note("Clocks, temperature and power are read from NVIDIA GPUs only."),
            id="run",
            lead="Samples in the order in which they were taken; hollow ones carry a flag (at the edge: beyond the "
            "axis). Drift means that the machine was not the same for all.",
        ),
    ]


def toolbar(samples: Sequence[Sample]) -> Html:
    """Filter by text and flags, and the order of the rows."""
    flags = sorted({flag for sample in samples for flag in sample.flags})
    clean = sum(not sample.flags for sample in samples)
    warm_ups = sum(sample.repeat < 0 for sample in samples)
    words = counted(len(samples) - warm_ups, "sample") + (f", {counted(warm_ups, 'warm-up call')}" if warm_ups else "")
    toggles = [
        tag("button", f"{flag} {count}", type="button", data_flag=flag, aria_pressed="false")
        for flag, count in [
            ("clean", clean),
            *((flag, sum(flag in sample.flags for sample in samples)) for flag in flags),
        ]
        if flags
    ]
    orders = [("order", "in run order"), ("total", "by total"),
              *((stage, f"by {stage}") for stage in shown_stages([s.stages for s in samples])),
              ("ttft", "by first token"), ("name", "by name")]  # fmt: skip
    return tag(
        "div",
        tag("input", type="search", id="filter", placeholder="Filter by sample, flag or output", autocomplete="off",
            aria_label="Filter samples"),
        tag("select", [tag("option", words, value=value) for value, words in orders], id="sort", aria_label="Order"),
        toggles,
        tag("span", words, id="count", class_="count", role="status", data_each="call" if warm_ups else "sample"),
        class_="toolbar",
    )  # fmt: skip


def _interval_card(label: str, interval: Interval | None, unit: str, hint: str) -> Html | None:
    value, shown = quantity(interval.value if interval else None, unit)
    if interval is None:
        return None
    ends = interval_ends(interval, unit)
    return card(
        label, value, shown, "too few samples for an interval" if ends == NOTHING else f"95 %: {ends}", hint=hint
    )


def host_section(samples: Sequence[Sample], device: str | None) -> Html:
    """The same marks as the host saw them pass: how far it ran ahead of the device."""
    title, id_ = "Host and device", "host"
    if device is None or device == "cpu":
        return section(title, id=id_, lead="This run was on a CPU: the host is the device, and there is one timeline.")
    on_device = summarise(samples)
    on_host = summarise([msgspec.structs.replace(sample, stages=sample.host_stages) for sample in samples])
    rows = [
        [
            tag("span", tag("span", class_=f"swatch {name}"), name.capitalize()),
            text(stage.median.value, "ms"),
            text(on_host.stages[name].median.value if name in on_host.stages else None, "ms"),
        ]
        for name, stage in on_device.stages.items()
        if stage.mean > 0
    ]
    return section(
        title,
        _two_bars(on_device, on_host) if rows else None,
        table(["median", "device", "host"], rows, numeric=[1, 2]),
        id=id_,
        lead="The device reaches a mark when it has done the work before it. The host passes the mark when it has "
        "asked for that work. A stage that is much shorter on the host was only queued there. Where both agree, the "
        "device waits for the host.",
    )


def _two_bars(device: Summary, host: Summary) -> Html:
    means = [("Device", device), ("Host", host)]
    longest = max(seen.stages["total"].mean for _, seen in means)
    cells = [
        [
            tag("span", name),
            stage_bar(seen.mean_stages_ms, height=22, scale_ms=longest, labels=False),
            tag("span", text(seen.stages["total"].mean, "ms")),
        ]
        for name, seen in means
    ]
    return tag("div", cells, class_="two-bars")


def how_taken(run: Run, samples: Sequence[Sample], summary: Summary) -> Html:
    """The section on method: one run, one clock; what each number means; the closure check; what disturbed it."""
    device = run.info.environment.device
    hint = threads_hint(run, summary)
    loading = load_sentence(run.info.session)
    on_cpu = device is None or device == "cpu"
    clock = "the host's monotonic clock" if on_cpu else "the device's event clock, and on the host's at the same place"
    resolved = "" if on_cpu else ", and resolved after the call with a single synchronize"
    return section(
        "How these numbers were taken",
        tag(
            "p",
            "Every number of a sample comes from one call of generate(), on one timeline. A mark is taken where one "
            f"stage ends and the next begins, on {clock}{resolved}. Stages are differences of these marks. "
            "No stage is obtained by subtracting separately timed runs.",
        ),
        _closure(samples),
        *[tag("p", session_sentence(end)) for end in run.sessions],
        tag("p", loading) if loading else None,
        note(hint) if hint else None,
        definitions(MEANINGS),
        id="method",
    )


def _closure(samples: Sequence[Sample]) -> Html:
    if not samples:
        return note("There is no sample to check.")
    closes = all(sample.stages.closes() for sample in samples)
    sentence = closure_sentence(samples)
    return note(f"✓ {sentence}", kind="good") if closes else note(sentence, kind="severe")


def flags_section(samples: Sequence[Sample], summary: Summary, failures: Sequence[tuple[str, str]]) -> Html:
    """Which samples carry which flags, what each flag means, and how many the summary left out."""
    carried: Counter[str] = Counter(flag for sample in samples if sample.repeat >= 0 for flag in sample.flags)
    rows = [
        [tag("span", reason, class_="mono"), count(max(carried[reason], left_out)), count(left_out), meaning]
        for reason, meaning in LEFT_OUT_REASONS.items()
        if (left_out := summary.measured_left_out.get(reason, 0)) or carried[reason]
    ]
    left = summary.measured - summary.used
    several = sum(summary.measured_left_out.values()) > left
    overlap = " A sample can have several of these reasons, so their counts overlap." if several else ""
    sentence = (
        f"{count(summary.used)} of {counted(summary.measured, 'sample')} are in the summary, "
        f"{count(left)} left out. Samples that are left out stay in the run and on this "
        f"page, but they don't count.{overlap}"
        if rows
        else f"No sample carries a flag: all {counted(summary.measured, 'sample')} are in the summary."
    )
    if summary.warm_ups:
        sentence += f" Not counted as samples: {counted(summary.warm_ups, 'warm-up call')}."
    return section(
        "Flags",
        table(["flag", "samples", "left out", "what it means"], rows, numeric=[1, 2]) if rows else None,
        details(
            f"{counted(len(failures), 'sample')} could not be measured",
            table(["sample", "error"], failures[:200]),
            open=len(failures) < 6,
        )
        if failures
        else None,
        id="flags",
        lead=sentence,
    )
