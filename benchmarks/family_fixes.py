"""What a type needs beside small numbers."""

from __future__ import annotations

from typing import Any

FIXES: dict[str, dict[str, Any]] = {}
