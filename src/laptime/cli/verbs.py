"""The verbs of `laptime`: where each stands, what it says of itself, and how its function is run."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, NamedTuple

from laptime.cli import stop
from laptime.cli.collector import COLLECTOR
from laptime.cli.streams import printable_streams
from laptime.errors import Stopped


class Verb(NamedTuple):
    """One line of `laptime --help`: where the verb's function is ("module:name"), and what it does."""

    place: str
    summary: str  # the first paragraph of the function's docstring; a test holds both equal


class Group(NamedTuple):
    """What the place of a verb holds that is several: `laptime control train`. Each goes by its function's name."""

    summary: str
    functions: tuple[Callable[..., Any], ...]


VERBS: dict[str, dict[str, Verb]] = {
    "Measure": {
        "profile": Verb(
            "laptime.cli.profile:profile",
            "Where does generate() spend its time? Vision, prefill, decode, other, on one clock.",
        ),
        "sweep": Verb(
            "laptime.cli.sweep:sweep",
            "Where does generate() spend its time, over a grid of knobs?",
        ),
        "importance": Verb(
            "laptime.cli.importance:importance",
            "Which decoder blocks matter least, and what does the model lose without them?",
        ),
        "merge": Verb(
            "laptime.cli.merge:merge",
            "Make one run of the parts that several workers wrote.",
        ),
        "serve-bench": Verb(
            "laptime.cli.serve_bench:serve_bench", "How fast does an endpoint answer, under which load?"
        ),
        "engine": Verb("laptime.cli.engine:engine", "Where did each request's time go inside the engine?"),
        "env": Verb("laptime.cli.env:env", "Show the environment that measurements on this machine belong to."),
    },
    "Judge": {
        "audit": Verb("laptime.cli.audit:audit", "Which of these measurements are not valid, and why?"),
        "compare": Verb("laptime.cli.compare:compare", "Is run B faster than run A, by how much, how sure?"),
        "report": Verb("laptime.cli.report:report", "Write one self-contained HTML page of a run or a sweep."),
        "export": Verb(
            "laptime.cli.export:export",
            "Write samples as a table, a timeline for Perfetto, or figures for a dashboard.",
        ),
    },
    "Find and mend what is slow": {
        "trace": Verb("laptime.cli.trace:trace", "What did the GPU wait for?"),
        "remedy": Verb(
            "laptime.cli.remedy:remedy",
            "Find what makes decoding faster: each remedy is promised from a trace, applied, and measured.",
        ),
    },
    "Predict and choose": {
        "fit": Verb("laptime.cli.fit:fit", "Learn how long a configuration takes, with a bound."),
        "evaluate": Verb(
            "laptime.cli.evaluate:evaluate",
            "Judge an estimator on measured times, beside the best that any could reach.",
        ),
        "predict": Verb("laptime.cli.predict:predict", "Predict how long configurations take, with an upper bound."),
        "budget": Verb("laptime.cli.budget:budget", "Say which configurations keep a time budget, and how surely."),
        "control": Verb(
            "laptime.cli.control:CONTROL",
            "Choose image tier, experts and blocks for each input, so that its answer is in time.",
        ),
    },
}
"""The verbs by the panel of `laptime --help` that they stand in. A verb is imported when it runs."""


def imported(name: str) -> Callable[..., Any] | Group:
    """What the place of a verb holds."""
    verb = next(verbs[name] for verbs in VERBS.values() if name in verbs)
    module, _, attribute = verb.place.partition(":")
    found: Callable[..., Any] | Group = getattr(import_module(module), attribute)
    return found


class Chosen(NamedTuple):
    """The verb that a command line names."""

    name: str  # "control train"
    function: Callable[..., Any]
    words: list[str]  # those that follow the name


def chosen(arguments: list[str]) -> Chosen | None:
    """The verb that a command line names; None where it names none."""
    words = arguments[1:] if arguments[:1] == ["--debug"] else arguments
    if not any(words[:1] == [name] for verbs in VERBS.values() for name in verbs):
        return None
    verb = imported(words[0])
    if not isinstance(verb, Group):
        return Chosen(words[0], verb, words[1:])
    named = [one for one in verb.functions if words[1:2] == [one.__name__]]
    return Chosen(f"{words[0]} {words[1]}", named[0], words[2:]) if named else None


WITHOUT_COLLECTOR = frozenset({"trace"})
"""Verbs that read millions of values, none of them in a cycle, and end."""


def as_verb(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a verb, with streams that show only what is printable, and as what a signal interrupts."""
    if getattr(function, "is_verb", False):
        return function

    @wraps(function)
    def verb(*args: Any, **options: Any) -> Any:
        if function.__name__ not in WITHOUT_COLLECTOR:
            COLLECTOR.resume()
        with printable_streams():
            stop.STATE.running = True
            try:
                return function(*args, **options)
            except Stopped as stopped:
                stop.STATE.number = stop.STATE.number or stopped.number
                raise
            finally:
                stop.STATE.running = False

    verb.is_verb = True  # type: ignore[attr-defined]
    return verb
