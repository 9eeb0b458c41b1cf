"""A sixth set of programs with a remedy each: models of transformers as they are published, with random weights.

Nobody here wrote their forwards. Attention is in single operators everywhere ("eager"), so that a graph holds the same
kernels, and a compiler finds a softmax between two products, which it seldom did in the sets before:
`whatif_truth.py --set sixth`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from transformers import AutoConfig, AutoModel
from whatif_models import CUDA, DEVICE, HALF, SMALL, Step
from whatif_third import Made, compiled, graphed, kept
from whatif_workloads import Workload, captured


def published(kind: str, **changed: Any) -> torch.nn.Module:
    """A model of that type in the dtype of the run, with random weights.

    Args:
        kind: its model type.
        changed: what differs from the type's own configuration; without a GPU the sizes stay, the depth is cut.
    """
    config = AutoConfig.for_model(kind, **changed)
    config._attn_implementation = "eager"
    return AutoModel.from_config(config).to(DEVICE, HALF).eval()


def pixels(count: int, side: int) -> torch.Tensor:
    """Random pictures."""
    return torch.randn(count, 3, side, side, device=DEVICE, dtype=HALF)


def read(model: torch.nn.Module, name: str, **given: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """The model's last hidden state, as a function of one input."""
    return lambda x: model(**{name: x}, **given).last_hidden_state


def tokens(rows: int, length: int) -> torch.Tensor:
    """Random tokens."""
    return torch.randint(4, 1000, (rows, length if not SMALL else 16), device=DEVICE)


def dinov2() -> Made:
    """DINOv2, one picture."""
    model = published("dinov2", num_hidden_layers=12 if not SMALL else 1)
    return graphed(kept(read(model, "pixel_values"), pixels(1, 224 if not SMALL else 28)))


def beit() -> Made:
    """BEiT, two pictures, with relative places."""
    model = published("beit", num_hidden_layers=12 if not SMALL else 1, use_relative_position_bias=True)
    return graphed(kept(read(model, "pixel_values"), pixels(2 if not SMALL else 1, 224)))


def pyramid() -> Made:
    """A pyramid of vision layers, PVTv2, one picture."""
    return graphed(kept(read(published("pvt_v2"), "pixel_values"), pixels(1, 224 if not SMALL else 64)))


def regnet() -> Made:
    """RegNet, four pictures."""
    return graphed(
        kept(read(published("regnet"), "pixel_values"), pixels(4 if not SMALL else 1, 224 if not SMALL else 64))
    )


def efficientnet() -> Made:
    """EfficientNet, one picture."""
    return graphed(kept(read(published("efficientnet"), "pixel_values"), pixels(1, 320 if not SMALL else 64)))


def focalnet() -> Made:
    """FocalNet, two pictures."""
    return graphed(
        kept(read(published("focalnet"), "pixel_values"), pixels(2 if not SMALL else 1, 224 if not SMALL else 64))
    )


def heard() -> Made:
    """wav2vec 2.0, five seconds of sound."""
    model = published("wav2vec2", num_hidden_layers=12 if not SMALL else 1)
    return graphed(
        kept(read(model, "input_values"), torch.randn(1, 80_000 if not SMALL else 1600, device=DEVICE, dtype=HALF))
    )


def series() -> Made:
    """PatchTST, 32 series of seven channels."""
    model = published("patchtst", num_input_channels=7, context_length=512, patch_length=16, patch_stride=8)
    return graphed(
        kept(read(model, "past_values"), torch.randn(32 if not SMALL else 1, 512, 7, device=DEVICE, dtype=HALF))
    )


def conformer() -> Made:
    """A conformer with relative places, three seconds of features."""
    model = published("wav2vec2-bert", num_hidden_layers=12 if not SMALL else 1, feature_projection_input_dim=160)
    sound = torch.randn(1, 150 if not SMALL else 10, 160, device=DEVICE, dtype=HALF)
    return graphed(kept(read(model, "input_features"), sound))


def deciding() -> Made:
    """A world in Python moves, a decision transformer says how; then its forward is a graph."""
    count = 20
    model = published("decision_transformer", state_dim=17, act_dim=6, n_layer=6 if not SMALL else 1, hidden_size=512)
    states = torch.zeros(1, count, 17, device=DEVICE, dtype=HALF)
    given = {
        "actions": torch.zeros(1, count, 6, device=DEVICE, dtype=HALF),
        "rewards": torch.zeros(1, count, 1, device=DEVICE, dtype=HALF),
        "returns_to_go": torch.ones(1, count, 1, device=DEVICE, dtype=HALF),
        "timesteps": torch.arange(count, device=DEVICE)[None],
        "attention_mask": torch.ones(1, count, device=DEVICE),
    }
    chosen = torch.zeros(6, device=DEVICE, dtype=HALF)
    world = np.random.default_rng(0).standard_normal((17, 17)).astype(np.float32) * 0.1
    place = np.ones((count, 17), dtype=np.float32)

    def forward() -> None:
        with torch.no_grad():
            chosen.copy_(model(states=states, **given).action_preds[0, -1])

    def step(run: Step) -> None:
        for _ in range(40):  # the world's own small steps
            place[-1] = np.tanh(world @ place[-1] + 0.1)
        states.copy_(torch.from_numpy(place)[None])
        run()
        place[-1, :6] += chosen.float().cpu().numpy()

    return partial(step, forward), lambda: partial(step, captured(forward))


def gemma2() -> Made:
    """Gemma 2 reads a prompt of 2,048 tokens, its scores capped; then compiled."""
    model = published(
        "gemma2",
        num_hidden_layers=4 if not SMALL else 2,
        hidden_size=1024,
        intermediate_size=4096,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=128,
        vocab_size=1024,
    )
    return compiled(read(model, "input_ids", use_cache=False), tokens(1, 2048))


def bloom() -> Made:
    """BLOOM reads two prompts of 1,024 tokens, leaning to near places; then compiled."""
    model = published("bloom", n_layer=4 if not SMALL else 1, hidden_size=1024, n_head=16, vocab_size=1024)
    return compiled(read(model, "input_ids", use_cache=False), tokens(2, 1024))


def gpt2() -> Made:
    """GPT-2 reads eight prompts of 1,024 tokens; then compiled."""
    model = published("gpt2", n_layer=4 if not SMALL else 1, vocab_size=1024)
    return compiled(read(model, "input_ids", use_cache=False), tokens(8, 1024))


def albums() -> Made:
    """A ViT reads 64 pictures; then compiled."""
    model = published("vit", num_hidden_layers=6 if not SMALL else 1)
    return compiled(read(model, "pixel_values"), pixels(64 if not SMALL else 1, 224))


class Photos(Dataset[tuple[torch.Tensor, int]]):
    """Photos that are turned, cut and made smaller by Pillow as they are asked for."""

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        chance = np.random.default_rng(at)
        photo = Image.fromarray(chance.integers(0, 255, (96, 96, 3), dtype=np.uint8)).resize((360, 360))
        photo = (
            photo.rotate(float(chance.uniform(-20, 20)))
            .crop((30, 30, 330, 330))
            .resize((128, 128), Image.Resampling.BICUBIC)
        )
        return torch.from_numpy(np.asarray(photo, dtype=np.float32).transpose(2, 0, 1) / 255 - 0.5), at % 100


def photos() -> Made:
    """MobileViT is trained on photos that Pillow changes; then six workers change them."""
    model = published("mobilevit", image_size=128).float().train()
    head = torch.nn.Linear(640, 100).to(DEVICE)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], 1e-4)

    def train(batches: Iterator[Any]) -> None:
        pictures, labels = next(batches)
        made = model(pictures.to(DEVICE, non_blocking=True)).last_hidden_state.mean((2, 3))
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(head(made), labels.to(DEVICE, non_blocking=True)).backward()
        optimizer.step()

    def batches(workers: int) -> Iterator[Any]:
        return iter(DataLoader(Photos(), batch_size=16 if not SMALL else 2, num_workers=workers))

    return partial(train, batches(0)), lambda: partial(train, batches(6 if CUDA else 1))


def films() -> Made:
    """TimeSformer sees clips from pageable memory; then they are pinned and a step ahead."""
    frames, side, count = (8, 224, 8) if not SMALL else (2, 32, 1)
    model = published("timesformer", num_frames=frames, image_size=side, num_hidden_layers=4 if not SMALL else 1)
    clips = [torch.randn(count, frames, 3, side, side) for _ in range(2)]
    turn = iter(range(10**9))

    def see(x: torch.Tensor) -> None:
        with torch.no_grad():
            model(pixel_values=x.to(HALF)).last_hidden_state.mean()

    def remedied() -> Step:
        if not CUDA:
            return lambda: see(clips[next(turn) % 2].to(DEVICE))
        pinned, beside = [one.pin_memory() for one in clips], torch.cuda.Stream()
        ahead: list[torch.Tensor] = []

        def fetch() -> None:
            with torch.cuda.stream(beside):
                ahead.append(pinned[next(turn) % 2].to(DEVICE, non_blocking=True))

        def step() -> None:
            here = torch.cuda.current_stream()
            here.wait_stream(beside)
            x = ahead.pop()
            x.record_stream(here)
            fetch()
            see(x)

        fetch()
        return step

    return lambda: see(clips[next(turn) % 2].to(DEVICE)), remedied


WORKLOADS: dict[str, Workload] = {
    "dinov2": Workload(dinov2, "graph", "DINOv2, one picture"),
    "beit": Workload(beit, "graph", "BEiT, two pictures"),
    "pyramid": Workload(pyramid, "graph", "PVTv2, one picture"),
    "regnet": Workload(regnet, "graph", "RegNet, four pictures"),
    "efficientnet": Workload(efficientnet, "graph", "EfficientNet, one picture"),
    "focalnet": Workload(focalnet, "graph", "FocalNet, two pictures"),
    "heard": Workload(heard, "graph", "wav2vec 2.0, five seconds of sound"),
    "series": Workload(series, "graph", "PatchTST, 32 series"),
    "conformer": Workload(conformer, "graph", "wav2vec2-BERT, three seconds of sound"),
    "deciding": Workload(deciding, "graph", "a world in numpy and a decision transformer"),
    "gemma2": Workload(gemma2, "compile", "Gemma 2, a prompt of 2,048 tokens"),
    "bloom": Workload(bloom, "compile", "BLOOM, two prompts of 1,024 tokens"),
    "gpt2": Workload(gpt2, "compile", "GPT-2, eight prompts of 1,024 tokens"),
    "albums": Workload(albums, "compile", "a ViT, 64 pictures"),
    "photos": Workload(photos, "workers", "MobileViT trained on photos that Pillow changes; then 6 workers"),
    "films": Workload(films, "overlap", "clips from pageable memory; then pinned and a step ahead"),
}
