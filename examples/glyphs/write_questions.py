"""Write questions and their pages: python -m examples.glyphs.write_questions --split test --samples 900 --out data

The folder then holds questions.jsonl, which laptime reads (`laptime sweep`), and one PNG a page. A question's id starts
with its type: "code-000123". Types take turns; by default each question has a page of its own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image

from .pages import draw_page
from .questions import TYPES, ask


def write_questions(
    out: Path, *, split: str, samples: int, first: int = 0, per_page: int = 1, types: tuple[str, ...] = TYPES
) -> Path:
    """Write `samples` questions about pages `first` and on of the split, `per_page` about each; returns the JSONL.

    Their ids are counted from first x per_page on, so that other pages' questions have others.
    """
    images = out / "images"
    images.mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(samples):
        number = first + index // per_page
        page = draw_page(split, number)
        name = f"images/{split}-{number:06d}.png"
        if index % per_page == 0:
            Image.fromarray(page.image).save(out / name)
        asked = ask(types[index % len(types)], page.truth, split, number, index % per_page)
        entry = {"id": f"{asked.kind}-{first * per_page + index:06d}", "image": name}
        lines.append(json.dumps(entry | {"question": asked.text, "answer": asked.answer}))
    file = out / "questions.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def type_of(sample_id: str) -> str:
    """The type of the question of that id."""
    return sample_id.split("-", 1)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write questions about pages of glyphs, and the pages.")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument(
        "--split", default="test", help="any name but train and watched: pages that training hasn't seen"
    )
    parser.add_argument("--samples", type=int, default=900, help="questions in all")
    parser.add_argument("--first", type=int, default=0, help="number of the first page")
    parser.add_argument("--per-page", type=int, default=1, help="questions about each page")
    parser.add_argument("--types", nargs="+", default=list(TYPES), choices=TYPES, help="types of questions")
    args = parser.parse_args()
    file = write_questions(
        args.out,
        split=args.split,
        samples=args.samples,
        first=args.first,
        per_page=args.per_page,
        types=tuple(args.types),
    )
    print(file)


if __name__ == "__main__":
    main()
