"""What the documentation site does with pages that also stand in the repository.

Navigation: pages that mkdocs.yml does not name follow in their own sections, so that a new page needs no edit there.
Links: one that leads out of docs/ (to an example, a benchmark, the code) becomes the project's address, where
LAPTIME_PROJECT_URL names it, else the path as text. One that leads to no file of the repository stops the build.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

LINK = re.compile(r"(?<!!)\[([^\[\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
SECTIONS = {
    "Measure": ("profile", "method", "calls", "families", "sweep", "sweep-summary", "sweep-page", "what-knobs-buy",
                "serve", "vllm", "engines", "knobs", "scoring"),
    "Judge": ("audit", "audit-served", "compare", "export"),
    "Traces and speed": ("trace", "trace-*", "remedy", "fast"),
    "Predict and choose": ("fit", "estimate", "budget", "control", "control-page", "glyphs"),
}  # fmt: skip
"""Sections of the site by the names of their pages; a page that stands nowhere here comes under More."""


def on_config(config: Any) -> Any:
    """Add every page that the navigation does not name."""
    docs = Path(config["docs_dir"])
    named = set(_named(config["nav"]))
    pages = [path for path in sorted(docs.glob("*.md")) if path.name not in named]
    for title, names in SECTIONS.items():
        own = [p for name in names for p in pages if p.match(f"{name}.md")]
        pages = [page for page in pages if page not in own]
        config["nav"].append({title: [page.name for page in dict.fromkeys(own)]})
    reference = [f"reference/{path.name}" for path in sorted((docs / "reference").glob("*.md"))]
    rest = [page.name for page in pages]
    appendix = [f"appendix/{path.name}" for path in sorted((docs / "appendix").glob("*.md"))]
    decisions = ["decisions/README.md"]
    decisions += [f"decisions/{path.name}" for path in sorted((docs / "decisions").glob("0*.md"))]
    config["nav"] += [
        {
            "Reference": [
                {"Verbs": [one for one in reference if "laptime-" in one]},
                {"Python": [one for one in reference if "python-" in one]},
            ]
        },
        {"More": [*rest, {"Appendix": appendix}, {"Decisions": decisions}]},
    ]
    return config


def _named(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [name for item in nav for name in _named(list(item.values()) if isinstance(item, dict) else item)]


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead links out of docs/ to the project, and stop at one that leads nowhere."""
    docs = Path(config["docs_dir"]).resolve()
    here = (docs / page.file.src_path).parent
    address = os.environ.get("LAPTIME_PROJECT_URL", "").rstrip("/")

    def led(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        place = (here / target).resolve()
        if place.is_relative_to(docs) and place.suffix != ".py" and not place.is_dir():
            return match[0]
        if not place.exists():
            raise PluginError(f"{page.file.src_path}: the link to {target} leads to no file")
        path = place.relative_to(docs.parent)
        return f"[{words}]({address}/blob/main/{path}{anchor})" if address else f"{words} (`{path}`)"

    return LINK.sub(led, markdown)
