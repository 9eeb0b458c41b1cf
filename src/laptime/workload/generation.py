"""Further arguments of generate() that a user asks for by name: sampling, beams, stop strings."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from transformers import GenerationConfig
from transformers.generation import GenerationMixin
from transformers.utils import logging as transformers_logging

from laptime.errors import LaptimeError
from laptime.models.sources import first_line

ELSEWHERE = {
    "max_new_tokens": "`new_tokens`",
    "max_length": "`new_tokens`",
    "cache_implementation": "`cache`",
    "disable_compile": "`compile`",
    "prefill_chunk_size": "`prefill_chunk`",
    "assistant_model": "`assistant`",
}
"""What profile() has an argument of its own for."""

_COUNTS = ("num_beams", "num_return_sequences", "num_beam_groups", "prompt_lookup_num_tokens", "num_assistant_tokens")
"""Counts of which transformers itself doesn't say that they begin at 1."""

_SWITCHES = ("do_sample", "use_cache")
_TEXTS = ("stop_strings", "early_stopping")
_RESULT = ("return_dict_in_generate", "output_scores", "output_logits", "output_attentions", "output_hidden_states")


def read_generate(words: Iterable[str]) -> dict[str, Any]:
    """KEY=VALUE, each value as JSON where it is JSON, else as text. Raises LaptimeError."""
    options: dict[str, Any] = {}
    for one in words:
        key, equals, value = one.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise LaptimeError(f"`generate` {one}: write KEY=VALUE, as num_beams=4")
        if key in options:
            raise LaptimeError(f"`generate` {one}: {key} is given twice")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = {"True": True, "False": False, "None": None}.get(value, value)
    return options


def check_generate(options: Mapping[str, Any]) -> None:
    """Raise LaptimeError for what transformers doesn't know, or contradicts itself, or has an option of its own."""
    known = [name for name in vars(GenerationConfig()) if not name.startswith("_")]
    for key in options:
        if key in ELSEWHERE:
            raise LaptimeError(f"`generate` {key}: use {ELSEWHERE[key]}")
        if key in _RESULT:
            raise LaptimeError(f"`generate` {key}: changes what is returned and not how it is made; leave it out")
        if key == "custom_generate":
            raise LaptimeError("`generate` custom_generate: a loop of its own has no known stages; leave it out")
        if key not in known and key in inspect.signature(GenerationMixin.generate).parameters:
            raise LaptimeError(
                f"`generate` {key}: is an object of a program and no setting; time your own call with "
                "laptime.StageTimer"
            )
        if key not in known:
            near = ", ".join(difflib.get_close_matches(key, known, n=3, cutoff=0.5))
            hint = f"near: {near}" if near else "some are num_beams, do_sample, temperature"
            raise LaptimeError(f"`generate` {key}: generate() has no such setting; {hint}")
        if isinstance(options[key], str) and key not in _TEXTS:
            raise LaptimeError(f"`generate` {key}={options[key]}: write a number, true, false or JSON, not text")
        if key in _COUNTS and options[key] is not None and not (type(options[key]) is int and options[key] >= 1):
            raise LaptimeError(f"`generate` {key}={options[key]}: must be a whole number, at least 1")
        if key in _SWITCHES and not isinstance(options[key], bool | None):
            raise LaptimeError(f"`generate` {key}={options[key]}: write true or false")
    try:
        with _only_errors():
            GenerationConfig(**options).validate(strict=True)
    except (ValueError, TypeError, ImportError, AttributeError) as error:
        raise LaptimeError(f"`generate`: {_what_is_wrong(error)}") from error


@contextmanager
def _only_errors() -> Iterator[None]:
    """transformers without its warnings: it logs what it then raises."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def _what_is_wrong(error: Exception) -> str:
    """What transformers says of the settings, on one line: its first complaint, without its advice on warnings."""
    if isinstance(error, AttributeError):
        return f"a value is of another kind than transformers takes ({first_line(error)})"
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    if len(lines) > 1 and lines[0].startswith("GenerationConfig is invalid"):
        lines = lines[1:]
    text = " ".join(lines).partition(" If you're using a pretrained model")[0].replace(" -- ", ": ")
    return text[:300] or first_line(error)


def generate_words(options: Mapping[str, Any]) -> str | None:
    """The options in one canonical line, for a configuration; None without any."""
    return " ".join(f"{key}={json.dumps(options[key])}" for key in sorted(options)) or None
