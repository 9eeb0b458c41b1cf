"""The vocabulary as typed values: what was measured, under what, and what was noticed.

All times are milliseconds (`*_ms`, float). They are converted from integer nanoseconds, so a sum over the
stages of a sample closes to the nanosecond; `StageTimes.closes` checks it. Whoever reads a run needs all of these
types, so they stand in one file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

SCHEMA_VERSION = 1
"""Version of the run folder. A folder written by a newer laptime is refused, never half-read."""

Scalar = str | int | float | bool | None

LARGEST = 1e15
"""No figure of a sample is larger, in its unit: in ms this is 30,000 years. A file with a larger one is damaged."""
SMALLEST = 1e-9
"""A figure nearer to 0 counts as 0 in a table of samples: in ms this is a femtosecond."""

Real = Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)]
Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
LATEST_UNIX_MS = 253_402_300_799_000
UnixMs = Annotated[float, msgspec.Meta(ge=0, le=LATEST_UNIX_MS)]
"""An instant in ms since 1970, up to the year 9999; 0 where it isn't known."""

STAGES = ("preprocessing", "queue", "vision", "audio", "encode", "prefill", "decode", "other")
"""The partition of a sample, in the order in which they are entered. A serving engine alone has the first two."""

Flag = Literal[
    "cold",
    "recompiled",
    "allocator-retry",
    "gc-pause",
    "throttled",
    "foreign-process",
    "forwards-mismatch",
    "no-choice-fits",
    "unassigned-encoder",
    "overlapped",
    "repeated-key",
]

FLAG_REASONS: dict[str, str] = {
    "cold": "measured before the warm-up was steady",
    "recompiled": "torch.compile compiled something during the call",
    "allocator-retry": "the device allocator ran out, freed its cache and tried again",
    "gc-pause": "Python's garbage collector stopped the host for more than 1 % of the call",
    "throttled": "the GPU lowered its clocks (power or heat)",
    "foreign-process": "another process used the same device during the call",
    "forwards-mismatch": "the number of decode forwards is not output tokens - 1",
    "unassigned-encoder": "a module that looks like an encoder ran in no stage: its time is in other",
    "no-choice-fits": "no setting of the knobs was known to keep the budget: the fastest was taken",
    "overlapped": "another generate() call ran on the same model at the same time, in another thread",
    "repeated-key": "its key (configuration, sample, repeat) is another sample's too: only the first one counts",
}


LEFT_OUT: frozenset[Flag] = frozenset(
    {"cold", "recompiled", "allocator-retry", "gc-pause", "throttled", "foreign-process", "forwards-mismatch"}
)
"""Flags that keep a sample out of summaries. It stays in the file, and summaries count it."""

TIERS: dict[str, tuple[int, int]] = {"low": (1, 3), "medium": (4, 8), "high": (9, 15)}
"""Tiers of image detail: (lowest, highest) number of crops that an image is cut into."""

StopReason = Literal["precise", "noise-stable", "max-repeats", "time-limit"]

STOP_REASONS: dict[StopReason, str] = {
    "precise": "the 95 % interval of the median total is as narrow as asked for",
    "noise-stable": "the noise itself has stabilised: more repeats would narrow the interval by sqrt(n) only",
    "max-repeats": "the limit on repeats was reached",
    "time-limit": "the limit on time was reached",
}


class StageTimes(msgspec.Struct, frozen=True):
    """One sample's partition of its total, in milliseconds: the stages of STAGES add up to the total.

    A stage that nothing could measure is None: a client of a serving engine knows no stage, so all is other.
    """

    vision_ms: Real | None
    prefill_ms: Real | None
    decode_ms: Real | None  # None when no decode step ran
    other_ms: Real
    total_ms: Real
    audio_ms: Real | None = None  # None when no audio encoder ran
    encode_ms: Real | None = None  # None but for an encoder-decoder
    preprocessing_ms: Real | None = None  # None but for a request to a serving engine
    queue_ms: Real | None = None  # the same

    @classmethod
    def from_ns(
        cls,
        *,
        vision: int,
        prefill: int,
        decode: int | None,
        total: int,
        audio: int | None = None,
        encode: int | None = None,
    ) -> StageTimes:
        """Build from integer nanoseconds; `other` is what the others leave of the total."""
        other = total - vision - (audio or 0) - (encode or 0) - prefill - (decode or 0)
        return cls(
            vision_ms=vision / 1e6,
            audio_ms=None if audio is None else audio / 1e6,
            encode_ms=None if encode is None else encode / 1e6,
            prefill_ms=prefill / 1e6,
            decode_ms=None if decode is None else decode / 1e6,
            other_ms=other / 1e6,
            total_ms=total / 1e6,
        )

    def closes(self) -> bool:
        """Whether the stages sum to the total to the nanosecond and none of them is negative."""
        parts = [round((self.stage(name) or 0.0) * 1e6) for name in STAGES]
        return sum(parts) == round(self.total_ms * 1e6) and min(parts) >= 0

    def stage(self, name: str) -> float | None:
        """The time of one stage by its name (one of STAGES, or `total`), in ms."""
        value: float | None = getattr(self, f"{name}_ms")
        return value


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """One instant of a call, in nanoseconds after its start, on the device's timeline and on the host's."""

    kind: str
    device_ns: int
    host_ns: int


class GpuState(msgspec.Struct, frozen=True):
    """What the GPU reported right after a sample."""

    sm_mhz: Whole | None = None
    temperature_c: Whole | None = None
    power_w: Real | None = None
    throttle: list[str] = []


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """How a policy set the knobs for one call, and why.

    bound_ms: what the call should stay below; None without a bound. confidence: of that bound; None in older samples.
    It can be lower than the promise over all questions (laptime.control.bounds.leeway). factor: the correction of the
    bound by measurements of earlier calls. The times are the host's. before_ms: features and first choice, before the
    call. waited_ms: inside the call, until the early block's output arrived. inside_ms: the second choice; setting it
    is part of the call.
    """

    policy: str
    budget_ms: Real
    bound_ms: Real | None
    factor: Real
    tier: str | None
    top_k: Whole | None
    blocks: Whole | None
    before_ms: Real
    waited_ms: Real
    inside_ms: Real
    confidence: Real | None = None

    @property
    def deciding_ms(self) -> float:
        """The host's work. Waiting is not part of it: meanwhile the device computes what it has to compute anyway."""
        return self.before_ms + self.inside_ms


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One measured generate() call: one input, one configuration, one repeat. Never changed afterwards.

    One request to a serving engine too (laptime.engines): what its client can't know is None.
    """

    config_id: str
    sample_id: str
    repeat: Whole
    worker: str
    config: dict[str, Scalar]
    stages: StageTimes  # on the device's timeline
    host_stages: StageTimes  # the same marks as the host saw them pass
    ttft_ms: Real | None
    tpot_ms: Real | None  # (last token - ttft) / (N - 1), the mean of the gaps; None with one token
    itl_ms: list[Real] | None  # N - 1 gaps between tokens, the first from ttft on; None unless measured per token
    output_tokens: Whole | None  # N, the longest row, counted from the returned ids
    decode_forwards: Whole | None
    prompt_tokens: Whole | None  # a row's width, image tokens included
    image_tokens: Whole | None  # of the first row
    crops: Whole | None = None  # the tiles that one image was cut into, its overview not counted; 0 without an image
    batch: Whole = 1
    generated_tokens: Whole = 0  # over all rows, padding after EOS left out
    cut_rows: Whole | None = None  # rows that ended at the limit on new tokens; None where nothing else could end them
    preprocess_ms: Real | None = None  # tokenizing and preparing images before the call, in no stage
    cached_tokens: Whole | None = None  # of the prompt, already in a cache that the call brought; None without one
    draft_ms: Real | None = None  # of decode: making candidates; None where the call was not assisted
    verify_ms: Real | None = None  # of decode: forwards over the candidates
    drafted_tokens: Whole | None = None  # candidates of all forwards, the prefill's among them
    accepted_tokens: Whole | None = None  # candidates that the model would have chosen itself
    surplus_forwards: Whole | None = (
        None  # decode forwards that ran behind the last token, in no stage; None: not counted
    )
    started_unix_ms: UnixMs = 0.0
    memory_peak_bytes: Whole | None = None
    energy_j: Real | None = None
    gpu: GpuState | None = None
    gc_pause_ms: Real = 0.0
    flags: list[Flag] = []
    unassigned_ms: dict[str, Real] = {}  # modules that look like encoders and ran in no stage: path -> time
    marks: list[Mark] = []
    output_ids: list[list[int]] = []
    text: str | None = None
    score: Real | None = None
    decision: Decision | None = None  # where a policy chose the knobs for this call

    @property
    def key(self) -> tuple[str, str, int]:
        """What a sample is unique by: (config_id, sample_id, repeat)."""
        return (self.config_id, self.sample_id, self.repeat)

    @property
    def decode_per_token_ms(self) -> float | None:
        """decode / (N - 1): N tokens need N - 1 decode forwards. None when N = 1 or a forward gave another number."""
        decode_ms, tokens = self.stages.decode_ms, self.output_tokens
        if decode_ms is None or tokens is None or tokens < 2 or "forwards-mismatch" in self.flags:
            return None
        if self.drafted_tokens is not None:
            return None
        return decode_ms / (tokens - 1)


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A sample that could not be measured, and why."""

    config_id: str
    sample_id: str
    repeat: Whole
    worker: str
    config: dict[str, Scalar]
    error: str
    started_unix_ms: UnixMs = 0.0


class Subtraction(msgspec.Struct, frozen=True, kw_only=True):
    """One input measured by subtraction: three separate calls, decode is what is left, a negative rest is 0.

    It shows the error of subtraction beside the direct figures. No other number of laptime is obtained this way.
    """

    sample_id: str
    repeat: Whole
    vision_ms: Real
    prefill_ms: Real
    total_ms: Real
    residual_ms: Real  # total - vision - prefill, as it came out
    decode_ms: Real  # max(0, residual)
    direct: StageTimes | None = None  # the same input measured directly, right beside


class SessionEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How a session of measuring ended: what a reader needs to judge whether it measured enough."""

    warmups: int
    steady: bool  # the warm-up's last calls agreed; if not, the samples are flagged cold
    repeats: int  # whole passes over all inputs
    stopped: StopReason
    half_width: float | None  # of the median total's 95 % interval, relative
    # --verify: greedy tokens with and without the timer; "unstable" when the bare model differs from itself
    tokens: Literal["identical", "different", "unstable"] | None = None
    inputs: int | None = None  # different inputs in each pass; None in older runs
    foreign_cores: float | None = None  # on a CPU: cores that other processes used on average; None where not known


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What was true for the whole run. `None` means that it does not apply or could not be read."""

    laptime: str
    python: str
    platform: str
    cpu: str
    cpu_count: int
    memory_bytes: int | None = None
    torch: str | None = None
    torch_threads: int | None = None
    transformers: str | None = None
    device: str | None = None  # "cpu", "cuda:0"
    gpu: str | None = None
    gpu_count: int = 0
    gpu_memory_bytes: int | None = None
    gpu_power_limit_w: float | None = None
    gpu_max_sm_mhz: int | None = None
    gpu_persistence: bool | None = None
    compute_capability: str | None = None
    cuda: str | None = None
    cudnn: str | None = None
    driver: str | None = None
    tf32_matmul: bool | None = None
    matmul_precision: str | None = None
    deterministic: bool | None = None
    variables: dict[str, str] = {}  # the few that change speed, by an allow-list
    git_commit: str | None = None
    git_dirty: bool | None = None

    def fingerprint(self) -> str:
        """A short hash: equal fingerprints mean that measurements may be compared."""
        facts = {k: v for k, v in msgspec.to_builtins(self).items() if not k.startswith("git_")}
        return hashlib.sha256(msgspec.json.encode(facts, order="deterministic")).hexdigest()[:12]


class WorkerStart(msgspec.Struct, frozen=True, kw_only=True):
    """One start of one worker of a sweep: where its samples, from this time on, were measured."""

    worker: str
    started_unix_ms: UnixMs
    host: str
    environment: Environment


class Interval(msgspec.Struct, frozen=True):
    """An estimate with its confidence interval; the ends are None when there are too few values for one."""

    value: float
    low: float | None
    high: float | None
    n: int


class StrategyCost(msgspec.Struct, frozen=True):
    """What one way of measuring adds to one generate() of `tokens` tokens."""

    strategy: str  # total | total, EOS possible | per token, events | per token, synchronize
    tokens: int
    marks: int
    synchronizes: int
    added_ms: float


class Overhead(msgspec.Struct, frozen=True, kw_only=True):
    """What looking costs on this machine (`laptime env --overhead`). Unit costs in microseconds.

    The costs of a synchronize are None on a device that has none to wait for (a CPU).
    """

    device: str
    host_clock_us: Interval  # perf_counter_ns
    idle_probe_us: Interval  # a decode step's LogitsProcessor call that takes no mark
    mark_us: Interval  # record a ready event and read the host clock
    synchronize_idle_us: Interval | None
    synchronize_drain_us: Interval | None  # what one synchronize adds to a step of queued work
    drained_step_us: float | None  # that step without it
    strategies: list[StrategyCost]


def config_id(config: Mapping[str, Scalar]) -> str:
    """Hash of a configuration in canonical form (sorted keys, no None), so equal knobs give equal ids."""
    canonical = {key: value for key, value in config.items() if value is not None}
    return hashlib.sha256(msgspec.json.encode(canonical, order="deterministic")).hexdigest()[:12]
