"""Boosted trees (LightGBM) on the log residual, and a strict reader and writer of LightGBM's text format.

Trees learn what is jagged: tiles and waves of thread blocks make times jump from one size to the next.

LightGBM's own reader trusts its input: a child index out of range or a cycle reads foreign memory or never ends. So a
text from a folder is parsed here first, and every index, length and number is checked. Only what was understood is
written out again for LightGBM to read. Whole trees only: numeric splits, one output, no linear leaves.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import numpy as np

from laptime.data.stats import Floats
from laptime.errors import LaptimeError
from laptime.estimate.table.table import Encoded


class TreeSize(msgspec.Struct, frozen=True, kw_only=True):
    """How much the trees may learn: their number, leaves each, and the shrinkage of a step."""

    trees: int
    leaves: int
    rate: float


SMALL = TreeSize(trees=80, leaves=8, rate=0.08)
MIDDLE = TreeSize(trees=120, leaves=31, rate=0.15)
LARGE = TreeSize(trees=400, leaves=63, rate=0.1)
MANY_ROWS = 2000


def tree_size(residual: str, rows: int) -> TreeSize | None:
    """The size for a kind of residual: large ones grow with the table. None for a kind without trees."""
    if residual == "small":
        return SMALL
    if residual.endswith(("large", "guided")):
        return LARGE if rows > MANY_ROWS else MIDDLE
    return None


class Trees:
    """A LightGBM model. Its text is written when it is asked for."""

    __slots__ = ("_booster", "_text")

    def __init__(self, booster: Any, text: str | None = None) -> None:
        self._booster = booster
        self._text = text

    @classmethod
    def from_text(cls, text: str) -> Trees:
        """From a text that `write` wrote: LightGBM reads no other."""
        import lightgbm

        return cls(lightgbm.Booster(model_str=text), text)

    @property
    def text(self) -> str:
        """The model in LightGBM's own format, reduced to what laptime reads."""
        if self._text is None:
            self._text = checked(self._booster.model_to_string(), "LightGBM's model")
        return self._text

    @property
    def features(self) -> int:
        """How many columns it reads."""
        return int(self._booster.num_feature())

    def settled(self) -> Trees:
        """The same model as it will be after saving and loading, bit for bit."""
        return Trees.from_text(self.text)

    def log_ms(self, rows: Encoded, guide: Floats | None = None, *, threads: int = 0) -> Floats:
        """The residual's prediction, (n,)."""
        return np.asarray(self._booster.predict(matrix(rows, guide), num_threads=threads), dtype=np.float64)


WORTH_THREADS = 100_000
"""On fewer rows threads wait for each other longer than they work: trees on 30,000 rows take one thread 0.1 s."""


def fit_trees(
    rows: Encoded, log_residual: Floats, size: TreeSize, guide: Floats | None = None, *, seed: int, threads: int = 0
) -> Trees:
    """Boost on squared error of the logarithms; the same seed gives the same model, whatever the threads.

    Whatever runs beside other fits asks for one thread. LightGBM keeps the number for the whole process and sizes its
    buffers by it: a prediction that asks for more while another thread fits can end the process.
    """
    import lightgbm

    several = threads if len(rows) >= WORTH_THREADS else 1
    bins = {"verbosity": -1, "max_bin": 1023, "min_data_in_bin": 1, "num_threads": several}
    options: dict[str, Any] = {
        **bins,
        "objective": "regression",
        "learning_rate": size.rate,
        "num_leaves": size.leaves,
        "min_data_in_leaf": max(2, min(5, len(rows) // 20)),
        "deterministic": True,
        "force_row_wise": True,
        "seed": seed,
    }
    booster = lightgbm.Booster(options, lightgbm.Dataset(matrix(rows, guide), log_residual, params=bins))
    for _ in range(size.trees):
        if booster.update():  # no split improves anything any more
            break
    return Trees(booster)


def matrix(rows: Encoded, guide: Floats | None = None) -> Floats:
    """Numeric columns, then codes, then the roofline's log time where trees are guided by it."""
    columns = [rows.numeric, rows.codes] if guide is None else [rows.numeric, rows.codes, guide]
    return np.ascontiguousarray(np.column_stack(columns), dtype=np.float64)


MOST_BYTES = 64 * 1024 * 1024
MOST_TREES = 20_000
MOST_LEAVES = 4096
_KNOWN_DECISIONS = frozenset({0, 2, 4, 6, 8, 10})
"""Numeric splits: default-left bit 2, missing type in bits 4 and 8. Bit 1 (a categorical split) is not written here."""
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,4})?")


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """One tree. Numbers stay as they were written, so that writing them anew changes no bit."""

    split_feature: list[int]
    threshold: list[str]
    decision_type: list[int]
    left_child: list[int]
    right_child: list[int]
    leaf_value: list[str]


class Forest(msgspec.Struct, frozen=True, kw_only=True):
    """All trees; their outputs are summed."""

    features: int
    trees: list[Tree]


def parse(text: str, where: str) -> Forest:
    """Read a text. Raises LaptimeError (naming `where`) for anything but what LightGBM writes for these models."""
    if len(text) > MOST_BYTES:
        raise _bad(where, "it is too large")
    head, *blocks = text.partition("\nend of trees")[0].split("\nTree=")
    lines = head.splitlines()
    if not lines or lines[0] != "tree":
        raise _bad(where, "it doesn't start with 'tree'")
    values = _pairs(lines[1:], where)
    for key, wanted in (("num_class", "1"), ("num_tree_per_iteration", "1")):
        if values.get(key) != wanted:
            raise _bad(where, f"{key} is not {wanted}")
    features = _integer(values.get("max_feature_idx", ""), where) + 1
    if not 1 <= features <= 10_000:
        raise _bad(where, "its number of features is out of range")
    if not 0 < len(blocks) <= MOST_TREES:
        raise _bad(where, "its number of trees is out of range")
    return Forest(features=features, trees=[_tree(block, features, where) for block in blocks])


def write(forest: Forest) -> str:
    """The text of a forest, as LightGBM reads it."""
    head = [
        "tree",
        "version=v4",
        "num_class=1",
        "num_tree_per_iteration=1",
        "label_index=0",
        f"max_feature_idx={forest.features - 1}",
        "objective=regression",
        "feature_names=" + " ".join(f"Column_{i}" for i in range(forest.features)),
        "feature_infos=" + " ".join(["[-1e+300:1e+300]"] * forest.features),
    ]
    blocks = [_block(number, tree) for number, tree in enumerate(forest.trees)]
    sizes = " ".join(str(len(block)) for block in blocks)
    return "\n".join([*head, f"tree_sizes={sizes}", "", ""]) + "".join(blocks) + "end of trees\n"


def checked(text: str, where: str) -> str:
    """The same model written anew from what was understood of it."""
    return write(parse(text, where))


def _tree(block: str, features: int, where: str) -> Tree:
    lines = block.splitlines()
    values = _pairs(lines[1:], where)
    leaves = _integer(values.get("num_leaves", ""), where)
    if not 1 <= leaves <= MOST_LEAVES:
        raise _bad(where, "a tree's number of leaves is out of range")
    if values.get("num_cat", "0") != "0" or values.get("is_linear", "0") != "0":
        raise _bad(where, "it has categorical splits or linear leaves")
    inner = leaves - 1
    tree = Tree(
        split_feature=_integers(values, "split_feature", inner, where),
        threshold=_numbers(values, "threshold", inner, where),
        decision_type=_integers(values, "decision_type", inner, where),
        left_child=_integers(values, "left_child", inner, where),
        right_child=_integers(values, "right_child", inner, where),
        leaf_value=_numbers(values, "leaf_value", leaves, where),
    )
    if any(not 0 <= feature < features for feature in tree.split_feature):
        raise _bad(where, "a split names a feature that there is not")
    if not _KNOWN_DECISIONS.issuperset(tree.decision_type):
        raise _bad(where, "a split is of an unknown kind")
    _check_shape(tree, inner, leaves, where)
    return tree


def _check_shape(tree: Tree, inner: int, leaves: int, where: str) -> None:
    """Every node and leaf has exactly one parent, and children come after their parents: no cycle is possible."""
    nodes: set[int] = set()
    ends: set[int] = set()
    for parent, children in enumerate(zip(tree.left_child, tree.right_child, strict=True)):
        for child in children:
            if child >= 0 and not parent < child < inner:
                raise _bad(where, "a tree's branches don't lead from parents to children")
            if child < 0 and ~child >= leaves:
                raise _bad(where, "a tree's branch leads to a leaf that there is not")
            reached, name = (nodes, child) if child >= 0 else (ends, ~child)
            if name in reached:
                raise _bad(where, "two branches of a tree lead to the same place")
            reached.add(name)
    if inner and (len(nodes) != inner - 1 or len(ends) != leaves):
        raise _bad(where, "parts of a tree can't be reached")


def _block(number: int, tree: Tree) -> str:
    inner, leaves = len(tree.split_feature), len(tree.leaf_value)
    zeros, ones = " ".join(["0"] * inner), " ".join(["1"] * leaves)
    lines = [f"Tree={number}", f"num_leaves={leaves}", "num_cat=0"]
    if inner:
        lines += [
            "split_feature=" + " ".join(map(str, tree.split_feature)),
            "split_gain=" + zeros,
            "threshold=" + " ".join(tree.threshold),
            "decision_type=" + " ".join(map(str, tree.decision_type)),
            "left_child=" + " ".join(map(str, tree.left_child)),
            "right_child=" + " ".join(map(str, tree.right_child)),
        ]
    lines.append("leaf_value=" + " ".join(tree.leaf_value))
    if inner:
        lines += [f"leaf_weight={ones}", f"leaf_count={ones}", f"internal_value={zeros}"]
        lines += [f"internal_weight={zeros}", f"internal_count={zeros}"]
    return "\n".join([*lines, "is_linear=0", "shrinkage=1", "", ""]) + "\n"


def _pairs(lines: list[str], where: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for line in lines:
        key, sign, value = line.partition("=")
        if not sign:
            continue
        if key in values:
            raise _bad(where, f"{key[:40]!r} is given twice")
        values[key] = value
    return values


def _integer(text: str, where: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise _bad(where, f"{text[:40]!r} is no whole number")
    return int(text)


def _integers(values: dict[str, str], key: str, count: int, where: str) -> list[int]:
    return [_integer(text, where) for text in _words(values, key, count, where)]


def _numbers(values: dict[str, str], key: str, count: int, where: str) -> list[str]:
    words = _words(values, key, count, where)
    for word in words:
        if not _NUMBER.fullmatch(word):
            raise _bad(where, f"{word[:40]!r} is no number")
    return words


def _words(values: dict[str, str], key: str, count: int, where: str) -> list[str]:
    words = values.get(key, "").split()
    if len(words) != count:
        raise _bad(where, f"a tree has {len(words)} values of {key}, not {count}")
    return words


def _bad(where: str, what: str) -> LaptimeError:
    return LaptimeError(f"{where}: not a LightGBM model that laptime wrote ({what}); fit the estimator again")
