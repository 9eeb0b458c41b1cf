"""Run as a program, for test_interpreted_kernels: a decode step by the kernels in Triton's interpreter, and by torch.

Prints the relative distance of their logits and whether they chose the same tokens, as JSON.
"""

import json
import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import torch

from laptime.decoder.kernels.shapes import SHAPES
from laptime.decoder.merged_weights import merge
from laptime.decoder.plain_step import decode_one_token
from laptime.decoder.plan import read_plan
from laptime.decoder.state import Sampling, new_state
from laptime.decoder.triton_step import kernels_of, triton_step
from tests.models.tiny import build

SEEN = (130, 3, 47)


def main() -> None:
    """family, rows; half precision weights, caches filled with noise to different lengths."""
    family, batch = sys.argv[1], int(sys.argv[2])
    torch.manual_seed(0)
    model = build(family).requires_grad_(False).to(torch.float16)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.mul_(2.0)
    merge(model)
    plan = read_plan(model)
    state = new_state(plan, batch, 256)
    for cache in (*state.keys, *state.values):
        cache.normal_()
    seen = torch.tensor([SEEN[row % 3] for row in range(batch)], dtype=torch.int32)
    state.position.copy_(seen)
    state.begin.copy_(seen)
    state.token.copy_(torch.arange(batch) + 5)
    before = [(keys.clone(), values.clone()) for keys, values in zip(state.keys, state.values, strict=True)]
    with torch.no_grad():
        plain = decode_one_token(plan, state).float()
        for kept, keys, values in zip(before, state.keys, state.values, strict=True):
            keys.copy_(kept[0])
            values.copy_(kept[1])
        step = triton_step(plan, state, Sampling(), None)
        step.begin()
        step()
    apart = ((state.logits - plain).norm() / plain.norm()).item()
    same = bool((state.token == state.logits.argmax(-1)).all()) and bool((state.position == seen + 1).all())
    sys.stdout.write(json.dumps({"apart": apart, "chosen": same, "kernels": kernels_of(plan, batch, SHAPES)}) + "\n")


if __name__ == "__main__":
    main()
