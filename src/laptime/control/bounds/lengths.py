"""How many tokens a question's answer needs, from its words: "how many" is short, "read the line" is long. No torch.

    P(N = n | words, choice) = softmax regression on the language features, over the counts that were seen

A model with too few blocks may write nonsense where the whole model writes a digit. So groups of choices may have their
own regressions: by tier, by top-k, by blocks, or one for all, whichever predicts the lengths in other folds best. Each
regression is trained on the answers of its choices to each question; each question has the same weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from laptime.control.choices import ChoiceSpace
from laptime.control.seen import Floats32
from laptime.control.tables.decision_table import FEWEST, too_few
from laptime.control.tables.features import LANGUAGE
from laptime.control.tables.tensor_files import take_array
from laptime.data.stats import Floats
from laptime.errors import LaptimeError

Counts = npt.NDArray[np.int32]

FOLDS = 5
SHRINKS = (0.1, 0.01, 0.001)
"""Ridge penalties to try, in units of the mean log likelihood. The one that predicts other folds best is taken."""


class LengthModel(msgspec.Struct, frozen=True, kw_only=True):
    """A regression for each of g groups of choices: weights (L, g, k) and bias (g, k), float32.

    counts (k,): token counts, ascending. group (choices,): the group of each choice. questions: how many questions the
    bounds were calibrated on. most: the longest answer that is allowed.
    """

    counts: Counts
    weights: Floats32
    bias: Floats32
    group: Counts
    questions: int
    most: int

    def mass(self, language: Floats32) -> Floats32:
        """P(N = counts) of each group for a question with these words, (g, k)."""
        mass: Floats32 = (language @ self.weights.reshape(len(language), -1)).reshape(self.bias.shape)
        mass += self.bias
        mass -= mass.max(axis=1, keepdims=True)
        np.exp(mass, out=mass)
        mass /= mass.sum(axis=1, keepdims=True)
        return mass

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Its arrays by name, for a file."""
        return {
            "lengths.counts": self.counts,
            "lengths.weights": self.weights,
            "lengths.bias": self.bias,
            "lengths.group": self.group,
        }


def fit_lengths(
    language: Floats32, output_tokens: Counts, most: int, space: ChoiceSpace
) -> tuple[LengthModel, npt.NDArray[np.float32]]:
    """A length model from language features (n, L) and token counts (n, choices).

    Returned beside it: P(N = counts), (n, choices, k), of each question by models that were fitted without it. The same
    table gives the same model. Raises LaptimeError with fewer than 20 questions.
    """
    n = len(language)
    if n < FEWEST:
        raise LaptimeError(too_few(n, "to learn how long answers are"))
    counts, codes = np.unique(output_tokens, return_inverse=True)
    codes = codes.reshape(output_tokens.shape)
    seen = np.eye(len(counts))[codes]
    least, best, mass = np.inf, None, seen
    for group in _groupings(space):
        shares = _by_group(seen, group)
        for shrink in SHRINKS:
            held_out = _held_out(language, shares, shrink)[:, group]
            loss = -float(np.log((held_out * seen).sum(axis=2) + 1e-9).sum())
            if loss < least:
                least, best, mass = loss, (shares, group, shrink), held_out
    assert best is not None, "a likelihood is a number"
    shares, group, shrink = best
    fitted = [_regress(language, shares[:, place], shrink) for place in range(shares.shape[1])]
    model = LengthModel(
        counts=counts.astype(np.int32),
        weights=np.stack([weights for weights, _ in fitted], axis=1).astype(np.float32),
        bias=np.stack([bias for _, bias in fitted]).astype(np.float32),
        group=group.astype(np.int32),
        questions=n,
        most=max(most, int(counts.max())),
    )
    return model, mass.astype(np.float32)


def read_lengths(
    arrays: Mapping[str, npt.NDArray[Any]], questions: int, most: int, choices: int, place: Path
) -> LengthModel:
    """A length model from a file's arrays. Raises LaptimeError for arrays that don't form one."""
    k = len(arrays["lengths.counts"]) if "lengths.counts" in arrays and arrays["lengths.counts"].ndim == 1 else 1
    group = take_array(arrays, "lengths.group", (choices,), place).astype(np.int32)
    groups = int(group.max()) + 1
    if group.min() < 0 or groups > choices:
        raise LaptimeError(f"{place}: lengths of answers by groups that don't exist; make it anew")
    model = LengthModel(
        counts=take_array(arrays, "lengths.counts", (k,), place).astype(np.int32),
        weights=take_array(arrays, "lengths.weights", (LANGUAGE, groups, k), place).astype(np.float32),
        bias=take_array(arrays, "lengths.bias", (groups, k), place).astype(np.float32),
        group=group,
        questions=questions,
        most=most,
    )
    if (
        k < 1
        or not (np.diff(model.counts) > 0).all()
        or model.counts[0] < 1
        or model.counts[-1] > most
        or questions < 1
    ):
        raise LaptimeError(f"{place}: lengths of answers that are out of order; make it anew")
    return model


def _groupings(space: ChoiceSpace) -> list[npt.NDArray[np.intp]]:
    """The groupings to try, (choices,) each: one group for all, then one by each knob that has several values."""
    shape = (space.first, max(1, len(space.top_ks)), max(1, len(space.blocks)))
    alike = np.zeros(len(space), dtype=np.intp)
    return [alike, *(axis.ravel() for axis in np.indices(shape) if axis.max() > 0)]


def _by_group(seen: Floats, group: npt.NDArray[np.intp]) -> Floats:
    """(n, choices, k) to (n, g, k): the mean over each group's choices."""
    return np.stack([seen[:, group == place].mean(axis=1) for place in range(int(group.max()) + 1)], axis=1)


def _held_out(x: Floats32, shares: Floats, shrink: float) -> Floats:
    """P(count | words) of each question and group from the other folds, (n, g, k)."""
    fold = np.random.default_rng(0).permutation(len(x)) % FOLDS
    held_out = np.empty_like(shares)
    for part in range(FOLDS):
        out = fold == part
        for place in range(shares.shape[1]):
            weights, bias = _regress(x[~out], shares[~out, place], shrink)
            scores = x[out] @ weights + bias
            mass = np.exp(scores - scores.max(axis=1, keepdims=True))
            held_out[out, place] = mass / mass.sum(axis=1, keepdims=True)
    return held_out


def _regress(x: Floats32, shares: Floats, shrink: float) -> tuple[Floats, Floats]:
    """Softmax regression by L-BFGS: weights (L, k) and bias (k,) that maximise the penalised likelihood of shares."""
    from scipy.optimize import minimize  # slow to import, and only training needs it

    inputs, k = x.astype(np.float64), shares.shape[1]
    if k == 1:
        return np.zeros((inputs.shape[1], 1)), np.zeros(1)

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights, bias = flat[:-k].reshape(-1, k), flat[-k:]
        scores = inputs @ weights + bias
        scores -= scores.max(axis=1, keepdims=True)
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        slope = (np.exp(logs) - shares) / len(inputs)
        value = -(shares * logs).sum() / len(inputs) + shrink / 2 * (weights**2).sum() / k
        return float(value), np.concatenate([(inputs.T @ slope + shrink * weights / k).ravel(), slope.sum(axis=0)])

    start = np.concatenate([np.zeros(inputs.shape[1] * k), np.log(shares.mean(axis=0) + 1e-3)])
    flat = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    return flat[:-k].reshape(-1, k), flat[-k:]
