"""Train the model in a given time: python -m examples.glyphs.train --minutes 8 --out model

Every step draws an image tier, a top-k and a number of active blocks and sets them as laptime's knobs do, so that the
model works under each. It needs a GPU to learn enough; `--device cpu --size tiny --steps 20` shows that it runs.
`--call-minutes 9` ends a call after that and keeps everything that the same command, given again, goes on from.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import LlavaNextForConditionalGeneration

from laptime.models.active_blocks import always_active, choose_blocks, only_blocks
from laptime.models.anatomy import Anatomy, find_anatomy
from laptime.models.knobs import routed_to

from .batches import FULL, LOWEST, Knobs, Steps, make_batch, trained_at
from .checkpoint import Reached, read_reached, read_weights, write_checkpoint
from .images import pixel_values
from .losses import Forward, PatchReader, answer_loss, forward, image_features, right_by_type, router_balance
from .master_weights import MasterWeights
from .model import SIZES, TILINGS, make_model, save
from .pages import MAP, SIDE
from .questions import TYPES

WATCHED = (FULL, Knobs("medium", FULL.top_k, 6), Knobs("low", FULL.top_k, 4), Knobs("high", FULL.top_k, 2), LOWEST)
PAGE_BYTES = 3 * SIDE**2 + 4 * MAP**2
BALANCE = 0.01
"""The router balance's weight in the loss."""
SAVING_S = 15.0
"""Kept free at the end."""
CHECKPOINT_S = 45.0
"""Kept free at the end of a call that another one goes on from."""
FREE = ("out", "resume", "call_minutes", "call_steps", "workers", "every", "experts", "device")
"""Arguments that may differ from call to call of one training."""
PREFETCH = 3
"""Batches that each worker draws ahead."""


@contextlib.contextmanager
def knobs_set(model: Any, anatomy: Anatomy, knobs: Knobs) -> Iterator[None]:
    """Top-k and active blocks exactly as laptime.models.knobs.applied sets them, without the checks of each call."""
    count = len(anatomy.layers)
    active = choose_blocks(count, knobs.blocks, always_active(model, count))
    with routed_to(model, anatomy, knobs.top_k), only_blocks(model, anatomy, active):
        yield


@dataclass
class Progress:
    """What the training curve keeps, one entry about every 20 seconds."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    pages: int = 0


class Trainer:
    """A model in training: one step at a time, with the knobs that the step's batch came with."""

    def __init__(
        self, model: Any, *, device: str, dtype: torch.dtype, decay: float = 0.05, frozen_vision: bool = False
    ) -> None:
        for part in (model.model.vision_tower, model.model.multi_modal_projector):
            part.requires_grad_(not frozen_vision)
        self.model = model.to(device=device, dtype=dtype).train()
        self.device = torch.device(device)
        self.anatomy = find_anatomy(model)
        self.most_experts: int = model.config.text_config.num_experts_per_tok
        width = model.config.text_config.hidden_size
        self.reader = PatchReader(width).to(device=device, dtype=dtype)
        self.weights = MasterWeights(torch.nn.ModuleList([self.model, self.reader]), decay=decay)

    def on_device(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The batch where the model is."""
        return {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}

    def step(
        self, knobs: Knobs, batch: Mapping[str, torch.Tensor], *, rate: float, reading: float
    ) -> dict[str, torch.Tensor]:
        """One update; the parts of its loss. reading: the weight of the patch reader's part."""
        batch = trained_at(self.on_device(batch), knobs.blocks)
        with knobs_set(self.model, self.anatomy, knobs), router_balance(self.anatomy.layers) as balance:
            output = forward(self.model, batch, TILINGS[knobs.tier])
        answers = answer_loss(output, batch)
        seen = output.features if reading > 0 else ()
        read = sum((self.reader.loss(features, batch["shown"]) for features in seen), answers.new_zeros(()))
        balanced = torch.stack(balance).mean()
        (answers + reading * read + BALANCE * balanced).backward()
        norm = self.weights.step(rate, clip=1.0)
        return {"answers": answers.detach(), "reading": read.detach(), "balance": balanced.detach(), "norm": norm}

    def read_step(self, tier: str, batch: Mapping[str, torch.Tensor], *, rate: float) -> dict[str, torch.Tensor]:
        """One update of the vision tower and the projector alone, for what the patch reader asks of them."""
        batch = self.on_device({name: batch[name] for name in ("pages", "shown")})
        inner = self.model.model
        pixels = pixel_values(batch["pages"], TILINGS[tier]).to(inner.image_newline.dtype)
        read = sum(self.reader.loss(seen, batch["shown"]) for seen in image_features(inner, pixels, TILINGS[tier]))
        read.backward()
        norm = self.weights.step(rate, clip=1.0)
        return {"reading": read.detach(), "norm": norm}

    @torch.no_grad()
    def forward(self, knobs: Knobs, batch: Mapping[str, torch.Tensor]) -> Forward:
        """What the model says under these knobs; no update."""
        with knobs_set(self.model, self.anatomy, knobs):
            return forward(self.model, batch, TILINGS[knobs.tier])

    def accuracy(self, knobs: Knobs, batch: Mapping[str, torch.Tensor]) -> dict[str, float]:
        """The share of questions that greedy decoding gets right, by type: each token, given the right ones before."""
        batch = self.on_device(batch)
        right, asked = right_by_type(self.forward(knobs, batch), batch).T.tolist()
        return {kind: round(r / a, 4) for kind, r, a in zip(TYPES, right, asked, strict=True)}


def rate_at(share: float, peak: float, warm_up: float = 0.04) -> float:
    """The learning rate after `share` of the time: a linear warm-up, then a cosine down to a hundredth."""
    if share < warm_up:
        return peak * (share + 1e-3) / warm_up
    return peak * (0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, (share - warm_up) / (1 - warm_up)))) / 2)


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Inside the block a SIGTERM only fills the list."""
    signals: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    try:
        yield signals
    finally:
        signal.signal(signal.SIGTERM, before)


def train(args: argparse.Namespace) -> Progress:
    """Train as the command line says, and save, also after SIGTERM. Returns what the curve holds."""
    with stop_signals() as signals:
        return _train(args, signals)


def _train(args: argparse.Namespace, stopped: list[int]) -> Progress:
    begun = time.monotonic()
    args.rate = SIZES[args.size].rate if args.rate is None else args.rate
    in_calls = args.call_minutes is not None or args.call_steps is not None
    before = read_reached(args.out, _written(args), FREE) if in_calls else None
    if before is not None and before.over:
        print(f"{args.out}: the training is over, after {before.steps} steps", flush=True)
        return Progress(before.entries, before.pages)
    torch.manual_seed(args.seed)
    torch.backends.cuda.matmul.allow_tf32 = True
    model = make_model(args.size, seed=args.seed) if args.resume is None else _resumed(args.resume)
    model.model.language_model.set_experts_implementation(args.experts)
    trainer = Trainer(
        model,
        device=args.device,
        dtype=torch.bfloat16 if args.device == "cuda" else torch.float32,
        frozen_vision=args.frozen_vision,
    )
    begun_with = Reached(0, 0.0, 0, [], {}) if before is None else before
    if before is not None:
        read_weights(args.out, trainer.weights)
    workers = _workers_with_room(args.workers, args.batch)
    loader = DataLoader(
        Steps("train", args.batch, args.seed, args.first_step + begun_with.steps, trainer.most_experts),
        batch_size=None,
        num_workers=workers,
        pin_memory=args.device == "cuda",
        prefetch_factor=PREFETCH if workers else None,
    )
    watched = make_batch("watched", 0, args.watched)
    progress = Progress(list(begun_with.entries), begun_with.pages)
    shown, saved = time.monotonic(), time.monotonic()
    recent: list[dict[str, torch.Tensor]] = []
    seconds = args.minutes * 60 - SAVING_S
    begun -= begun_with.seconds  # the schedule goes on
    for step, (drawn, batch) in enumerate(loader, begun_with.steps):
        now = time.monotonic()
        share = (now - begun) / seconds if args.steps is None else step / args.steps
        in_call = now - begun - begun_with.seconds
        if share >= 1 or stopped or (args.call_minutes is not None and in_call > args.call_minutes * 60 - CHECKPOINT_S):
            break
        if args.call_steps is not None and step - begun_with.steps >= args.call_steps:
            break
        if share < args.read_until:
            recent.append(trainer.read_step(drawn.tier, batch, rate=rate_at(share, args.rate)))
        else:
            knobs = drawn if share > args.full_until else Knobs(drawn.tier, trainer.most_experts, FULL.blocks)
            asking = min(1.0, (share - args.read_until + 1e-3) / 0.04)  # the language model warms up on its own
            rate = rate_at(share, args.rate) * (asking if args.read_until > 0 else 1.0)
            recent.append(trainer.step(knobs, batch, rate=rate, reading=args.reading * max(0.1, 1 - share)))
        progress.pages += len(batch["pages"])
        if now - shown > args.every:
            shown = now
            _show(trainer, progress, watched, recent, step=step, share=share, seconds=now - begun)
            recent.clear()
        if now - saved > 120 and not in_calls:
            saved = now
            _save(trainer, progress, args)
    spent = time.monotonic() - begun
    _show(trainer, progress, watched, recent, step=step, share=share, seconds=spent)
    over = share >= 1
    if over or not in_calls:
        _save(trainer, progress, args)
    if in_calls:
        reached = Reached(step, spent, progress.pages, progress.entries, _written(args), over)
        write_checkpoint(args.out, trainer.weights, reached)
        print(f"{args.out}: " + ("the training is over" if over else f"{share:.0%} done; give the command again"))
    return progress


def _written(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments as JSON holds them."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}


def _workers_with_room(workers: int, batch: int) -> int:
    """So many of the data workers as shared memory has room for: batches come through it, of three times `batch`."""
    shared = Path("/dev/shm")
    if not workers or not shared.is_dir():
        return workers
    fit = shutil.disk_usage(shared).free // (3 * batch * PAGE_BYTES * (PREFETCH + 1))
    if fit < workers:
        print(f"{shared} has room for the batches of {fit} workers, not {workers}", flush=True)
    return min(workers, fit)


def _show(
    trainer: Trainer,
    progress: Progress,
    watched: dict[str, torch.Tensor],
    recent: list[dict[str, torch.Tensor]],
    **at: Any,
) -> None:
    names = recent[-1] if recent else {}
    losses = {name: round(torch.stack([r[name] for r in recent if name in r]).mean().item(), 4) for name in names}
    settings = [knobs.among(trainer.most_experts) for knobs in WATCHED]
    table = {f"{k.tier} top-{k.top_k} blocks {k.blocks}": trainer.accuracy(k, watched) for k in settings}
    entry = {**at, "pages": progress.pages, "losses": losses, "accuracy": table}
    progress.entries.append(entry)
    rate = progress.pages / at["seconds"]
    said = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
    print(f"{at['seconds']:6.0f} s  step {at['step']}  {rate:.0f} pages/s  {said}", flush=True)
    for name, by_type in table.items():
        shares = " ".join(f"{kind} {value * 100:.0f}" for kind, value in by_type.items())
        print(f"         {name:24} {shares}", flush=True)


def _save(trainer: Trainer, progress: Progress, args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    save(trainer.model, args.out)
    arguments = _written(args)
    arguments.pop("out")
    arguments.pop("resume")
    curve = {"arguments": arguments, "resumed": args.resume is not None, "torch": torch.__version__, "curve": []}
    curve["device"] = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    curve["curve"] = progress.entries
    (args.out / "training.json").write_text(json.dumps(curve, indent=1) + "\n")


def _resumed(folder: Path) -> Any:
    return LlavaNextForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the model of examples/glyphs.")
    parser.add_argument("--out", type=Path, required=True, help="the folder for weights, processor and training.json")
    parser.add_argument("--minutes", type=float, default=8.0, help="wall-clock minutes, start and saving included")
    parser.add_argument("--steps", type=int, help="train for this many steps instead")
    parser.add_argument("--call-minutes", type=float, help="end this call then; the same command again goes on")
    parser.add_argument("--call-steps", type=int, help="the same by steps")
    parser.add_argument(
        "--batch", type=int, default=24, help="pages a step at the high tier; 1.75 and 3 times at others"
    )
    parser.add_argument("--rate", type=float, help="the highest learning rate; the size's own unless given")
    parser.add_argument("--reading", type=float, default=0.5, help="the patch reader's weight at first")
    parser.add_argument("--read-until", type=float, default=0.2, help="share of the time for the vision tower alone")
    parser.add_argument(
        "--full-until", type=float, default=0.45, help="share of the time with all blocks and full top-k"
    )
    parser.add_argument(
        "--frozen-vision", action="store_true", help="leave the vision tower and the projector as they are"
    )
    parser.add_argument("--resume", type=Path, help="a folder that was saved; the optimiser starts fresh")
    parser.add_argument(
        "--first-step", type=int, default=0, help="with --resume: the step to go on from, for new pages"
    )
    parser.add_argument("--experts", default="grouped_mm", choices=("grouped_mm", "batched_mm", "eager"))
    parser.add_argument("--size", default="full", choices=tuple(SIZES))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=12, help="processes that draw pages")
    parser.add_argument("--watched", type=int, default=96, help="pages that the accuracies on the way are taken on")
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two lines of progress")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    train(parser().parse_args())
