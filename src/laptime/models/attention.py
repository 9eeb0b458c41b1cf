"""The attention implementation of a loaded model, changed for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from laptime.errors import LaptimeError
from laptime.models.config_changes import all_configs, changed
from laptime.models.loading import ATTENTIONS


def check_attention(name: str, model: Any, attention: str) -> None:
    """Raise LaptimeError unless the model can use this implementation here.

    Its class must have it, and its package must be installed.
    """
    with attending(name, model, attention):
        pass


@contextlib.contextmanager
def attending(name: str, model: Any, attention: str) -> Iterator[None]:
    """All parts of the model use this attention implementation inside the block.

    Raises LaptimeError for a name that isn't one, and for one that this model, or this machine, doesn't have.
    """
    if attention not in ATTENTIONS:
        raise LaptimeError(f"attention {attention!r} is unknown: use {', '.join(ATTENTIONS)}")
    with contextlib.ExitStack() as stack:
        for config in all_configs(model):
            before = getattr(config, "_attn_implementation_internal", None)
            stack.enter_context(changed(config, "_attn_implementation_internal", before))
        try:
            model.set_attn_implementation(attention)
        except (ValueError, ImportError) as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise LaptimeError(f"attention {attention!r}: {name} can't use it here: {reason}") from None
        if model.config._attn_implementation != attention:
            raise LaptimeError(f"attention {attention!r}: {name} can't change it once loaded; load it with it instead")
        yield
