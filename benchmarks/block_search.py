"""Beam search over blocks, or over experts by block, beside its ablations: which way's answers are right most often?

    python -m examples.glyphs.write_questions --samples 96 --out runs/glyphs-data
    python benchmarks/block_search.py examples/glyphs/model runs/glyphs-data/questions.jsonl --crops 1-3 \
        --types colour,kind,digit,chase,count,compare --totals 7,6,4 --name block_search-glyphs

    make demo-real && python -m examples.real.facts runs/facts.jsonl
    grep -e '-0"' runs/facts.jsonl > runs/facts-one.jsonl
    python benchmarks/block_search.py runs/smollm2/model runs/facts-one.jsonl --score likelihood --totals 28 \
        --width 1 --tries 3 --batch 4 --close-rows 4 --name block_search-smollm2

The table that it prints is that of `laptime importance --search`. --name writes benchmarks/results/NAME.json.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import torch

from recorded import record

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import laptime  # noqa: E402
from laptime.control.search.beam import Beam  # noqa: E402
from laptime.control.search.scored_set import SetSettings  # noqa: E402
from laptime.control.search.search import search_knob  # noqa: E402
from laptime.control.tables.decision_table import question_type  # noqa: E402
from laptime.measure.environment import describe  # noqa: E402
from laptime.models.loading import load_model  # noqa: E402
from laptime.workload.reading import read_examples  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--knob", choices=("blocks", "experts"), default="blocks")
    parser.add_argument("--score", default="exact")
    parser.add_argument("--types", default="", help="the kinds of questions, by their ids; all without it")
    parser.add_argument("--crops", default="", help="least and most crops of an image, as 1-3")
    parser.add_argument("--totals", default="", help="how many blocks run, or experts over all blocks")
    parser.add_argument("--width", type=int, default=3)
    parser.add_argument("--tries", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32, help="questions in one batch")
    parser.add_argument("--close-rows", type=int, default=16, help="prompts that closeness is measured on")
    parser.add_argument("--new-tokens", type=int, default=6)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--name", help="write benchmarks/results/NAME.json")
    asked = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    wanted = {name for name in asked.types.split(",") if name}
    examples = [one for one in read_examples(asked.data) if not wanted or question_type(one.id) in wanted]
    low, _, high = asked.crops.partition("-")
    loaded = load_model(asked.model, dtype=asked.dtype)
    began = time.monotonic()
    result = search_knob(
        loaded,
        examples,
        SetSettings(
            kind=asked.score,
            new_tokens=asked.new_tokens,
            batch=asked.batch,
            close_rows=asked.close_rows,
            crops=(int(low), int(high or low)) if low else None,
        ),
        asked.knob,
        [int(number) for number in asked.totals.split(",") if number],
        Beam(width=asked.width, tries=asked.tries),
        lambda done, of: print(f"step {done} of {of}", file=sys.stderr, flush=True),
    )
    laptime.show(result)
    if asked.name:
        figures = {"search": result, "seconds": round(time.monotonic() - began)}
        print(record(asked.name, figures, describe(loaded.model.device)))


if __name__ == "__main__":
    main()
