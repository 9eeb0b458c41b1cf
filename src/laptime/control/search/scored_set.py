"""A set of questions whose answers are scored, asked again under one setting of the blocks after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import torch

from laptime.control.search.beam import Setting
from laptime.control.search.likelihood import answer_likelihoods, answer_tokens
from laptime.control.search.result import LIKELIHOOD, check_searchable
from laptime.control.tables.collection import EqualBatch, equal_batches
from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.measure.stage_timer import StageTimer
from laptime.models.knobs import ModelKnobs, applied
from laptime.models.loading import Loaded
from laptime.workload.datasets import answer_text
from laptime.workload.example import Example
from laptime.workload.inputs import generation_arguments
from laptime.workload.scoring import scorer

SearchedKnob = Literal["blocks", "experts"]
"""What a setting's levels are: whether a block runs, or how many experts a token is sent to in it."""
CLOSE_ROWS = 16
"""How many questions' prompts the closeness to the whole model is measured on."""


class SetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a set is asked.

    kind: the score, as laptime.workload.scoring names it, or "likelihood": how probable the right answer is, without
    writing one. crops: how images are cut; None leaves it to the processor. close_rows: on how many questions' prompts
    the closeness to the whole model is measured, rounded up to whole batches.
    """

    kind: str
    new_tokens: int = 16
    batch: int = 32
    crops: tuple[int, int] | None = None
    close_rows: int = CLOSE_ROWS

    def __post_init__(self) -> None:
        if min(self.new_tokens, self.batch, self.close_rows) < 1:
            raise LaptimeError(
                f"search: {self.new_tokens} new tokens, batches of {self.batch}, {self.close_rows} prompts; at least 1 "
                "of each"
            )


class ScoredSet:
    """Questions that are made into inputs once, and asked under many settings.

    Questions of equal input shapes are asked in one batch, so nothing is padded.
    Raises LaptimeError for questions that can't be scored, or that the model can't take.
    """

    def __init__(
        self, loaded: Loaded, examples: Sequence[Example], settings: SetSettings, knob: SearchedKnob = "blocks"
    ) -> None:
        self._loaded, self._examples, self._settings, self._knob = loaded, list(examples), settings, knob
        check_searchable(settings.kind, self._examples)
        self._answers: list[list[int]] = []
        if settings.kind == LIKELIHOOD:
            self._answers = [answer_tokens(loaded, example) for example in self._examples]
        else:
            self._right = scorer(settings.kind, self._examples)
        with applied(loaded.model, ModelKnobs(crops=settings.crops)):
            some = equal_batches(loaded, self._examples, settings.crops, settings.batch, settings.new_tokens)
            self._batches: list[EqualBatch] = list(some)
        self._whole: list[torch.Tensor] | None = None
        self._scores: dict[Setting, Floats] = {}
        self._closeness: dict[Setting, float] = {}

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def inputs(self) -> list[dict[str, torch.Tensor]]:
        """The arguments of forward(), for each batch."""
        return [some.kwargs for some in self._batches]

    @property
    def asked(self) -> int:
        """Under how many settings the questions were answered so far."""
        return len(self._scores)

    def scores(self, setting: Setting) -> Floats:
        """The score of each question's answer, (questions,)."""
        if setting not in self._scores:
            values = np.zeros(len(self))
            with applied(self._loaded.model, self._knobs(setting)):
                for some in self._batches:
                    values[some.rows] = self._likely(some) if self._answers else self._written(some)
            self._scores[setting] = values
        return self._scores[setting]

    def _likely(self, some: EqualBatch) -> Floats:
        return answer_likelihoods(self._loaded, some, [self._answers[row] for row in some.rows])

    def _written(self, some: EqualBatch) -> Floats:
        """The scores of the answers that the model writes."""
        arguments = generation_arguments(new_tokens=self._settings.new_tokens, cache=None, compile=False)
        timer = StageTimer(self._loaded.model)
        with timer:
            timer.model.generate(**some.kwargs, **arguments)
        said = [answer_text(self._loaded, ids) for ids in timer.samples.pop().output_ids]
        return np.array([self._right(text, self._examples[row]) for text, row in zip(said, some.rows, strict=True)])

    def right(self, setting: Setting) -> float:
        """The mean score, 0 to 1."""
        return float(self.scores(setting).mean())

    def close(self, setting: Setting) -> float:
        """The mean log-probability of what the whole model finds most probable next, over the prompts' text; 0 at most.

        It is measured on the first few questions.
        """
        if setting not in self._closeness:
            if self._whole is None:
                self._whole = [logits.argmax(-1) for logits in self._prompts(None)]
            gained = [
                torch.log_softmax(logits.float(), -1).gather(-1, best[:, None])[:, 0]
                for logits, best in zip(self._prompts(setting), self._whole, strict=True)
            ]
            self._closeness[setting] = float(torch.cat(gained).double().mean())
        return self._closeness[setting]

    def _knobs(self, setting: Setting | None) -> ModelKnobs:
        if setting is None:
            return ModelKnobs(crops=self._settings.crops)
        if self._knob == "experts":
            return ModelKnobs(crops=self._settings.crops, experts=setting)
        active = tuple(index for index, level in enumerate(setting) if level)
        return ModelKnobs(crops=self._settings.crops, blocks=len(active), active=active)

    def _prompts(self, setting: Setting | None) -> list[torch.Tensor]:
        """The logits at the text positions of the first few prompts, (positions, vocabulary) for each batch."""
        model: Any = self._loaded.model
        image = getattr(model.config, "image_token_id", None)
        given, rows = [], 0
        with applied(model, self._knobs(setting)), torch.no_grad():
            for some in self._batches:
                ids = some.kwargs["input_ids"]
                logits = model(**some.kwargs, use_cache=False).logits
                text = torch.ones_like(ids, dtype=torch.bool) if image is None else ids != image
                given.append(logits[text])
                rows += len(some.rows)
                if rows >= self._settings.close_rows:
                    break
        return given
