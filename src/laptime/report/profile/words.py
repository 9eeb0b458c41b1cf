"""A profile in sentences: the page and the terminal say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from laptime.data.record import STOP_REASONS, Environment, Sample, Scalar, SessionEnd
from laptime.data.run_folder import Run
from laptime.data.summary import Summary
from laptime.data.usable import BUSY_CORES, LEFT_OUT_REASONS
from laptime.report.kit.numbers import NOTHING, count, number, percent, text, whole_percent
from laptime.report.kit.text import counted

FEWEST_FOR_INTERVAL = 6
"""Below this many values the sign test gives no 95 % interval of a median (laptime.data.stats)."""

TOKENS = {
    "identical": "Greedy tokens with and without the timer are identical.",
    "different": "Greedy tokens with and without the timer DIFFER.",
    "unstable": "Greedy tokens can't be compared: also without the timer this model doesn't repeat its own tokens.",
}

TIME_NAMES = {
    "ttft_ms": "First token (TTFT)",
    "tpot_ms": "Per token (TPOT)",
    "itl_ms": "Between tokens (ITL)",
    "decode_per_token_ms": "Decode per token",
    "preprocess_ms": "Preprocessing",
}
"""What the times beside the stages are called in tables."""

MEANINGS: tuple[tuple[str, str], ...] = (
    ("Preprocessing", "(a serving engine) from a request's arrival until the engine's core was given it"),
    ("Queue", "(a serving engine) from then until it was first scheduled"),
    ("Vision", "from the vision tower's entry to the projector's exit, all crops and calls summed"),
    ("Audio", "the same for sound: from the audio encoder's entry to its projector's exit"),
    ("Encode", "the encoder of an encoder-decoder; what it does with images or sound by a function of its own is not "
               "counted here"),
    ("Prefill", "from the language model's entry in the first forward to the first token's logits, all chunks"),
    ("Decode", "from the first decode forward's entry to the last decode step's logits"),
    ("Other", "what no stage covers: set-up, merging embeddings, sampling, stopping checks. Never hidden or negative"),
    ("Total (E2E)", "from the entry of generate() to its return"),
    ("TTFT", "from the start to the first token chosen"),
    ("TPOT", "(last token − TTFT) / (N − 1), the mean of the gaps, with N output tokens counted from the returned ids"),
    ("Decode per token", "decode / (N − 1): N tokens need N − 1 decode forwards. With one token there is none, not 0"),
    ("ITL", "one value for each gap between tokens, from the TTFT to the last token; only with --per-token (in Python "
            "per_token=True)"),
    ("Preprocessing", "tokenizing and preparing images or sound, before the call and in no stage"),
    ("95 % interval", "of the median, from order statistics (sign test): no distribution is assumed. Below six "
                      "samples there is none, and a dash says so"),
    ("Share", "of the summed totals of the samples in the summary; the shares add up to 100 %"),
)  # fmt: skip
"""What each number of a profile means."""


SHARES = "Shares are of the summed time of these samples, so they can differ from those of the medians."


def time_name(name: str) -> str:
    """What a time is called in tables."""
    return TIME_NAMES.get(name, name.removesuffix("_ms").capitalize())


def headline(summary: Summary) -> str:
    """The point in one sentence: which stage takes the largest share, and how long the median call takes."""
    shares = {name: stage.share for name, stage in summary.stages.items() if name != "total"}
    if not shares or not summary.stages["total"].median.value:
        return "No sample was measured"
    largest = max(shares, key=lambda name: shares[name])
    subject = "What no stage covers" if largest == "other" else largest.capitalize()
    sentence = (
        f"{subject} takes {whole_percent(shares[largest])} of the time; the median call takes {total_text(summary)}"
    )
    if summary.ttft_ms is not None and "decode" in shares:
        sentence += f", its first token {text(summary.ttft_ms.value, 'ms')}"
    return sentence


def total_text(summary: Summary) -> str:
    """The median total for a sentence."""
    total = summary.stages.get("total")
    return text(total.median.value if total else None, "ms")


def facts(run: Run, summary: Summary) -> list[str]:
    """The facts under the headline: machine, software, how many samples, when."""
    environment = run.info.environment
    machine = environment.gpu if environment.gpu and environment.device != "cpu" else environment.cpu
    left_out = summary.measured - summary.used
    knobs = [f"{key.replace('_', ' ')} {value}" for key, value in run.info.config.items()
             if key in {"dtype", "batch", "new_tokens"} and value is not None]  # fmt: skip
    return [
        machine,
        *knobs,
        *([f"torch {environment.torch}"] if environment.torch else []),
        counted(summary.used, "flagged sample" if summary.all_flagged else "sample")
        + (f", {count(left_out)} left out" if left_out else ""),
        created(run),
    ]


def model_name(run: Run) -> str:
    """The model as the configuration names it."""
    return str(run.info.config.get("model") or "profile")


def created(run: Run) -> str:
    """When the run began, in UTC."""
    try:
        moment = datetime.fromtimestamp(run.info.created_unix_ms / 1e3, tz=timezone.utc)
    except (OverflowError, ValueError, OSError):
        return NOTHING
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def closure_sentence(samples: Sequence[Sample]) -> str:
    """Whether the stages of every sample add up to its total, to the nanosecond."""
    closing = sum(sample.stages.closes() for sample in samples)
    if closing == len(samples):
        return f"Closure: the stages of all {counted(closing, 'call')} add up to the total, to the nanosecond."
    return f"Closure fails: the stages add up to the total in only {closing} of {counted(len(samples), 'call')}."


def session_sentence(end: SessionEnd) -> str:
    """Warm-up, repeats, why measuring stopped, and whether the tokens were checked."""
    steady = "until they were steady" if end.steady else "but they did not become steady, so samples are flagged cold"
    inputs = "the inputs" if end.inputs is None else counted(end.inputs, "input")
    whole = "whole " if end.stopped == "time-limit" else ""  # a pass that it was in has calls too
    calls = "" if whole or end.inputs is None else f" ({counted(end.inputs * end.repeats, 'call')})"
    passes = counted(end.repeats, f"{whole}pass", f"{whole}passes")
    sentence = f"Warm-up: {counted(end.warmups, 'call')}, {steady}. Then {passes} "
    sentence += f"over {inputs}{calls}; it stopped because {STOP_REASONS[end.stopped]}"
    if end.half_width is not None:
        sentence += f" (half-width {percent(end.half_width)} of the median)"
    return f"{sentence}. {TOKENS[end.tokens]}" if end.tokens else f"{sentence}."


def left_out_lines(summary: Summary) -> list[str]:
    """How many samples count, why the others don't, and what flags those carry that count."""
    left = summary.measured - summary.used
    line = f"{count(summary.used)} of {counted(summary.measured, 'sample')}"
    if summary.all_flagged:
        line += ", flagged ones since none was clean"
        lines = [f"{line}; {count(left)} left out:" if left else f"{line}."]
    else:
        lines = [f"{line}; {count(left)} left out:" if left else f"{line}, none left out."]
    lines += [
        f"  {count(samples)} {reason}: {LEFT_OUT_REASONS.get(reason, 'flagged')}"
        for reason, samples in summary.measured_left_out.items()
    ]
    if sum(summary.measured_left_out.values()) > left:
        lines.append("  (a sample can have several of these reasons, so their counts overlap)")
    if summary.warm_ups:
        lines.append(f"Not counted as samples: {counted(summary.warm_ups, 'warm-up call')}.")
    return lines


def unclean_sentence(summary: Summary) -> str | None:
    """That every number is of flagged samples; None where clean ones were used. It belongs right below the headline."""
    if not summary.all_flagged:
        return None
    carried = ", ".join(f"{count(samples)} {flag}" for flag, samples in summary.used_flags.items())
    return f"No sample was clean: these numbers are from flagged ones{f' ({carried})' if carried else ''}."


def cut_sentence(summary: Summary) -> str | None:
    """How many answers ended at the limit on new tokens; None where nothing else could end them."""
    if summary.cut_short is None:
        return None
    return f"{count(summary.cut_short)} of {counted(summary.used, 'sample')} reached the limit on new tokens."


def gaps_sentence(summary: Summary) -> str | None:
    """Why the median gap and TPOT can differ; None where gaps were not measured."""
    if summary.itl_p50_ms is None or summary.tpot_ms is None:
        return None
    said = "ITL is the median of single gaps, TPOT the mean gap of a call"
    return f"{said}: a few long gaps raise only TPOT." if summary.tpot_ms.value > summary.itl_p50_ms else f"{said}."


def neighbours_sentence(end: SessionEnd) -> str | None:
    """That other processes used the CPU during the run; None where they didn't, or it isn't known."""
    if end.foreign_cores is None or end.foreign_cores < BUSY_CORES:
        return None
    return (
        f"Other processes used {number(end.foreign_cores)} cores on average while this run was measured; "
        "calls below 0.1 s can't be flagged for it one by one."
    )


def rates_sentence(summary: Summary) -> str:
    """What each "tokens/s" is."""
    sentence = "Tokens/s: new tokens of all rows over the whole calls"
    if summary.prefill_tokens_per_s is not None:
        sentence += "; of prefill: the prompts' tokens, image tokens included and cached ones not, over prefill"
    if summary.decode_tokens_per_s is not None:
        sentence += "; of decode: the tokens after each row's first, over decode"
    return sentence + "."


def load_sentence(session: Mapping[str, Scalar]) -> str | None:
    """How long loading the model took; None where it isn't known."""
    load_s = session.get("load_s")
    if not isinstance(load_s, int | float):
        return None
    return f"Loading the model took {text(load_s, 's')}, once, from the call to its weights on the device."


def threads_hint(run: Run, summary: Summary) -> str | None:
    """That torch's threads may wait for one another on a busy CPU; None where nothing points to it."""
    threads = run.info.environment.torch_threads or 1
    disturbed = summary.left_out.get("foreign-process", 0) + summary.used_flags.get("foreign-process", 0)
    if run.info.environment.device != "cpu" or threads < 2 or 2 * disturbed < summary.samples:
        return None
    return f"Other processes used the CPU in {count(disturbed)} of {counted(summary.samples, 'call')}. {_busy(threads)}"


def early_threads_hint(environment: Environment, sample: Sample) -> str | None:
    """The same after a warm-up call, while stopping still saves time; None where the call doesn't point to it."""
    threads = environment.torch_threads or 1
    if environment.device != "cpu" or threads < 2 or sample.repeat >= 0 or "foreign-process" not in sample.flags:
        return None
    return f"Other processes used the CPU in a warm-up call of {text(sample.stages.total_ms, 'ms')}. {_busy(threads)}"


def _busy(threads: int) -> str:
    return (
        f"On a busy CPU the {threads} threads of torch may wait for one another at each step; OMP_NUM_THREADS=1 can "
        "be faster there."
    )


def few_samples_sentence(summary: Summary) -> str | None:
    """That there are too few samples for intervals; None when there are enough, or none at all."""
    if not 0 < summary.used < FEWEST_FOR_INTERVAL:
        return None
    samples = counted(summary.used, "usable sample")
    return f"Only {samples}: too few for a 95 % interval ({FEWEST_FOR_INTERVAL} are needed)."
