"""What the package's metadata takes from outside pyproject.toml: the project's address and the README's absolute links.

The address isn't written anywhere in the repository. A release workflow knows it (LAPTIME_PROJECT_URL, from the host's
own variables). Without it the metadata has no addresses, and the README's links stay relative.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE_LINK = re.compile(r"(!?)(\[(?:[^\[\]]|\[[^\]]*\](?:\([^)]*\))?)*\])\((?!https?:|#|mailto:)([^)\s]+)\)")
"""A Markdown link or image whose target is a file of the repository; its text may hold an image of its own."""


class CustomMetadataHook(MetadataHookInterface):
    """Adds `urls` and `readme` to the project's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add them to `metadata` in place, as hatchling asks for it."""
        address = os.environ.get("LAPTIME_PROJECT_URL", "").rstrip("/")
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        tag = os.environ.get("LAPTIME_PROJECT_TAG") or "main"
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(text, address, tag) if address else text,
        }
        metadata["urls"] = project_urls(address) if address else {}


def project_urls(address: str) -> dict[str, str]:
    """The addresses that a package index shows beside a project."""
    return {
        "Source": address,
        "Documentation": f"{address}/tree/main/docs",
        "Changelog": f"{address}/blob/main/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }


def absolute(markdown: str, address: str, tag: str) -> str:
    """The text with every relative link and image led to the repository's files at a tag."""

    def led(match: re.Match[str]) -> str:
        image, words, target = match.groups()
        kind = "raw" if image or Path(target.partition("#")[0]).suffix in {".png", ".svg"} else "blob"
        inner = words if image else f"[{absolute(words[1:-1], address, tag)}]"
        return f"{image}{inner}({address}/{kind}/{tag}/{target})"

    return RELATIVE_LINK.sub(led, markdown)
