"""Programs of whatif_seventh.py that wait to be fed: by a loader in their process, or by copies of pageable memory."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from transformers import AutoConfig, AutoModelForMaskedLM, DataCollatorForLanguageModeling, PreTrainedTokenizerFast
from whatif_models import CUDA, DEVICE, HALF, SMALL, Step, fetched
from whatif_seventh_nets import library
from whatif_third import Made


class Leaves(Dataset[tuple[torch.Tensor, int]]):
    """Photos as JPEG, opened and changed as they are asked for."""

    def __init__(self, change: Any) -> None:
        chance = np.random.default_rng(0)
        self.change, self.stored = change, []
        for _ in range(32):
            photo = Image.fromarray(chance.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((400, 300))
            with io.BytesIO() as file:
                photo.save(file, "JPEG", quality=90)
                self.stored.append(file.getvalue())

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        return self.change(Image.open(io.BytesIO(self.stored[at % 32])).convert("RGB")), at % 100


def species() -> Made:
    """ResNet-18 by torchvision is trained on photos that torchvision changes; then six workers change them."""
    vision = library("torchvision")
    change = library("torchvision.transforms")
    side, count = (160, 10) if not SMALL else (32, 2)
    photos = Leaves(
        change.Compose(
            [
                change.RandomResizedCrop(side),
                change.RandomHorizontalFlip(),
                change.ColorJitter(0.2, 0.2, 0.2),
                change.ToTensor(),
                change.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )
    )
    model = vision.models.resnet18(num_classes=100).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), 1e-2, momentum=0.9, weight_decay=1e-4)

    def train(batches: Iterator[Any]) -> None:
        pictures, labels = next(batches)
        with torch.autocast(DEVICE, torch.bfloat16):
            made = model(pictures.to(DEVICE, non_blocking=True))
            loss = functional.cross_entropy(made.float(), labels.to(DEVICE, non_blocking=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def batches(workers: int) -> Iterator[Any]:
        return iter(DataLoader(photos, count, shuffle=True, num_workers=workers, pin_memory=CUDA, drop_last=True))

    return partial(train, batches(0)), lambda: partial(train, batches(6 if CUDA else 1))


class Molecules(Dataset[Any]):
    """Rings with chords, to whose nodes their place in the graph is written as they are asked for."""

    def __init__(self, make: Any, change: Any) -> None:
        self.make, self.change, self.size = make, change, 48 if not SMALL else 12

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, at: int) -> Any:
        chance = torch.Generator().manual_seed(at)
        ring = torch.arange(self.size)
        one = torch.stack((ring, ring.roll(1)))
        other = torch.stack((ring[::3], ring[torch.randperm(self.size, generator=chance)[: self.size // 3]]))
        ends = torch.cat((one, one.flip(0), other, other.flip(0)), 1)
        nodes = torch.randn(self.size, 24, generator=chance)
        return self.change(self.make(x=nodes, edge_index=ends, y=nodes.mean()[None]))


def spectra() -> Made:
    """GIN by torch_geometric is trained on graphs whose eigenvectors are found on the processor; then four workers."""
    geometric = library("torch_geometric.nn")
    change = library("torch_geometric.transforms").AddLaplacianEigenvectorPE(8, attr_name=None, is_undirected=True)
    graphs = Molecules(library("torch_geometric.data").Data, change)
    width, layers = (128, 5) if not SMALL else (8, 2)
    net = geometric.GIN(32, width, layers, norm="batch_norm").to(DEVICE)
    head = nn.Linear(width, 1).to(DEVICE)
    optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], 1e-3)

    def train(batches: Iterator[Any]) -> None:
        batch = next(batches).to(DEVICE)
        optimizer.zero_grad()
        pooled = geometric.global_add_pool(net(batch.x, batch.edge_index), batch.batch)
        functional.l1_loss(head(pooled)[:, 0], batch.y).backward()
        optimizer.step()

    def batches(workers: int) -> Iterator[Any]:
        loader = library("torch_geometric.loader").DataLoader
        return iter(loader(graphs, batch_size=16 if not SMALL else 2, shuffle=True, num_workers=workers))

    return partial(train, batches(0)), lambda: partial(train, batches(4 if CUDA else 1))


class Texts(Dataset[Any]):
    """Texts that are cut into tokens as they are asked for."""

    def __init__(self, cut: Any, length: int) -> None:
        self.cut, self.length = cut, length
        self.words = ["".join(word) for word in np.random.default_rng(0).choice(list("aeioustrnl"), (2000, 6)).tolist()]

    def __len__(self) -> int:
        return 1 << 20

    def text(self, at: int) -> str:
        """One text, the same each time."""
        return " ".join(self.words[i] for i in np.random.default_rng(at).integers(0, 2000, self.length).tolist())

    def __getitem__(self, at: int) -> Any:
        return self.cut(self.text(at), truncation=True, max_length=self.length, padding="max_length")


def masked_words() -> Made:
    """DistilBERT is trained on texts that are cut and masked on the processor; then eight workers cut and mask them."""
    tokenizers = library("tokenizers")
    length, rows = (128, 24) if not SMALL else (16, 2)
    special = {
        "unk_token": "[UNK]",
        "pad_token": "[PAD]",
        "mask_token": "[MASK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    cutter = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    cutter.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    examples = Texts(None, 200)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=4000 if not SMALL else 200, special_tokens=[*special.values()], show_progress=False
    )
    cutter.train_from_iterator((examples.text(at) for at in range(200)), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=cutter, **special)
    texts, mask = Texts(tokenizer, length), DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    sizes = {"dim": 768, "hidden_dim": 3072, "n_heads": 12, "n_layers": 6}
    if SMALL:
        sizes = {"dim": 32, "hidden_dim": 64, "n_heads": 4, "n_layers": 1}
    config = AutoConfig.for_model("distilbert", vocab_size=len(tokenizer), **sizes)
    model = AutoModelForMaskedLM.from_config(config).to(DEVICE).train()
    optimizer = torch.optim.AdamW(model.parameters(), 5e-5)

    def train(batches: Iterator[Any]) -> None:
        batch = {name: values.to(DEVICE) for name, values in next(batches).items()}
        given = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = model(**given).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def batches(workers: int) -> Iterator[Any]:
        return iter(DataLoader(texts, rows, shuffle=True, num_workers=workers, collate_fn=mask))

    return partial(train, batches(0)), lambda: partial(train, batches(8 if CUDA else 1))


def pinned(parts: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The same in pinned memory."""
    return tuple(part.pin_memory() for part in parts) if CUDA else parts


def satellite() -> Made:
    """DenseNet by timm sees pictures of bytes from pageable memory; then pinned, by timm's own prefetching loader."""
    model = library("timm").create_model("densenet121", pretrained=False, num_classes=45)
    model.to(DEVICE, HALF).eval().requires_grad_(False)
    count, side = (192, 224) if not SMALL else (1, 64)
    stored = [
        (torch.randint(0, 255, (count, 3, side, side), dtype=torch.uint8), torch.arange(count) % 45) for _ in range(3)
    ]
    mean, spread = (
        torch.tensor([255 * one for one in values], device=DEVICE, dtype=HALF).view(1, 3, 1, 1)
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    turn = itertools.cycle(stored)

    def see(pictures: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return (model(pictures).argmax(-1) == labels).sum()

    def one_after_another() -> None:
        pictures, labels = (part.to(DEVICE) for part in next(turn))
        see(pictures.to(HALF).sub_(mean).div_(spread), labels)

    def remedied() -> Step:
        loader = library("timm.data.loader").PrefetchLoader
        ahead = loader(itertools.cycle([pinned(one) for one in stored]), device=torch.device(DEVICE), img_dtype=HALF)
        batches = iter(ahead)
        return lambda: see(*next(batches))

    return one_after_another, remedied


def neighbours() -> Made:
    """GraphSAGE by torch_geometric reads graphs from pageable memory; then pinned, by its own prefetching loader."""
    nodes, edges, given, width = (40_000, 300_000, 512, 256) if not SMALL else (20, 60, 8, 8)
    net = library("torch_geometric.nn").GraphSAGE(given, width, 3, out_channels=47).to(DEVICE)
    net.eval().requires_grad_(False)
    data = library("torch_geometric.data").Data
    graphs = []
    for _ in range(3):
        ends, kinds = torch.randint(0, nodes, (2, edges)), torch.randint(0, 47, (nodes,))
        graphs.append(data(x=torch.randn(nodes, given), edge_index=ends, y=kinds))
    turn = itertools.cycle(graphs)

    def read(batch: Any) -> int:
        with torch.no_grad():
            return int((net(batch.x, batch.edge_index).argmax(-1) == batch.y).sum())

    def remedied() -> Step:
        stored = [graph.pin_memory() for graph in graphs] if CUDA else graphs
        loader = library("torch_geometric.loader").PrefetchLoader
        batches = iter(loader(itertools.cycle(stored), device=torch.device(DEVICE)))
        return lambda: read(next(batches))

    return lambda: read(next(turn).to(DEVICE)), remedied


def grids() -> Made:
    """DeepLab by torchvision learns tomorrow's weather from today's, from pageable memory; then a step ahead."""
    fields, side, count = (20, 256, 8) if not SMALL else (3, 32, 2)
    segmentation = library("torchvision.models.segmentation")
    model = segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=fields)
    model.backbone["0"][0] = nn.Conv2d(fields, 16, 3, 2, 1, bias=False)
    model.to(DEVICE).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    days = [(torch.randn(count, fields, side, side), torch.randn(count, fields, side, side)) for _ in range(2)]

    def train(today: torch.Tensor, tomorrow: torch.Tensor) -> None:
        optimizer.zero_grad()
        with torch.autocast(DEVICE, torch.bfloat16):
            made = model(today)["out"]
        functional.mse_loss(made.float(), tomorrow).backward()
        optimizer.step()

    def remedied() -> Step:
        stored = itertools.cycle([pinned(day) for day in days])
        return fetched(stored, train)

    turn = itertools.cycle(days)
    return lambda: train(*(part.to(DEVICE) for part in next(turn))), remedied
