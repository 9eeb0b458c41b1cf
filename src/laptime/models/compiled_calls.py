"""Compiled graphs of a model, put aside while its knobs differ: a graph is made for one setting of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

_COMPILED = ("_compiled_call", "_last_compile_config")  # where transformers keeps its compiled decode step


@contextlib.contextmanager
def without_compiled_calls(model: Any) -> Iterator[None]:
    """No graph compiled before is used inside the block, and none compiled inside is used after it.

    Dynamo's caches are emptied both times, of every model in the process. Its guards see these changes, but it keeps
    eight graphs of one function and, after one warning, runs the model eagerly from the ninth setting on
    (benchmarks/knob_changes.py: 7 to 9 times as slow).
    """
    _forget(model)
    try:
        yield
    finally:
        _forget(model)


def _forget(model: Any) -> None:
    for name in _COMPILED:
        vars(model).pop(name, None)
    torch.compiler.reset()
