"""The words of each page of the documentation, tables and code included, the longest first.

    python -m tools.docs.words

Ends with 1 if a page that is read from its beginning has more than 1,500. An appendix may be longer.
"""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
MOST = 1500


def words() -> dict[str, int]:
    """Pages by their place below docs/, without the generated reference, and how many words each has."""
    pages = (path for path in DOCS.rglob("*.md") if path.relative_to(DOCS).parts[0] != "reference")
    counts = {str(path.relative_to(DOCS)): len(path.read_text(encoding="utf-8").split()) for path in pages}
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def too_long() -> list[str]:
    """The pages that have more words than a reader is asked to read at once."""
    return [name for name, count in words().items() if count > MOST and not name.startswith("appendix/")]


def main() -> int:
    """Print them all. Returns the exit code."""
    counts, long = words(), too_long()
    for name, count in counts.items():
        print(f"{count:6,} {name}")
    print(f"{sum(counts.values()):6,} on {len(counts)} pages; too long: {', '.join(long) or 'none'}")
    return 1 if long else 0


if __name__ == "__main__":
    sys.exit(main())
