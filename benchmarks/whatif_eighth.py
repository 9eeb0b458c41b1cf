"""An eighth set of programs with a remedy each, written by one who had not read the what-if's code.

Published models of libraries (transformers, timm, torchvision, torch_geometric) with random weights, in loops as their
users write them. A program whose library is absent is left out: `whatif_truth.py --set eighth`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, SegformerForSemanticSegmentation
from whatif_eighth_fed import clouds, corpus, emulator, lines, smiles, tagging
from whatif_eighth_served import lists, shared, story
from whatif_models import CUDA, DEVICE, HALF, SMALL, Step
from whatif_seventh_nets import decoder_sizes, library, published, seen_so_far
from whatif_third import Made, compiled, graphed, kept
from whatif_workloads import Workload, captured


def averaged() -> Made:
    """Eight blocks of XCiT by timm are trained with AdamW, gradients clipped; timm keeps an average of the weights."""
    timm = library("timm")
    count, side, kinds = (8, 224, 100) if not SMALL else (2, 32, 10)
    model = timm.create_model("xcit_nano_12_p16_224", depth=8, num_classes=kinds, img_size=side)
    model.to(DEVICE).train()
    average = library("timm.utils").ModelEmaV3(model, decay=0.9998)
    few = [part for part in model.parameters() if part.ndim < 2]
    many = [part for part in model.parameters() if part.ndim > 1]
    groups = [{"params": few, "weight_decay": 0.0}, {"params": many, "weight_decay": 0.05}]
    optimizer = torch.optim.AdamW(groups, 5e-4, capturable=CUDA)
    pictures, labels = torch.randn(count, 3, side, side, device=DEVICE), torch.arange(count, device=DEVICE) % kinds

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(model(pictures), labels, label_smoothing=0.1).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        average.update(model)

    return graphed(train)


def kernels() -> Made:
    """SK-ResNeXt by timm, convolutions in 32 groups of two sizes and a choice between them, sees four pictures."""
    model = library("timm").create_model("skresnext50_32x4d", pretrained=False)
    model.to(DEVICE, HALF).eval().requires_grad_(False)
    count, side = (4, 224) if not SMALL else (1, 64)
    return graphed(kept(model, torch.randn(count, 3, side, side, device=DEVICE, dtype=HALF)))


def codec() -> Made:
    """The Descript audio codec makes a second of sound from its codes."""
    sizes = {"decoder_hidden_size": 1024} if not SMALL else {"encoder_hidden_size": 4, "decoder_hidden_size": 32}
    model = published("dac", **sizes)
    codes = torch.randint(0, 1024, (1, 9, 32 if not SMALL else 2), device=DEVICE)
    return graphed(kept(lambda given: model.decode(audio_codes=given).audio_values, codes))


def streets() -> Made:
    """Pillow and numpy prepare a photo, SegFormer says what each pixel is, the host lays colours over the photo."""
    side, size = (512, (1024, 768)) if not SMALL else (64, (80, 60))
    sizes: dict[str, Any] = {"num_labels": 150}
    if SMALL:
        sizes |= {"hidden_sizes": [8, 16, 24, 32], "decoder_hidden_size": 16, "num_attention_heads": [1, 1, 1, 2]}
    config = AutoConfig.for_model("segformer", **sizes)
    config._attn_implementation = "eager"
    model = SegformerForSemanticSegmentation(config).to(DEVICE, HALF).eval().requires_grad_(False)
    chances = [np.random.default_rng(i) for i in range(4)]
    photos = [Image.fromarray(one.integers(0, 255, (48, 64, 3), dtype=np.uint8)).resize(size) for one in chances]
    colours = np.random.default_rng(9).integers(0, 255, (150, 3), dtype=np.uint8)
    mean, spread = (np.array(one, np.float32) for one in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = torch.zeros(1, 3, side, side, device=DEVICE)
    kinds = torch.zeros(side, side, dtype=torch.uint8, device=DEVICE)
    turn = iter(range(10**9))

    def see() -> None:
        with torch.no_grad():
            made = model(pixel_values=pixels.to(HALF)).logits
            large = functional.interpolate(made, size=(side, side), mode="bilinear", align_corners=False)
            kinds.copy_(large[0].argmax(0))

    def step(run: Step) -> None:
        photo = photos[next(turn) % 4]
        values = np.asarray(photo.resize((side, side), Image.Resampling.BILINEAR), dtype=np.float32) / 255
        pixels.copy_(torch.from_numpy(np.ascontiguousarray(((values - mean) / spread).transpose(2, 0, 1)))[None])
        run()
        painted = Image.fromarray(colours[kinds.cpu().numpy()]).resize(size, Image.Resampling.NEAREST)
        np.asarray(Image.blend(photo, painted, 0.5))

    return partial(step, see), lambda: partial(step, captured(see))


class Summed(nn.Module):
    """A molecule's energy is the sum over its atoms."""

    def forward(self, x: torch.Tensor, _: torch.Tensor, dim: int) -> torch.Tensor:
        return x.sum(dim, keepdim=True)


def dynamics() -> Made:
    """Atoms move by the forces of SchNet by torch_geometric, their neighbours known: a step of velocity Verlet."""
    geometric = library("torch_geometric.nn")
    atoms, near = (256, 24) if not SMALL else (8, 3)
    start = torch.arange(atoms, device=DEVICE).repeat_interleave(near)
    ends = torch.stack(((start + torch.arange(near, device=DEVICE).repeat(atoms) + 1) % atoms, start))

    def around(places: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return ends, (places[ends[0]] - places[ends[1]]).norm(dim=-1)

    model = geometric.SchNet(128 if not SMALL else 8, 128 if not SMALL else 8, 6, 50, interaction_graph=around)
    model.readout = Summed()
    model.to(DEVICE).eval().requires_grad_(False)
    kinds = torch.randint(1, 9, (atoms,), device=DEVICE)
    places = torch.randn(atoms, 3, device=DEVICE) * 3
    speeds, forces = torch.zeros_like(places), torch.zeros_like(places)
    energy, pace = torch.zeros(1, 1, device=DEVICE), 1e-3

    def move() -> None:
        speeds.add_(forces, alpha=pace / 2)
        places.add_(speeds, alpha=pace)
        there = places.detach().requires_grad_()
        made = model(kinds, there)
        forces.copy_(-torch.autograd.grad(made.sum(), there)[0]).clamp_(-10, 10)
        speeds.add_(forces, alpha=pace / 2).mul_(0.999)
        energy.copy_(made.detach())

    return graphed(move)


def gestures() -> Made:
    """Swin of torchvision in three dimensions sees a clip of 16 small frames."""
    model = library("torchvision.models.video").swin3d_t(weights=None)
    model.to(DEVICE, HALF).eval().requires_grad_(False)
    frames, side = (16, 112) if not SMALL else (4, 32)
    return graphed(kept(model, torch.randn(1, 3, frames, side, side, device=DEVICE, dtype=HALF)))


def thin() -> Made:
    """MobileBERT, 24 thin layers, reads two rows of 128 tokens."""
    rows, length = (2, 128) if not SMALL else (1, 8)
    model = published("mobilebert", vocab_size=1000, num_hidden_layers=24 if not SMALL else 2)
    tokens = torch.randint(0, 1000, (rows, length), device=DEVICE)
    mask = torch.zeros(rows, 1, length, length, device=DEVICE, dtype=HALF)
    return graphed(kept(lambda given: model(input_ids=given, attention_mask=mask).pooler_output, tokens))


def pools() -> Made:
    """PoolFormer V2 by timm, which pools where others attend, sees 96 pictures; then compiled."""
    model = library("timm").create_model("poolformerv2_s12", pretrained=False)
    model.to(DEVICE, HALF).eval().requires_grad_(False)
    count, side = (96, 224) if not SMALL else (1, 64)
    return compiled(model, torch.randn(count, 3, side, side, device=DEVICE, dtype=HALF))


def sandwich() -> Made:
    """Layers of GLM-4, four norms each, read two prompts of 2,048 tokens; then compiled."""
    model = published("glm4", attention="sdpa", pad_token_id=0, **decoder_sizes(1536, 4, 16, 4))
    rows, length = (2, 2048) if not SMALL else (1, 8)
    tokens = torch.randint(1, model.config.vocab_size, (rows, length), device=DEVICE)
    mask, positions = seen_so_far(length, length), torch.arange(length, device=DEVICE)[None]

    def read(given: torch.Tensor) -> torch.Tensor:
        made = model(input_ids=given, attention_mask=mask, position_ids=positions, use_cache=False)
        return made.last_hidden_state

    return compiled(read, tokens)


WORKLOADS: dict[str, Workload] = {
    "story": Workload(story, "graph", "OLMo 2 writes, words drawn on the device, each read by the host"),
    "lists": Workload(lists, "graph", "StableLM held to a grammar by Python, numpy draws"),
    "shared": Workload(shared, "graph", "Phi behind a shared prompt, pieces captured; then one graph"),
    "averaged": Workload(averaged, "graph", "XCiT trained by AdamW, its weights averaged"),
    "kernels": Workload(kernels, "graph", "SK-ResNeXt, convolutions in groups, four pictures"),
    "codec": Workload(codec, "graph", "Descript's codec makes sound of codes"),
    "streets": Workload(streets, "graph", "a photo by Pillow and numpy, SegFormer, colours laid over it"),
    "dynamics": Workload(dynamics, "graph", "atoms moved by the forces of SchNet"),
    "gestures": Workload(gestures, "graph", "Swin in three dimensions, a clip"),
    "thin": Workload(thin, "graph", "MobileBERT, two rows of 128 tokens"),
    "lines": Workload(lines, "workers", "convolutions and LSTMs trained on lines that Pillow draws; then 6 workers"),
    "smiles": Workload(smiles, "workers", "AttentiveFP trained on formulas parsed in Python; then 4 workers"),
    "clouds": Workload(clouds, "workers", "patches of points trained, cut by numpy and scipy; then 5 workers"),
    "tagging": Workload(tagging, "overlap", "a transformer tags spectrograms from pageable memory; then a step ahead"),
    "emulator": Workload(emulator, "overlap", "a Fourier operator trained from pageable memory; then a step ahead"),
    "corpus": Workload(corpus, "overlap", "nearest passages, vectors from pageable memory; then a part ahead"),
    "pools": Workload(pools, "compile", "PoolFormer V2, 96 pictures"),
    "sandwich": Workload(sandwich, "compile", "layers of GLM-4, two prompts of 2,048 tokens"),
}
