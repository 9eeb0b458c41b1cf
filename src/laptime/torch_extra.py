"""The extra `[torch]`: needed to measure, not to read what was measured."""

from __future__ import annotations

from importlib.util import find_spec

from laptime.errors import LaptimeError


def require_torch() -> None:
    """Raise LaptimeError unless torch and transformers are installed (without importing them)."""
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise LaptimeError(f"{' and '.join(missing)} not installed, needed to measure; pip install 'laptime[torch]'")
