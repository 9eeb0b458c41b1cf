"""Keep an estimator's bound true while the machine changes: corrections from requests as they end.

A GPU that throttles makes every request slower than the estimator knows. What can be learnt, and when:

- A time is known when its request ends. Times arrive out of order, those of slow requests last. Learning as if they
  came at once (most published experiments do) looks better than any server can be.
- A request that still runs after 300 ms takes more than 300 ms, and so does one that timed out at 300 ms. Both are
  right-censored observations, and a running request is the earliest sign of a slow-down.

State: for the last ended requests, in the order in which they were issued, log(time / bound), for each
running one its age, and for all of them the forecast that was made when they were issued. From these a Correction, as a
pure function of state and clock:

1. Forecast: the median of the last RECENT requests' log(time / bound), over the baseline's own.
2. Quantile: of what was left over forecasts, log(time / bound) - forecast. It is split conformal on the forecasts'
   own errors, so whatever they are late by (a drift while many requests run, an oscillation, a state that comes back)
   is in it, and the more requests run, the longer it is remembered. The product-limit estimator (Kaplan and Meier
   1958) takes running requests in as censored; one more lies at infinity. With nothing censored it is the
   ceil((n + 1) q)-th smallest value. Where censoring leaves it open, the largest value that was seen stands for it.
3. Level: adaptive conformal inference (Gibbs and Candes 2021), alpha = alpha_0 + step * sum(alpha_0 - missed) over
   some windows' requests, each judged by the bound that it was issued with. A sum over windows instead of over all time
   forgets, and does not depend on the order of arrival.
4. Jumps: what the only jump in memory took by surprise counts in neither (laptime.estimate.jumps).

The correction is one factor within [1 / limit, limit]. Beyond that the bound is infinite (no promise), and `saturated`
says that the estimator should be fitted anew.

Values are frozen: every step returns a new state, and a state saved and loaded continues as if nothing had happened.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.data.files import write_whole
from laptime.data.outside import DAMAGE, read_regular
from laptime.data.stats import Floats, Ints
from laptime.errors import LaptimeError
from laptime.estimate.jumps import SHORTEST, single_jump

LOST_AFTER = 20
"""A running request this number of windows behind the newest is taken for lost, and forgotten."""
LEVEL_ROOM = 0.8
"""How far the level may move, as a share of 1 - q."""
LEVEL_WINDOWS = 3
"""Windows of requests whose misses move the level: a state that comes back now and then is remembered longer."""
DELAYS, MOST_LONGER = 7, 2
"""Times the requests in flight by which both windows are longer, by MOST_LONGER windows at most.

Forecasts are late by as many requests as are in flight, and whatever happens meanwhile is one error of all of these. So
a window counts as many errors of that kind as it holds times the requests in flight, not as it holds requests.
"""
RECENT = 25
"""Requests whose median is the forecast of the next one: enough that noise moves it little, and soon after a change."""


class Running(msgspec.Struct, frozen=True, array_like=True):
    """A request that has not ended."""

    key: str
    number: int  # of the request, in the order of issue; the first is 0
    bound_ms: float  # the estimator's own bound
    given_ms: float  # the corrected bound that it was issued with
    issued_ms: float  # on the caller's clock
    forecast: float = 0.0  # log(time / bound) that was expected, over the baseline's own


class Ended(msgspec.Struct, frozen=True, array_like=True):
    """A request that ended, or was given up."""

    number: int
    log_ratio: float  # log(time / the estimator's bound)
    censored: bool  # it took longer than that: the time-out
    missed: bool | None  # the bound that it was issued with did not hold; None when a time-out hides it
    forecast: float = 0.0


class Online(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The state of a stream of requests: what ended, what runs, and the settings. JSON: laptime.online/1."""

    schema: str = "laptime.online/1"
    q: float
    window: int
    step: float
    limit: float
    issued: int
    baseline: tuple[float, ...]  # log(time / bound) when the estimator was judged: stands for the window at first
    ended: tuple[Ended, ...]  # by number, the last LEVEL_WINDOWS windows of them, and _longer
    running: tuple[Running, ...]  # by number


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """What to multiply an estimator's answers by, now."""

    bound_factor: float  # infinite when saturated
    slower: float  # bound_factor over the baseline's own: what bounds had in reserve at first stays in reserve
    median_factor: float
    saturated: bool
    level: float  # the quantile level in use, moved from q by what was missed
    forecast: float  # log(time / bound) that is expected now, over the baseline's own
    ends: tuple[float, ...]  # log(time / bound) that now seem possible, ascending
    survival: tuple[float, ...]  # share above each of `ends`

    def bound_ms(self, bound_ms: Floats | float) -> Floats:
        """The estimator's bounds, corrected."""
        return np.asarray(bound_ms, dtype=np.float64) * self.bound_factor

    def median_ms(self, median_ms: Floats | float) -> Floats:
        """The estimator's medians, corrected."""
        return np.asarray(median_ms, dtype=np.float64) * self.median_factor

    def probability_within(self, bound_ms: Floats | float, budget_ms: float) -> Floats:
        """P(T <= budget) for requests with these (uncorrected) bounds, by the same observations; 0 when saturated."""
        margin = np.log(budget_ms) - np.log(np.asarray(bound_ms, dtype=np.float64))
        if self.saturated:
            return np.zeros_like(margin)
        at = np.searchsorted(np.asarray(self.ends), margin, side="right")
        share: Floats = 1 - np.concatenate(([1.0], self.survival))[at]
        return share


def begin(
    baseline: npt.ArrayLike, *, q: float = 0.95, window: int = 100, step: float = 0.01, limit: float = 4.0
) -> Online:
    """A stream before its first request.

    `baseline`: log(time / bound) of requests that the estimator was judged by and not fitted on, at least 20 of them,
    the bound being the one for coverage `q`. It stands for the window until requests have ended.
    Raises LaptimeError for settings or a baseline that can't work.
    """
    values = np.asarray(baseline, dtype=np.float64)
    if values.ndim != 1 or len(values) < 20 or not np.isfinite(values).all():
        raise LaptimeError(
            f"online: the baseline needs 20 finite values of log(time / bound) or more, not {values.size}"
        )
    if not 0.5 <= q < 1 or window < 20 or limit <= 1 or not 0 <= step < 1:
        raise LaptimeError(
            f"online: q {q:g} must lie in [0.5, 1), window {window} be 20 or more, limit {limit:g} above 1, "
            f"step {step:g} in [0, 1)"
        )
    evenly = np.quantile(values, (np.arange(window) + 0.5) / window)
    shuffled = np.random.default_rng(0).permutation(evenly)  # in order they would be a trend
    return Online(
        q=q, window=window, step=step, limit=limit, issued=0, baseline=tuple(shuffled.tolist()), ended=(), running=()
    )


def correction(online: Online, now_ms: float) -> Correction:
    """What this stream's requests say at `now_ms` of the clock that they were issued by."""
    seen = _observed(online, now_ms)
    forecast = _forecast(online, seen)
    surprised = _surprised(online)
    kept = ~np.isin(seen.numbers, surprised)
    at, survival = _product_limit((seen.ratios - seen.forecasts)[kept], seen.censored[kept])
    level = 1 - _alpha(online, surprised)
    left_over = (seen.ratios - seen.forecasts)[kept]
    late_by = _quantile(at, survival, 0.5, 0.0) - float(np.median(online.baseline))
    most = float(seen.ratios.max()) + max(late_by, 0.0)  # after a jump its own errors would add to the forecast
    shift = min(forecast + _quantile(at, survival, level, float(left_over.max())), most)
    at, middle = at + forecast, forecast + late_by
    edge = float(np.log(online.limit))
    uncensored = np.zeros(online.window, dtype=np.bool_)
    at_first = min(
        max(online.baseline), _quantile(*_product_limit(np.array(online.baseline), uncensored), online.q, np.inf)
    )
    saturated = shift > edge
    return Correction(
        bound_factor=float("inf") if saturated else float(np.exp(max(shift, -edge))),
        slower=float("inf") if saturated else float(np.exp(np.clip(shift - at_first, -edge, edge))),
        median_factor=float(np.exp(np.clip(middle, -edge, edge))),
        saturated=saturated,
        level=level,
        forecast=forecast,
        ends=tuple(at.tolist()),
        survival=tuple(survival.tolist()),
    )


def issued(online: Online, key: str, bound_ms: float, given_ms: float, now_ms: float) -> Online:
    """A request was sent off at `now_ms`: the estimator's own bound, and the corrected one that was relied on.

    Raises LaptimeError for a bound that is not above 0 and finite, or a key that is running already.
    """
    if not (np.isfinite(bound_ms) and bound_ms > 0):
        raise LaptimeError(f"online: request {key}: a bound of {bound_ms} ms; it must be above 0 and finite")
    if any(request.key == key for request in online.running):
        raise LaptimeError(f"online: request {key} is running already; give every request a key of its own")
    one = Running(key, online.issued, bound_ms, given_ms, now_ms, _forecast(online, _observed(online, now_ms)))
    oldest = online.issued - LOST_AFTER * online.window
    running = tuple(request for request in online.running if request.number >= oldest)
    return msgspec.structs.replace(online, issued=online.issued + 1, running=(*running, one))


def finished(online: Online, key: str, took_ms: float) -> Online:
    """A request ended after `took_ms`. A key that is not running (lost, or ended before) changes nothing."""
    return _ended(online, key, took_ms, censored=False)


def timed_out(online: Online, key: str, after_ms: float) -> Online:
    """A request was given up after `after_ms`: it would have taken longer."""
    return _ended(online, key, after_ms, censored=True)


def cancelled(online: Online, key: str) -> Online:
    """A request ended for reasons of its own (a client went away), which say nothing about the machine."""
    return msgspec.structs.replace(online, running=tuple(r for r in online.running if r.key != key))


def save(online: Online, file: str | Path) -> None:
    """Write the state as JSON, whole or not at all. Raises OSError."""
    write_whole(Path(file), msgspec.json.encode(online))


def load(file: str | Path) -> Online:
    """Read a state. Raises LaptimeError when the file is none."""
    try:
        state = msgspec.json.decode(read_regular(Path(file)), type=Online)
    except OSError as error:
        raise LaptimeError(f"{file}: {error.strerror}") from error
    except DAMAGE as error:
        raise LaptimeError(f"{file}: not a state of online correction ({error})") from error
    if state.schema != "laptime.online/1" or len(state.baseline) != state.window:
        raise LaptimeError(f"{file}: {state.schema}, this laptime reads laptime.online/1; begin a new stream")
    return state


def _ended(online: Online, key: str, took_ms: float, *, censored: bool) -> Online:
    if not (np.isfinite(took_ms) and took_ms > 0):
        raise LaptimeError(f"online: request {key}: a time of {took_ms} ms; it must be above 0 and finite")
    request = next((r for r in online.running if r.key == key), None)
    if request is None:
        return online
    missed = None if censored and took_ms < request.given_ms else took_ms > request.given_ms or censored
    one = Ended(request.number, float(np.log(took_ms / request.bound_ms)), censored, missed, request.forecast)
    kept = LEVEL_WINDOWS * online.window + _longer(online)
    ended = tuple(sorted((*online.ended, one), key=lambda e: e.number))[-kept:]
    return msgspec.structs.replace(cancelled(online, key), ended=ended)


def _longer(online: Online) -> int:
    """By how many requests the windows are longer, because as many as run now know nothing of each other's end."""
    running = len(online.running)
    return max(running, min(DELAYS * running, MOST_LONGER * online.window))


class _Seen(NamedTuple):
    """By request, in the order of issue: the baseline where the window is not full, what ended, what runs."""

    numbers: Floats
    ratios: Floats
    forecasts: Floats
    censored: npt.NDArray[np.bool_]


def _observed(online: Online, now_ms: float) -> _Seen:
    ended = online.ended[-(online.window + _longer(online)) :]
    fill = max(0, online.window - len(ended))
    first = ended[0].number if ended else online.issued
    running = [r for r in online.running if now_ms > r.issued_ms]
    ages = np.array([now_ms - r.issued_ms for r in running])
    numbers = [*range(first - fill, first), *(e.number for e in ended), *(r.number for r in running)]
    ratios = np.concatenate(
        [online.baseline[:fill], [e.log_ratio for e in ended], np.log(ages / [r.bound_ms for r in running])]
    )
    forecasts = [*[0.0] * fill, *(e.forecast for e in ended), *(r.forecast for r in running)]
    censored = [*[False] * fill, *(e.censored for e in ended), *[True] * len(running)]
    return _Seen(np.array(numbers, dtype=float), ratios, np.array(forecasts), np.array(censored, dtype=np.bool_))


def _forecast(online: Online, seen: _Seen) -> float:
    """The median of the last RECENT requests that ended, and of those that run and were issued since the first."""
    ended = np.flatnonzero(~seen.censored)
    since = seen.numbers[ended[-min(RECENT, len(ended))]] if len(ended) else -np.inf
    recent = seen.numbers >= since
    at, survival = _product_limit(seen.ratios[recent], seen.censored[recent])
    largest = float(seen.ratios[recent].max())
    return _quantile(at, survival, 0.5, largest) - float(np.median(online.baseline))


def _product_limit(values: Floats, censored: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """The values that are not censored, ascending, and the share above each; one more observation lies at infinity."""
    order = np.lexsort((censored, values))  # at a tie an event comes before a censoring
    at_risk = len(values) - np.arange(len(values)) + 1
    survival = np.cumprod(np.where(censored[order], 1.0, 1 - 1 / at_risk)).astype(np.float64)
    events = ~censored[order]
    return values[order][events], survival[events]


def _quantile(at: Floats, survival: Floats, level: float, otherwise: float) -> float:
    """The value with this share below it; `otherwise` where too little has ended to see it."""
    reached = np.flatnonzero(survival <= 1 - level + 1e-9)
    return float(at[reached[0]]) if len(reached) else otherwise


def _surprised(online: Online) -> Ints:
    """The numbers of the requests that the only jump in memory took by surprise."""
    if len(online.ended) < SHORTEST:
        return np.empty(0, dtype=np.int64)
    errors = np.array([e.log_ratio - e.forecast for e in online.ended])
    forecasts = np.array([e.forecast for e in online.ended])
    longest = 2 * (RECENT + len(online.running))
    forgotten = online.ended[0].number >= online.window
    late = np.flatnonzero(single_jump(errors, forecasts, np.array(online.baseline), longest, forgotten=forgotten))
    if not len(late):
        return np.empty(0, dtype=np.int64)
    return np.arange(online.ended[late[0]].number, online.ended[late[-1]].number + 1)  # some of them may still run


def _alpha(online: Online, surprised: Ints) -> float:
    wanted = 1 - online.q
    without = set(surprised.tolist())
    known = [e.missed for e in online.ended if e.missed is not None and e.number not in without]
    moved = online.step * (wanted * len(known) - sum(known))
    return wanted + float(np.clip(moved, -LEVEL_ROOM * wanted, LEVEL_ROOM * wanted))
