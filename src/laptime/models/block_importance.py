"""How much each decoder block matters: measured on inputs, or read from a file.

A block's influence is one minus the mean cosine similarity of the hidden states that enter and leave it, over all
tokens: Block Influence, Men et al., ShortGPT (arXiv 2403.03853), equation 1. A block that hardly turns its input is the
first to be left out.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import torch

from laptime.data.outside import read_regular
from laptime.data.shown import Shown
from laptime.errors import LaptimeError
from laptime.models.active_blocks import always_active, check_blocks, choose_blocks
from laptime.models.anatomy import Anatomy, find_anatomy
from laptime.models.block_list import read_blocks, read_experts
from laptime.models.knobs import ModelKnobs, applied


class BlockImportance(Shown, msgspec.Struct, frozen=True, kw_only=True):
    """How much each block of a model matters on some inputs.

    importance: one number for each block, first to last. active: which blocks run, for each number of them, when the
    least important ones are left out. agreement: the share of positions, 0 to 1, at which the most probable next token
    is then still the whole model's.
    """

    ROWS: ClassVar[str] = "blocks"

    schema: str = "laptime.importance/1"
    model: str
    inputs: int
    importance: list[float]
    active: dict[int, list[int]]
    agreement: dict[int, float]

    @property
    def blocks(self) -> list[dict[str, float]]:
        """A row for each block: its number and its importance."""
        return [{"block": number, "importance": value} for number, value in enumerate(self.importance)]


class _Counted(Sequence[Mapping[str, torch.Tensor]]):
    """Inputs that tell how many of them were gone through: a forward each."""

    def __init__(self, inputs: Sequence[Mapping[str, torch.Tensor]], tell: Callable[[], None]) -> None:
        self._inputs, self._tell = inputs, tell

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, index: Any) -> Any:
        return self._inputs[index]

    def __iter__(self) -> Iterator[Mapping[str, torch.Tensor]]:
        for one in self._inputs:
            yield one
            self._tell()


def block_importance(
    model: Any,
    inputs: Sequence[Mapping[str, torch.Tensor]],
    numbers: Sequence[int],
    name: str = "",
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> BlockImportance:
    """Importance, and what is left of the model with each number of blocks in `numbers` (all that it can take: empty).

    progress: is told the forwards that are done, and how many there are.
    Raises LaptimeError as measure_importance does, and for a number that the model can't take.
    """
    numbers = numbers or takeable_numbers(model)
    done, forwards = itertools.count(1), len(inputs) * (2 + len(numbers))
    inputs = _Counted(inputs, lambda: progress(next(done), forwards))
    importance = measure_importance(model, inputs)
    active = most_important(model, importance, numbers)
    return BlockImportance(
        model=name,
        inputs=len(inputs),
        importance=importance,
        active={number: list(blocks) for number, blocks in active.items()},
        agreement=next_token_agreement(model, inputs, active),
    )


def takeable_numbers(model: Any) -> list[int]:
    """The numbers of blocks, below its own, that can run in this model; none where that is not proved right."""
    anatomy = find_anatomy(model)
    count = len(anatomy.layers)
    return [number for number in range(1, count) if _takes(model, anatomy, number)]


def _takes(model: Any, anatomy: Anatomy, number: int) -> bool:
    try:
        check_blocks(model, anatomy, number)
    except LaptimeError:
        return False
    return True


def most_important(model: Any, importance: Sequence[float], numbers: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """The blocks that run, for each number of them.

    Raises LaptimeError unless there is one finite importance for each block, or for a number that it can't take.
    """
    anatomy = find_anatomy(model)
    count = len(anatomy.layers)
    if len(importance) != count:
        raise LaptimeError(f"importance: {len(importance)} numbers for a model of {count} blocks; give one for each")
    for index, value in enumerate(importance):
        if not math.isfinite(value):
            raise LaptimeError(f"importance: block {index} has {value}; every block needs a finite number")
    chosen = {}
    for blocks in numbers:
        check_blocks(model, anatomy, blocks)
        chosen[blocks] = choose_blocks(count, blocks, always_active(model, count), importance)
    return chosen


def measure_importance(model: Any, inputs: Sequence[Mapping[str, torch.Tensor]]) -> list[float]:
    """The influence of each block, one float in 0..2 for each, first to last, over the tokens of all `inputs`.

    inputs: keyword arguments of forward(), as `Inputs.kwargs`. One forward each, without a cache; padding (attention
    mask 0) is left out. The hooks that look at the hidden states are gone when this returns.
    Raises LaptimeError when there is nothing to measure on, or a block gives something that isn't a number.
    """
    if not inputs:
        raise LaptimeError("importance: no inputs to measure it on; give at least one")
    layers = find_anatomy(model).layers
    totals, tokens = [0.0] * len(layers), 0
    mask: torch.Tensor | None = None

    def add(index: int, entering: torch.Tensor, leaving: torch.Tensor) -> None:
        similar = torch.nn.functional.cosine_similarity(entering.double(), leaving.double(), dim=-1)
        totals[index] += float((similar if mask is None else similar[mask.to(similar.device)]).sum())

    hooks = [
        layer.register_forward_hook(
            lambda _, args, kwargs, out, index=index: add(
                index, args[0] if args else kwargs["hidden_states"], out if isinstance(out, torch.Tensor) else out[0]
            ),
            with_kwargs=True,
        )
        for index, layer in enumerate(layers)
    ]
    try:
        for kwargs in inputs:
            ids, given = kwargs["input_ids"], kwargs.get("attention_mask")
            mask = given.bool() if given is not None and given.shape == ids.shape else None
            tokens += int(ids.numel() if mask is None else mask.sum())
            with torch.no_grad():
                model(**kwargs, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    if tokens == 0:
        raise LaptimeError("importance: the inputs hold no token to measure it on")
    influence = [1.0 - total / tokens for total in totals]
    for index, value in enumerate(influence):
        if not math.isfinite(value):
            raise LaptimeError(f"importance: block {index} gives {value} on these inputs; use another dtype or inputs")
    return influence


def next_token_agreement(
    model: Any, inputs: Sequence[Mapping[str, torch.Tensor]], active: Mapping[int, Sequence[int]]
) -> dict[int, float]:
    """How often a model with fewer blocks finds the same next token most probable as the whole one, 0 to 1.

    inputs: as in measure_importance; every position that isn't padding counts. active: which blocks run, by their
    number. Raises LaptimeError for blocks that can't be left out of this model.
    """
    whole = [_most_probable(model, kwargs) for kwargs in inputs]
    agreement = {}
    for count, blocks in active.items():
        with applied(model, ModelKnobs(blocks=count, active=tuple(blocks))):
            same = torch.cat([_most_probable(model, kwargs) == one for kwargs, one in zip(inputs, whole, strict=True)])
        agreement[count] = float(same.double().mean())
    return agreement


def _most_probable(model: Any, kwargs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The most probable next token at every position that isn't padding, (positions,)."""
    with torch.no_grad():
        logits = model(**kwargs, use_cache=False).logits
    tokens: torch.Tensor = logits.argmax(-1)
    given = kwargs.get("attention_mask")
    if given is not None and given.shape == tokens.shape:
        return tokens[given.bool()]
    return tokens.flatten()


def importance_text(
    importance: Sequence[float],
    *,
    model: str = "",
    active: Mapping[int, str] | None = None,
    experts: Mapping[int, str] | None = None,
) -> str:
    """The content of the file that read_importance, read_active and read_experts_file read.

    active: written_blocks, by their number. experts: written_experts, by their total over all blocks.
    """
    value: dict[str, Any] = {"model": model, "importance": list(importance)}
    for name, rows in (("active", active), ("experts", experts)):
        if rows:
            value[name] = {str(count): row for count, row in rows.items()}
    return json.dumps(value, allow_nan=False) + "\n"


def write_importance(path: Path | str, importance: Sequence[float], *, model: str = "") -> None:
    """Write the file that read_importance reads. Raises LaptimeError when it can't be written."""
    text = importance_text(importance, model=model)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise LaptimeError(f"{path}: can't be written: {error.strerror}") from None


def read_importance(path: Path | str, *, blocks: int | None = None) -> list[float]:
    """One number for each block, from a JSON list or an object with the list under "importance".

    blocks: how many there must be, if known.
    Raises LaptimeError with the file: unreadable, not such JSON, a value that is no finite number, a wrong length.
    """
    value = _json_of(path)
    if isinstance(value, dict):
        value = value.get("importance")
    if not isinstance(value, list) or not value:
        raise LaptimeError(f'{path}: holds no list of numbers; write one for each block, or {{"importance": [...]}}')
    for index, number in enumerate(value):
        if isinstance(number, bool) or not isinstance(number, int | float) or not _finite(number):
            raise LaptimeError(f"{path}: block {index} has {str(number)[:40]!r}; every block needs a finite number")
    if blocks is not None and len(value) != blocks:
        raise LaptimeError(f"{path}: {len(value)} numbers for a model of {blocks} blocks; give one for each")
    return [float(number) for number in value]


def _json_of(path: Path | str) -> Any:
    try:
        return json.loads(read_regular(Path(path)).decode())
    except OSError as error:
        raise LaptimeError(f"{path}: can't be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise LaptimeError(f'{path}: is no JSON; write a list of numbers, or {{"importance": [...]}}') from None


def read_active(path: Path | str) -> dict[int, tuple[int, ...]]:
    """Which blocks run, for each number of them that a search chose; empty in a file that holds importance alone.

    Raises LaptimeError with the file for what isn't numbers of blocks with as many blocks each.
    """
    value = _json_of(path)
    named = value.get("active") if isinstance(value, dict) else None
    if named is None:
        return {}
    meant = 'write {"26": "0-12,15,17-29"} under "active"'
    if not isinstance(named, dict):
        raise LaptimeError(f"{path}: its active blocks are no object; {meant}")
    active = {}
    for count, blocks in named.items():
        if not (isinstance(blocks, str) and count.isascii() and count.isdigit() and len(count) < 5):
            raise LaptimeError(f"{path}: active blocks {str(count)[:20]!r}: {str(blocks)[:40]!r}; {meant}")
        try:
            active[int(count)] = read_blocks(blocks)
        except LaptimeError as error:
            raise LaptimeError(f"{path}: {error}") from None
        if len(active[int(count)]) != int(count):
            raise LaptimeError(f"{path}: {len(active[int(count)])} active blocks stand under {int(count)}; {meant}")
    return active


def read_experts_file(path: Path | str) -> dict[int, tuple[int, ...]]:
    """How many experts each block has, by their total over all blocks, as a search wrote it.

    Raises LaptimeError with the file for what isn't such totals with one number for each block.
    """
    value = _json_of(path)
    named = value.get("experts") if isinstance(value, dict) else None
    meant = 'write {"experts": {"12": "4,4,2,2"}}'
    if not isinstance(named, dict) or not named:
        raise LaptimeError(f"{path}: names no experts; {meant}, or let laptime importance --search experts write it")
    experts = {}
    for total, row in named.items():
        if not (isinstance(row, str) and total.isascii() and total.isdigit() and len(total) < 8):
            raise LaptimeError(f"{path}: experts {str(total)[:20]!r}: {str(row)[:40]!r}; {meant}")
        try:
            numbers = read_experts(row)
        except LaptimeError as error:
            raise LaptimeError(f"{path}: {error}") from None
        if sum(numbers) != int(total):
            raise LaptimeError(f"{path}: {sum(numbers)} experts stand under {int(total)}; {meant}")
        experts[int(total)] = numbers
    return experts


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond a float's range
        return False
