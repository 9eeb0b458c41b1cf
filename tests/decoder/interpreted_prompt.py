"""Run as a program, for test_interpreted_kernels: a prefill by the kernels in Triton's interpreter, and by torch.

Prints the relative distance of their logits and of their caches, as JSON.
"""

import json
import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import torch

from laptime.decoder.merged_weights import merge
from laptime.decoder.plain_prompt import PlainPrompt
from laptime.decoder.plan import read_plan
from laptime.decoder.prompt import fill, new_prompt, read_layout
from laptime.decoder.state import new_state
from laptime.decoder.triton_prompt import TileShape, TritonPrompt
from tests.models.tiny import IMAGE, VLM_FAMILIES, build

LENGTHS = (29, 7)


def main() -> None:
    """family, rows; half precision weights, rows of different lengths, image features in the middle."""
    family, batch = sys.argv[1], int(sys.argv[2])
    torch.manual_seed(0)
    model = build(family).requires_grad_(False).to(torch.float16)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.mul_(2.0)
    merge(model)
    plan = read_plan(model)
    ids = torch.randint(5, 300, (batch, 32))
    ids[:, 26:28] = IMAGE
    mask = torch.ones_like(ids)
    for row in range(batch):
        mask[row, : 32 - LENGTHS[row % 2]] = 0
    images = family in VLM_FAMILIES
    places = None
    if plan.streams > 1:

        def places(ids, mask):
            return torch.arange(ids.shape[1]).expand(3, *ids.shape) - 3 * (32 - mask.sum(1))[None, :, None] // 3

    layout = read_layout(ids, mask, IMAGE if images else None, places, plan.embedding.shape[0])
    results = []
    for kind in (PlainPrompt, TritonPrompt):
        torch.manual_seed(1)
        state = new_state(plan, batch, 256)
        prompt = new_prompt(plan, batch, 32, images=images, levels=1 if family.startswith("qwen3_vl") else 0)
        for buffer in (prompt.features, prompt.deep):
            if buffer is not None:
                buffer.normal_()
        fill(prompt, layout)
        with torch.no_grad():
            tiles = (
                {} if kind is PlainPrompt else {"up": TileShape(16, 16, 16, 1, 4), "down": TileShape(16, 16, 16, 1, 4)}
            )
            passes = kind(plan, state, prompt, **tiles)
            passes.embed()
            for i, layer in enumerate(plan.layers):
                passes.block(i, i, layer)
                if i == 0:
                    passes.settle()
            logits = passes.logits().float()
        caches = [cache[row, :, : LENGTHS[row % 2]] for cache in (*state.keys, *state.values) for row in range(batch)]
        results.append((logits, torch.cat([cache.float().flatten() for cache in caches])))
    apart = [((b - a).norm() / a.norm()).item() for a, b in zip(*results, strict=True)]
    sys.stdout.write(json.dumps({"logits": apart[0], "caches": apart[1]}) + "\n")


if __name__ == "__main__":
    main()
