"""laptime as a model of lmms-eval, which asks public benchmarks: a policy within a budget, or a fixed configuration.

    python -m lmms_eval --model laptime --model_args policy=runs/policy,budget_ms=200 --tasks mme
    python -m lmms_eval --model laptime --model_args pretrained=MODEL,crops=1-3,top_k=2,blocks=12 --tasks mme

lmms-eval finds it by the entry point `lmms_eval.models`. Only this module imports lmms-eval (0.7).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

from laptime.control.adaptive_model import AdaptiveModel
from laptime.control.question import OpenedQuestion, inputs_for
from laptime.errors import LaptimeError
from laptime.measure.stage_timer import StageTimer
from laptime.models.knobs import ModelKnobs, applied
from laptime.models.loading import Loaded, load_model
from laptime.workload.datasets import answer_text
from laptime.workload.inputs import generation_arguments

manifest = ModelManifest(model_id="laptime", simple_class_path="laptime.control.lmms_eval.LaptimeModel")
"""What the entry point gives to lmms-eval."""

DEFAULT_TOKENS = 32
"""New tokens of an answer where the task doesn't say."""


class Timed(NamedTuple):
    """One answer: its text, and its time in ms. in_time: None where there was no budget."""

    text: str
    total_ms: float
    in_time: bool | None


class LaptimeModel(lmms):
    """One question at a time: under a policy's budget, or with fixed knobs.

    policy: the folder of `laptime control train`, with budget_ms; pretrained: the model, if it isn't the policy's.
    crops, top_k, blocks: the fixed knobs without a policy. `answers` holds the time of each answer.

    Raises LaptimeError for a policy without a budget, or knobs that the model can't take.
    """

    def __init__(
        self,
        pretrained: str | Loaded = "",
        policy: str = "",
        budget_ms: float | str = 0.0,
        crops: str = "",
        top_k: int | str | None = None,
        blocks: int | str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        batch_size: int | str = 1,
        **_: Any,
    ) -> None:
        super().__init__()
        self.budget_ms = float(budget_ms)
        self.answers: list[Timed] = []
        if policy and not self.budget_ms > 0:
            raise LaptimeError("policy: needs budget_ms above 0 beside it")
        if not policy and not pretrained:
            raise LaptimeError("pretrained: name a model, or policy: the folder of a policy")
        self.adaptive: AdaptiveModel | None = None
        if policy:
            self.adaptive = AdaptiveModel.load(_loaded(pretrained, policy, dtype, device), policy)
            self.loaded: Loaded = self.adaptive.loaded
        else:
            self.loaded = _named(pretrained, dtype, device)
        self.knobs = ModelKnobs(
            crops=_crop_range(crops) if crops else None,
            top_k=None if top_k is None else int(top_k),
            blocks=None if blocks is None else int(blocks),
        )
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
        return cut(timed.text, generation.get("until"))

    def _within(self, adaptive: AdaptiveModel, question: OpenedQuestion, most: int) -> Timed:
        if not self._warm:
            adaptive.warm_up(question)
            self._warm = True
        answer = adaptive.generate(question, budget_ms=self.budget_ms, max_new_tokens=most)
        return Timed(answer.text, answer.spent_ms, answer.spent_ms <= self.budget_ms)

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


def _loaded(pretrained: str | Loaded, policy: str, dtype: str, device: str) -> Loaded:
    from laptime.control.policies.saved_policy import read_policy

    name = pretrained or read_policy(Path(policy))[0].model.name
    if not name:
        raise LaptimeError(f"{policy}: doesn't say which model it was trained for; name it as pretrained=")
    return _named(name, dtype, device)


def _named(model: str | Loaded, dtype: str, device: str) -> Loaded:
    return model if isinstance(model, Loaded) else load_model(model, dtype=dtype, device=device)


def _crop_range(crops: str) -> tuple[int, int]:
    """6 or "4-8" as (lowest, highest). Raises LaptimeError for another text."""
    low, _, high = str(crops).partition("-")
    if not (low.isdigit() and (high or low).isdigit()):
        raise LaptimeError(f"crops={crops}: a number, or a range as in 4-8")
    return int(low), int(high or low)
