"""What the verbs of the command line do, as functions with the same words. They return values and print nothing.

Every result goes to laptime.show (a report in the terminal), laptime.page (HTML) and laptime.to_json. Imports stand in
the functions, so that `import laptime` stays fast and what reads needs no torch. The file is long because it is the
one door: signatures, overloads and docstrings are most of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    import polars

    from laptime.audits.result import AuditReport
    from laptime.comparisons.result import Comparison
    from laptime.data.run_folder import Run
    from laptime.engines.engine_result import EngineReport
    from laptime.engines.result import ServeReport
    from laptime.estimate.budget import BudgetReport
    from laptime.estimate.predictor import Predictor
    from laptime.estimate.run_fit import FittedRun
    from laptime.remedy.result import RemedyReport
    from laptime.report.sweep.view import SweepView
    from laptime.sweeps.dry_run import DryRun
    from laptime.sweeps.merge import MergeReport
    from laptime.trace.ranks_result import RankAnalysis


ImageSize = str | tuple[int, int] | None
"""Width and height of an image, as "672x336" or (672, 336). None: the default of the kind of model."""


def profile(
    model: str,
    *,
    out: str | Path | None = None,
    samples: int = 20,
    prompt_tokens: int = 64,
    new_tokens: int = 32,
    image_size: ImageSize = None,
    batch: int = 1,
    data: str | Path | None = None,
    dtype: str = "auto",
    device: str = "auto",
    attention: str | None = None,
    cache: str | None = None,
    compile: bool = True,
    prefill_chunk: int | None = None,
    autocast: Literal["bfloat16", "float16"] | None = None,
    tf32: bool = False,
    vision_module: str | Sequence[str] | None = None,
    projector_module: str | Sequence[str] | None = None,
    language_module: str | None = None,
    trust_remote_code: bool = False,
    seed: int = 0,
    repeats: int = 5,
    precision: float = 0.01,
    time_limit: float = 600.0,
    max_warmups: int = 10,
    cache_policy: Literal["keep", "empty"] = "keep",
    per_token: bool = False,
    method: Literal["direct", "subtract", "both"] = "direct",
    verify: bool = False,
    image_tokens: int | None = None,
    audio_seconds: float | None = None,
    generate: Mapping[str, Any] | None = None,
    assistant: str | None = None,
    adapter: str | None = None,
    quantize: str | None = None,
    device_map: str | None = None,
    percentiles: Sequence[float] = (),
    progress: Callable[[str, int, int], None] = lambda phase, done, of: None,
) -> Run:
    """Measure where generate() spends its time on made-up or given inputs. Your own calls: laptime.StageTimer.

    model: a hub id, a local path, or "preset:NAME" (random weights, no download).
    out: the run folder to write while measuring; None keeps the run in memory.
    samples: different inputs. prompt_tokens: text tokens of each; image tokens come on top. batch: rows of a call.
    image_tokens: the most tokens of one image, where the family can choose. audio_seconds: the length of made-up
        sounds, for models that take some.
    data: JSON lines of {image, question} instead of made-up inputs.
    generate: further arguments of generate(), such as {"num_beams": 4}. assistant: a smaller model that drafts.
    adapter: a PEFT adapter's folder or hub id.
    quantize, device_map: how a checkpoint's weights are loaded. percentiles: of all times, shown beside the medians.
    vision_module, projector_module, language_module: where the parts are in the model, when they are not recognised;
        several towers or projectors are a list.
    precision: stop when the 95 % interval of the median total is this narrow (relative half-width), or after
    `repeats` passes over the inputs, or after `time_limit` seconds.
    per_token: mark every step, for ITL. verify: compare the tokens with those of the model without marks.
    progress: called after each call with (phase, done, of).
    Raises LaptimeError for what can't be measured, before anything runs where that can be known.

    Example: laptime.profile("preset:tiny-vlm", samples=8, per_token=True).summary
    """
    from laptime.errors import require_torch

    require_torch()
    from laptime.measure.profile import ProfileRequest
    from laptime.measure.profile import profile as measured
    from laptime.measure.session import MeasuringPlan

    plan = MeasuringPlan(
        max_warmups=max_warmups,
        max_repeats=repeats,
        precision=precision,
        time_limit_s=time_limit,
        cache_policy=cache_policy,
        autocast=autocast,
    )
    request = ProfileRequest(
        model=model,
        samples=samples,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        image_size=_size(image_size),
        batch=batch,
        data=None if data is None else Path(data),
        dtype=dtype,
        device=device,
        attention=attention,
        cache=cache,
        compile=compile,
        prefill_chunk=prefill_chunk,
        tf32=tf32,
        trust_remote_code=trust_remote_code,
        vision_module=vision_module,
        projector_module=projector_module,
        language_module=language_module,
        seed=seed,
        per_token=per_token,
        verify=verify,
        method=method,
        image_tokens=image_tokens,
        audio_s=audio_seconds,
        generate=dict(generate or {}),
        assistant=assistant,
        adapter=adapter,
        quantize=quantize,
        device_map=device_map,
        percentiles=tuple(percentiles),
        plan=plan,
    )
    return measured(request, out, progress)


@overload
def sweep(
    config: str | Path | Mapping[str, Any],
    *,
    out: str | Path,
    dry_run: Literal[False] = False,
    resume: bool = False,
    retry_failures: bool = False,
    executor: Literal["local", "torchrun", "ray"] = "local",
    workers: int = 1,
    ray_address: str | None = None,
) -> SweepView: ...


@overload
def sweep(
    config: str | Path | Mapping[str, Any],
    *,
    out: str | Path,
    dry_run: Literal[True],
    resume: bool = False,
    retry_failures: bool = False,
    executor: Literal["local", "torchrun", "ray"] = "local",
    workers: int = 1,
    ray_address: str | None = None,
) -> DryRun: ...


def sweep(
    config: str | Path | Mapping[str, Any],
    *,
    out: str | Path,
    dry_run: bool = False,
    resume: bool = False,
    retry_failures: bool = False,
    executor: Literal["local", "torchrun", "ray"] = "local",
    workers: int = 1,
    ray_address: str | None = None,
) -> SweepView | DryRun:
    """Measure a grid of knobs in interleaved rounds, and say what each knob buys.

    config: a YAML file, or a mapping with the same fields (docs/sweep.md). out: the run folder to write.
    dry_run: return the plan and an estimate of its time; nothing is measured.
    resume: measure what the folder lacks. retry_failures: with resume, also what failed before.
    workers: a GPU each, or a share of the cores. executor: who starts them.
    What a time limit left out is a finding of the result's audit ("missing-samples").
    Raises LaptimeError when the configuration, the model or the folder can't be used. KeyboardInterrupt keeps every
    finished sample.

    Example: laptime.sweep({"model": "preset:tiny-vlm", "knobs": {"top_k": [1, 4]}}, out="runs/sweep").summary.rows
    """
    import sys

    from laptime.report.sweep.page import write_sweep_report
    from laptime.report.sweep.view import read_sweep_view
    from laptime.sweeps.dry_run import dry_run as plan_sweep
    from laptime.sweeps.ledger import is_complete
    from laptime.sweeps.run import Execution
    from laptime.sweeps.run import sweep as measure

    folder = Path(out)
    execution = Execution(
        executor=executor,
        workers=workers,
        ray_address=ray_address,
        resume=resume,
        retry_failures=retry_failures,
    )
    if dry_run:
        return plan_sweep(config, folder, execution)
    measure(config, folder, execution, argv=sys.argv)
    whole = executor != "torchrun" or is_complete(folder)  # of several ranks the last one sees everything
    return write_sweep_report(folder) if whole else read_sweep_view(folder)


def audit(source: str | Path | polars.DataFrame) -> AuditReport:
    """Find which measurements are not valid, and why.

    source: a run folder, a Parquet or CSV table, the older JSON files, or a frame with one row for each sample.
    Raises LaptimeError for what can't be read as samples.

    Example: laptime.audit("runs/demo").findings
    """
    from laptime import audits

    if isinstance(source, (str, Path)):
        return audits.audit(source)
    return audits.audit_measurements(audits.measurements_of(source))


def compare(
    a: str | Path | Run,
    b: str | Path | Run,
    *,
    baselines: Sequence[str | Path | Run] = (),
    stage: str | None = None,
    min_effect: float = 0.02,
    confidence: float = 0.95,
) -> Comparison:
    """Say whether run B is faster or slower than run A, by how much, and how sure that is.

    a, b: run folders, or what laptime.load_run read of them.
    baselines: three or more further runs of A on this machine, which show how much its runs differ. Without them the
    verdict is inconclusive; laptime.compare_runs measures A and B in turns.
    stage: judge this one alone: a stage's name, "total" or "decode_per_token".
    min_effect: a smaller relative change counts as none (0.02 is 2 %).
    confidence: that all verdicts hold together, from 0.5 to below 1.
    Raises LaptimeError when the runs are not comparable.

    Example: laptime.compare("runs/main", "runs/branch", baselines=["runs/main2", "runs/main3", "runs/main4"]).verdict
    """
    from laptime.comparisons import compare_two_runs
    from laptime.comparisons.compared_run import load_compared

    first, second, *repeats = (load_compared(r) if isinstance(r, (str, Path)) else r for r in (a, b, *baselines))
    return compare_two_runs(first, second, baselines=repeats, stage=stage, min_effect=min_effect, confidence=confidence)


def compare_runs(
    a: Callable[..., Any],
    b: Callable[..., Any],
    *,
    out: str | Path,
    processes: int = 40,
    stage: str | None = None,
    min_effect: float = 0.02,
    confidence: float = 0.95,
    keep: Sequence[str] = (),
    progress: Callable[[Comparison, int], None] = lambda so_far, most: None,
) -> Comparison:
    """Measure A and B in turns, each time in a new process, until it is known whether B is faster or slower.

    a, b: called as a(out=FOLDER) in the new process, and write a run there; laptime.profile does. Functions of a
    module, or functools.partial of one.
    out: the folder to write; it gets a run folder for each process. processes: start at most this many.
    stage, min_effect, confidence: as for laptime.compare.
    keep: flags whose samples are used all the same ("foreign-process"); in turns they hit both sides alike.
    progress: called after each pair of processes with the comparison so far, and with how many processes there are at
    most.
    Raises LaptimeError when a process fails or an option makes no sense. KeyboardInterrupt ends it early: the
    comparison of what is finished comes back.

    Example: laptime.compare_runs(partial(laptime.profile, "m"), partial(laptime.profile, "m", tf32=True), out="runs/c")
    """
    from laptime.comparisons.launches import TurnsPlan, callable_launch, measure_turns, turn_order
    from laptime.estimate.table.reading import kept_flags

    plan = TurnsPlan(
        a=_call_name(a),
        b=_call_name(b),
        order=turn_order(processes),
        stage=stage,
        min_effect=min_effect,
        confidence=confidence,
        keep=sorted(kept_flags(keep)),
    )
    launch = {"A": callable_launch(a, "a"), "B": callable_launch(b, "b")}
    return measure_turns(plan, Path(out), launch, progress)


def _call_name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else str(function)[:200]


def merge(runs: Sequence[str | Path], out: str | Path) -> MergeReport:
    """Make one run folder of the parts of a sweep that several workers or machines wrote.

    runs: their folders, in any order. out: the folder to write; it must be new or empty.
    Raises LaptimeError when they are no parts of one sweep; nothing is written then.

    Example: laptime.merge(["runs/node0", "runs/node1"], out="runs/all").conflicts
    """
    from laptime.sweeps.merge import merge as merge_runs

    return merge_runs(runs, out)


def fit_run(
    table: str | Path | polars.DataFrame,
    out: str | Path | None = None,
    *,
    target: str | None = None,
    features: Sequence[str] = (),
    categorical: Sequence[str] = (),
    group: Sequence[str] = (),
    iqr: float | None = None,
    bandwidth_gb_s: float | None = None,
    tflop_s: float | None = None,
    keep: Sequence[str] = (),
    seed: int = 0,
    force: bool = False,
) -> FittedRun:
    """Learn how long a configuration takes, with a bound: each stage and the total of a run, or one column of a table.

    table: a run folder, a Parquet or CSV file, or a frame with one row for each measurement.
    out: the folder to write; None keeps the estimators in memory. force: replace an estimator that is there.
    target: the column to predict, in ms. features: the columns that it depends on; those of them that are names and not
    sizes are in categorical. A run needs none of these.
    group: columns whose rows belong together (a model, a GPU, an input) and are held out together.
    iqr: fit without times beyond this number of interquartile ranges of their configuration.
    bandwidth_gb_s, tflop_s: the device's measured rates, for a run; laptime remedy prints them.
    keep: flags whose samples are used all the same, such as "foreign-process".
    Raises LaptimeError for a table that can't be learnt from, and a folder that may not be written.

    Example: laptime.fit_run("runs/sweep", out="est").predictor().quantile(frame, 0.95)
    """
    from laptime.estimate.run_fit import FitOptions, device_rates
    from laptime.estimate.run_fit import fit_run as fit
    from laptime.estimate.table.reading import kept_flags

    options = FitOptions(
        target=target,
        features=list(features),
        categorical=list(categorical),
        group=list(group),
        iqr=iqr,
        rates=device_rates(bandwidth_gb_s, tflop_s),
        keep=kept_flags(keep),
        seed=seed,
    )
    return fit(table, out, options, force=force)


def budget(
    estimator: str | Path | Predictor | FittedRun,
    configurations: str | Path | Mapping[str, Any] | polars.DataFrame,
    budget_ms: float,
    *,
    confidence: float = 0.95,
    accuracy: str | None = None,
    tokens: Sequence[int] | None = None,
) -> BudgetReport:
    """Say which configurations keep a time budget, and how surely.

    estimator: what laptime.fit_run returned or wrote, or a laptime.Estimator.
    configurations: a mapping of names to values or lists of values (every combination is asked), a YAML file of one, or
    a table with the features' columns.
    budget_ms: the time that an answer may take. confidence: how surely it must be kept, between 0 and 1.
    accuracy: the table's column of accuracies; the larger the better.
    tokens: equally likely counts of output tokens, for the stages of a run.
    Raises LaptimeError for what can't be read or asked.

    Example: laptime.budget("est", {"batch": [1, 2, 4], "prompt": 512}, budget_ms=170).best
    """
    from laptime.estimate.budget import budget as judge
    from laptime.estimate.run_fit import FittedRun

    if isinstance(estimator, FittedRun):
        estimator, tokens = estimator.predictor(None if tokens is None else list(tokens)), None
    return judge(estimator, configurations, float(budget_ms), confidence=confidence, accuracy=accuracy, tokens=tokens)


def prove_remedies(
    model: Any,
    inputs: Mapping[str, Any] | None = None,
    *,
    new_tokens: int = 64,
    rounds: int = 6,
    only: Sequence[str] = (),
    prompt_tokens: int = 64,
    batch: int = 1,
    image_size: ImageSize = None,
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    seed: int = 0,
) -> RemedyReport:
    """Find what makes a model's decoding faster: each remedy is promised from a trace, applied, and measured.

    model: a loaded transformers model with the `inputs` of its generate() (input_ids among them), which is as before
    afterwards; or a hub id, a local path, or "preset:NAME", for which inputs are made up.
    new_tokens: tokens of every call, at least 8; your usual output length.
    rounds: calls of every remedy; six make a 95 % interval.
    only: names of remedies ("buffers", "static", "fusion", "graph", "fast", ...); () tries all.
    prompt_tokens, batch, image_size, dtype, device, trust_remote_code, seed: for a model that is loaded by its name.
    Raises LaptimeError when the model or an option can't be used.

    Example: laptime.prove_remedies(model, tokenizer("Hello", return_tensors="pt"), new_tokens=128).headline
    """
    from laptime.errors import LaptimeError, require_torch

    require_torch()
    from laptime.remedy.prove import RemedyInput, RemedyOptions, prove_by_name
    from laptime.remedy.prove import prove_remedies as prove

    options = RemedyOptions(new_tokens=new_tokens, rounds=rounds, only=tuple(only))
    if not isinstance(model, str):
        if inputs is None:
            raise LaptimeError("prove_remedies(model): a loaded model needs its inputs, e.g. tokenizer(...)")
        return prove(model, inputs, options)
    if inputs is not None:
        raise LaptimeError(f"prove_remedies({model!r}, inputs): inputs go with a loaded model; leave them out")
    made_up = RemedyInput(prompt_tokens=prompt_tokens, batch=batch, image_size=_size(image_size), seed=seed)
    loading = {"dtype": dtype, "device": device, "trust_remote_code": trust_remote_code}
    return prove_by_name(model, made_up, options, loading=loading)


def serve_bench(
    url: str,
    *,
    concurrency: Sequence[int] = (),
    rate: Sequence[float] = (),
    arrivals: Literal["poisson", "constant"] = "poisson",
    ramp: tuple[float, float] | None = None,
    replay: str | Path | None = None,
    requests: int = 100,
    slo: Mapping[str, float] | None = None,
    find_load: float | None = None,
    api: Literal["chat", "completions"] = "chat",
    model: str | None = None,
    prompt_tokens: int = 128,
    new_tokens: int = 64,
    data: str | Path | None = None,
    body: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    fixed_prompt: bool = False,
    warmup: int = 2,
    timeout: float = 120.0,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Callable[[str, int, int], None] = lambda phase, done, of: None,
) -> ServeReport:
    """Say how fast an endpoint that speaks OpenAI's protocol answers, under which load.

    concurrency: levels of requests at once. rate: levels of arrivals a second. ramp: one level whose rate grows from
    the first to the second. replay: a file of recorded arrivals. None of these: one at once.
    requests: of each level. slo: limits, as {"ttft_ms": 200, "tpot_ms": 30, "total_ms": 2000, "share": 0.95}.
    find_load: search the largest rate within the slo, from this rate on.
    data: questions instead of made-up prompts. body: more fields of each request. headers: never written anywhere.
    timeout: seconds after which a request is given up. out: the run folder to write; None keeps nothing.
    resume: go on with a run that was killed: send only what `out` lacks.
    Raises LaptimeError for what can't be sent, and for an endpoint that can't be reached.

    Example: laptime.serve_bench("http://localhost:8000", concurrency=[1, 4]).levels[0].ttft_ms.median
    """
    from laptime.engines import loads
    from laptime.engines.bench import ServeRequest
    from laptime.engines.bench import serve_bench as bench
    from laptime.engines.questions import Asking, of_examples
    from laptime.engines.result import Slo
    from laptime.workload.reading import read_examples

    levels = [loads.concurrency(users, requests) for users in concurrency]
    for place, per_s in enumerate(rate):
        even = arrivals == "constant"
        levels.append(loads.constant(per_s, requests) if even else loads.poisson(per_s, requests, seed + place))
    if ramp is not None:
        levels.append(loads.ramp(*ramp, requests))
    if replay is not None:
        levels.append(loads.replay(Path(replay)))
    if not levels and find_load is None:
        levels = [loads.concurrency(1, requests)]
    extra = dict(body or {})
    asking = Asking(api=api, model=model, prompt_tokens=prompt_tokens, new_tokens=new_tokens, extra=extra)
    request = ServeRequest(
        url=url,
        asking=asking,
        loads=levels,
        questions=[] if data is None else of_examples(asking, read_examples(data)),
        headers=dict(headers or {}),
        timeout_s=timeout,
        warmup=warmup,
        slo=None if slo is None else Slo(**slo),
        first_per_s=find_load,
        search_requests=requests,
        fixed_prompt=fixed_prompt,
        seed=seed,
        resume=resume,
    )
    return bench(request, None if out is None else Path(out), progress)


def read_engine(folder: str | Path, *, client: str | Path | None = None, out: str | Path | None = None) -> EngineReport:
    """Say where each request's time went inside a serving engine whose plug-in wrote to a folder.

    folder: what LAPTIME_VLLM named when the server started. client: a run folder of serve_bench against that server, on
    the same host; then the stages sum to what the client waited for. out: the run folder to write, a sample with stages
    for each request; None writes nothing.
    Raises LaptimeError for what can't be read, and where no request can be followed.

    Example: laptime.read_engine("/tmp/engine", client="runs/serve").levels[0].stages["queue"].median
    """
    from laptime.engines.engine_report import engine_report, write_run

    report = engine_report(folder, client)
    if out is not None:
        write_run(folder, client, out)
    return report


def read_ranks(*paths: str | Path, whatif: bool = False, tpot_ms: float | None = None) -> RankAnalysis:
    """Read the traces of several ranks and set them side by side; the files are shared among the processors.

    Args:
        paths: a folder, several files, or a .tar or .zip of them.
        whatif: replay a step of all ranks together, and say what remedies on all of them would leave of it.
        tpot_ms: the step's time without the profiler, for what-if.

    Raises:
        LaptimeError: no trace was found, or one of them can't be read.

    Example: laptime.show(laptime.read_ranks("traces/"))
    """
    if whatif:
        from laptime.trace.rank_whatif import read_ranks_what_if

        return read_ranks_what_if(*paths, tpot_ms=tpot_ms)
    from laptime.trace.ranks import read_ranks

    return read_ranks(*paths)


def _size(size: ImageSize) -> tuple[int, int] | None:
    from laptime.workload.images import parse_size

    return parse_size(size) if isinstance(size, str) else size
