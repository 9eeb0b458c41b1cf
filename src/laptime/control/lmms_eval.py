"""laptime as a model of lmms-eval, which asks public benchmarks: a policy within a budget, or a fixed configuration.

    python -m lmms_eval --model laptime --model_args policy=runs/policy,budget_ms=200 --tasks mme
    python -m lmms_eval --model laptime --model_args pretrained=MODEL,crops=1-3,top_k=2 --tasks mme

lmms-eval finds it by the entry point `lmms_eval.models`. Only this module imports lmms-eval (0.7).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

from laptime.control.adaptive_model import AdaptiveModel
from laptime.control.policies.saved_policy import model_to_load, read_policy
from laptime.control.question import OpenedQuestion, inputs_for
from laptime.errors import LaptimeError
from laptime.measure.stage_timer import StageTimer
from laptime.models.anatomy import find_anatomy
from laptime.models.block_importance import most_important, read_active, read_importance
from laptime.models.knobs import ModelKnobs, applied, check_knobs
from laptime.models.loading import Loaded, load_model
from laptime.workload.datasets import answer_text
from laptime.workload.inputs import generation_arguments

manifest = ModelManifest(model_id="laptime", simple_class_path="laptime.control.lmms_eval.LaptimeModel")
"""What the entry point gives to lmms-eval."""

FROM_LMMS_EVAL = {"batch_size", "max_batch_size"}
"""What lmms-eval itself says to every model; one question is asked at a time."""
ARGUMENTS = [
    "pretrained",
    "policy",
    "budget_ms",
    "crops",
    "top_k",
    "blocks",
    "importance",
    "fast",
    "online",
    "times",
    "dtype",
    "device",
]
DEFAULT_TOKENS = 32
"""New tokens of an answer where the task doesn't say."""


class Timed(NamedTuple):
    """One answer: its text, and its time in ms.

    in_time: None where there was no budget. fits: whether a choice was known to keep the budget; else it wasn't
    promised. factor: what the bounds were multiplied by for earlier answers.
    """

    text: str
    total_ms: float
    in_time: bool | None
    fits: bool | None = None
    factor: float | None = None


class LaptimeModel(lmms):
    """One question at a time: under a policy's budget, or with fixed knobs.

    policy: the folder of `laptime control train`, with budget_ms; pretrained: the model, if it isn't the policy's.
    crops, top_k, blocks: the fixed knobs without a policy. importance: the file of `laptime importance` that says which
    blocks run, or "position". fast: a policy answers on FastModel. online: a policy's answers correct the bounds of
    later ones; off leaves the bounds as they were calibrated. times: a file that gets a JSON line for each answer;
    `answers` holds the same.

    Raises LaptimeError for a policy without a budget, knobs that the model can't take, fewer blocks without a word on
    which, a word that it doesn't know, and a file of times that is there.
    """

    def __init__(
        self,
        pretrained: str | Loaded = "",
        policy: str = "",
        budget_ms: float | str = 0.0,
        crops: str = "",
        top_k: int | str | None = None,
        blocks: int | str | None = None,
        importance: str = "",
        fast: bool | str = False,
        online: bool | str = True,
        times: str = "",
        dtype: str = "auto",
        device: str = "auto",
        **given: Any,
    ) -> None:
        super().__init__()
        if unknown := sorted(given.keys() - FROM_LMMS_EVAL):
            raise LaptimeError(f"{unknown[0]}: laptime knows no such argument; there are {', '.join(ARGUMENTS)}")
        self.budget_ms = float(budget_ms)
        self.answers: list[Timed] = []
        if policy and not self.budget_ms > 0:
            raise LaptimeError("policy: needs budget_ms above 0 beside it")
        if not policy and not pretrained:
            raise LaptimeError("pretrained: name a model, or policy: the folder of a policy")
        if times and Path(times).exists():
            raise LaptimeError(f"times={times}: is there already; name a new file")
        on_fast, corrected = _switch("fast", fast), _switch("online", online)
        if on_fast and not policy:
            raise LaptimeError("fast: is for a policy; a fixed configuration answers by the model's own generate()")
        self._times = Path(times) if times else None
        self.adaptive: AdaptiveModel | None = None
        if policy:
            loaded = _loaded(pretrained, policy, dtype, device)
            self.adaptive = AdaptiveModel.load(loaded, policy, fast=on_fast or None, online=corrected)
            self.loaded: Loaded = self.adaptive.loaded
        else:
            self.loaded = _named(pretrained, dtype, device)
        self.knobs = ModelKnobs(
            crops=_crop_range(crops) if crops else None,
            top_k=None if top_k is None else int(top_k),
            blocks=None if blocks is None else int(blocks),
            active=None if blocks is None else _active(self.loaded.model, int(blocks), importance),
        )
        check_knobs(self.loaded, self.knobs)
        self._warm = False

    def generate_until(self, requests: list[Any]) -> list[str]:
        """The answers to the requests, in their order. Raises LaptimeError for a question of several images."""
        with self._knobs_set():
            return [self._answer(*request.args) for request in requests]

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Not given: laptime times generated answers. Raises LaptimeError."""
        raise LaptimeError("laptime answers by generating; choose a task that asks generate_until")

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Not given: a question is one call. Raises LaptimeError."""
        raise LaptimeError("laptime answers one round; choose a task that asks generate_until")

    @contextlib.contextmanager
    def _knobs_set(self) -> Iterator[None]:
        with contextlib.nullcontext() if self.adaptive is not None else applied(self.loaded.model, self.knobs):
            yield

    def _answer(
        self,
        context: str,
        generation: dict[str, Any],
        doc_to_visual: Callable[[Any], Any],
        doc: Any,
        task: str,
        split: str,
    ) -> str:
        images = list(doc_to_visual(self.task_dict[task][split][doc]) or [])
        if len(images) > 1:
            raise LaptimeError(f"{task} {doc}: {len(images)} images in one question; laptime asks about one")
        image = images[0].convert("RGB") if images else None
        question = OpenedQuestion(f"{task}-{doc}", context, image)
        most = int(generation.get("max_new_tokens") or DEFAULT_TOKENS)
        timed = self._fixed(question, most) if self.adaptive is None else self._within(self.adaptive, question, most)
        self.answers.append(timed)
        if self._times is not None:
            line = {"task": task, "doc": doc, **timed._asdict(), "budget_ms": self.budget_ms or None}
            with self._times.open("ab") as file:
                file.write(msgspec.json.encode(line) + b"\n")
        return cut(timed.text, generation.get("until"))

    def _within(self, adaptive: AdaptiveModel, question: OpenedQuestion, most: int) -> Timed:
        if not self._warm:
            adaptive.warm_up(question)
            self._warm = True
        answer = adaptive.generate(question, budget_ms=self.budget_ms, max_new_tokens=most)
        decision, in_time = answer.sample.decision, answer.spent_ms <= self.budget_ms
        assert decision is not None
        factor = decision.factor if math.isfinite(decision.factor) else None
        return Timed(answer.text, answer.spent_ms, in_time, "no-choice-fits" not in answer.sample.flags, factor)

    def _fixed(self, question: OpenedQuestion, most: int) -> Timed:
        inputs = inputs_for(self.loaded, question, self.knobs.crops, most)
        arguments = generation_arguments(new_tokens=most, cache=None, compile=False)
        with StageTimer(self.loaded.model) as timer:
            timer.model.generate(**inputs.kwargs, **arguments)
            sample = timer.samples.pop()
        return Timed(answer_text(self.loaded, sample.output_ids[0]), sample.stages.total_ms, None)


def cut(text: str, until: Any) -> str:
    """The text up to the first of the strings in `until`, as lmms-eval's own models end an answer."""
    ends = [until] if isinstance(until, str) else list(until or [])
    for end in ends:
        if end and end in text:
            text = text.split(end, 1)[0]
    return text


def _switch(name: str, value: bool | str) -> bool:
    """A switch as lmms-eval gives it. Raises LaptimeError for another word than true or false."""
    word = str(value).lower()
    if word not in ("true", "1", "false", "0"):
        raise LaptimeError(f"{name}={value}: write true or false")
    return word in ("true", "1")


def _loaded(pretrained: str | Loaded, policy: str, dtype: str, device: str) -> Loaded:
    if isinstance(pretrained, Loaded):
        return pretrained
    return _named(model_to_load(read_policy(policy)[0], pretrained, policy, "pretrained="), dtype, device)


def _named(model: str | Loaded, dtype: str, device: str) -> Loaded:
    return model if isinstance(model, Loaded) else load_model(model, dtype=dtype, device=device)


def _active(model: Any, blocks: int, importance: str) -> tuple[int, ...] | None:
    """The blocks that run; None for those that their position says. Raises LaptimeError where nothing says which."""
    count = len(find_anatomy(model).layers)
    if blocks >= count or importance == "position":
        return None
    if not importance:
        raise LaptimeError(
            f"blocks={blocks}: which of the {count}? importance=FILE (laptime importance MODEL --out FILE) names them; "
            "importance=position takes the first ones and the last, which ruins many models"
        )
    found = most_important(model, read_importance(importance, blocks=count), [blocks])
    return read_active(importance).get(blocks, found.get(blocks))


def _crop_range(crops: str) -> tuple[int, int]:
    """6 or "4-8" as (lowest, highest). Raises LaptimeError for another text."""
    low, _, high = str(crops).partition("-")
    if not (low.isdigit() and (high or low).isdigit()):
        raise LaptimeError(f"crops={crops}: a number, or a range as in 4-8")
    return int(low), int(high or low)
