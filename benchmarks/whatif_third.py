"""A third set of programs with a remedy each, written after the ranges were set by the first 23, to be measured once.

They are real architectures with random weights (transformers), convolutions for phones, graphs, recurrent layers,
embeddings, quantised weights, loaders in Python and numpy, copies of frames: `whatif_truth.py --set third`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from whatif_models import CUDA, DEVICE, HALF, SMALL, Step
from whatif_nets import Dit, Graphs, Mixer, MobileNet, Router, bart, bert, llama, mamba, quantised_layers, vit, whisper
from whatif_workloads import Workload, captured

Made = tuple[Step, Callable[[], Step]]


def kept(compute: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Step:
    """A forward without gradients whose result stays in one place."""
    with torch.no_grad():
        place = compute(*inputs).clone()

    def forward() -> None:
        with torch.no_grad():
            place.copy_(compute(*inputs))

    return forward


def graphed(forward: Step) -> Made:
    """A forward as it is, and as one graph."""
    return forward, lambda: captured(forward)


def sentences() -> Made:
    """BERT, 4 rows of 64 tokens: one vector each."""
    model, tokens = bert(), torch.randint(0, 1000, (4, 64 if not SMALL else 8), device=DEVICE)
    return graphed(kept(lambda rows: model(input_ids=rows).last_hidden_state[:, 0], tokens))


def summaries() -> Made:
    """BART's encoder over 256 tokens and its decoder over 32."""
    model = bart()
    long, short = (torch.randint(4, 1000, (2, n), device=DEVICE) for n in ((256, 32) if not SMALL else (16, 4)))
    mask = torch.full((1, 1, short.shape[1], short.shape[1]), -1e4, device=DEVICE, dtype=HALF).triu(1)

    def read(encoded: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
        given = {
            "input_ids": encoded,
            "decoder_input_ids": decoded,
            "decoder_attention_mask": mask.expand(2, 1, -1, -1),
        }
        return model(**given, use_cache=False).last_hidden_state[:, -1]

    return graphed(kept(read, long, short))


def states() -> Made:
    """Mamba in single operators: a state walks through the tokens one by one."""
    model, tokens = mamba(), torch.randint(0, 1000, (1, 64 if not SMALL else 6), device=DEVICE)
    return graphed(kept(lambda rows: model(input_ids=rows, use_cache=False).last_hidden_state[:, -1], tokens))


def camera() -> Made:
    """Frames of bytes come from pinned memory, are normalised on the device and read by a ViT."""
    model, side = vit(), 224 if not SMALL else 32
    frames = torch.randint(0, 255, (2, 3, side, side), dtype=torch.uint8)
    frames = frames.pin_memory() if CUDA else frames
    place = torch.zeros_like(frames, device=DEVICE)
    forward = kept(lambda x: model(pixel_values=(x.to(HALF) / 255 - 0.5) / 0.25).last_hidden_state[:, 0], place)

    def step(run: Step) -> None:
        place.copy_(frames, non_blocking=True)
        run()

    return partial(step, forward), lambda: partial(step, captured(forward))


def hearing() -> Made:
    """A spectrogram is made in numpy, then Whisper's encoder hears it, and one number goes back."""
    model, frames = whisper(), 1500 if not SMALL else 20
    sound = np.random.default_rng(0).standard_normal(frames * 2 * 160 + 240).astype(np.float32)
    window, bands = np.hanning(400).astype(np.float32), np.random.default_rng(1).random((201, 80), dtype=np.float32)
    heard = torch.zeros(1, 80, 2 * frames, device=DEVICE, dtype=HALF)
    forward = kept(lambda x: model(x).last_hidden_state.float().mean(), heard)

    def step(run: Step) -> None:
        pieces = np.lib.stride_tricks.sliding_window_view(sound, 400)[::160][: 2 * frames] * window
        power = np.abs(np.fft.rfft(pieces)).astype(np.float32) ** 2
        heard.copy_(torch.from_numpy(np.ascontiguousarray(np.log(power @ bands + 1e-6).T))[None])
        run()
        heard[0, 0, 0].item()

    return partial(step, forward), lambda: partial(step, captured(forward))


def phone() -> Made:
    """A convolutional net for phones, by channels, with squeezing: one picture in rows of channels."""
    side = 192 if not SMALL else 32
    model = MobileNet().to(DEVICE, HALF, memory_format=torch.channels_last).eval()
    x = torch.randn(1, 3, side, side, device=DEVICE, dtype=HALF).to(memory_format=torch.channels_last)
    return graphed(kept(model, x))


def painting() -> Made:
    """A diffusion transformer, guided, four moments a step."""
    model, x = Dit().to(DEVICE, HALF), torch.randn(2, 256 if not SMALL else 16, 16, device=DEVICE, dtype=HALF)

    def paint(start: torch.Tensor) -> torch.Tensor:
        y = start
        for moment in (0.9, 0.6, 0.3, 0.1):
            with_words, without = model(y, moment).chunk(2)
            y = y - 0.25 * (without + 4 * (with_words - without)).repeat(2, 1, 1)
        return y

    return graphed(kept(paint, x))


def speech() -> Made:
    """A library's LSTM reads 80 frames, and a cell writes 24 letters by chance."""
    width, frames, letters = (384, 80, 24) if not SMALL else (16, 4, 3)
    reader = nn.LSTM(width, width, 2).to(DEVICE, HALF).requires_grad_(False)
    cell = nn.LSTMCell(width, width).to(DEVICE, HALF).requires_grad_(False)
    out = nn.Linear(width, 64).to(DEVICE, HALF).requires_grad_(False)
    embedding = torch.randn(64, width, device=DEVICE, dtype=HALF)
    x = torch.randn(frames, 4, width, device=DEVICE, dtype=HALF)

    def write(heard: torch.Tensor) -> torch.Tensor:
        read, _ = reader(heard)
        h, c, letter = read[-1], torch.zeros_like(read[-1]), torch.zeros(4, dtype=torch.long, device=DEVICE)
        written = []
        for _ in range(letters):
            h, c = cell(embedding[letter] + read.mean(0), (h, c))
            chance = -torch.log(torch.empty(4, 64, device=DEVICE).exponential_())
            letter = (out(h).float() + chance).argmax(-1)
            written.append(letter)
        return torch.stack(written)

    return graphed(kept(write, x))


def molecules() -> Made:
    """Messages go along the edges of a graph: gathered, weighed, added up; five layers."""
    nodes, edges, width = (20_000, 100_000, 96) if not SMALL else (20, 50, 8)
    model = Graphs(width, 5).to(DEVICE)
    ends = torch.randint(0, nodes, (2, edges), device=DEVICE)
    return graphed(kept(lambda x: model(x, ends), torch.randn(nodes, width, device=DEVICE)))


def router() -> Made:
    """Tokens are sorted to the experts that were chosen for them, computed in one batch, and put back; six layers."""
    model = Router(512 if not SMALL else 16, 8, 6 if not SMALL else 1).to(DEVICE, HALF)
    return graphed(kept(model, torch.randn(256 if not SMALL else 16, model.width, device=DEVICE, dtype=HALF)))


def clicks() -> Made:
    """A recommender: fresh indices from pageable memory, 26 embeddings, crossed features, two small nets."""
    rows, width, fields = (1024, 64, 26) if not SMALL else (8, 8, 3)
    tables = [torch.randn(20_000 if not SMALL else 50, width, device=DEVICE) for _ in range(fields)]
    below = nn.Sequential(nn.Linear(13, 256), nn.ReLU(), nn.Linear(256, width), nn.ReLU()).to(DEVICE)
    crossed = fields * (fields + 1) // 2
    above = nn.Sequential(nn.Linear(width + crossed, 256), nn.ReLU(), nn.Linear(256, 1)).to(DEVICE)
    fresh = torch.randint(0, len(tables[0]), (fields, rows))
    place, numbers = torch.zeros_like(fresh, device=DEVICE), torch.randn(rows, 13, device=DEVICE)
    pairs = torch.tril_indices(fields + 1, fields + 1, -1).to(DEVICE)

    def score(indices: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        x = below(dense)
        found = torch.stack([x, *(functional.embedding(i, t) for i, t in zip(indices, tables, strict=True))], 1)
        both = torch.bmm(found, found.transpose(1, 2))[:, pairs[0], pairs[1]]
        return torch.sigmoid(above(torch.cat((x, both), 1)))

    forward = kept(score, place, numbers)

    def step(run: Step) -> None:
        place.copy_(fresh)
        run()

    return partial(step, forward), lambda: partial(step, captured(forward))


def compiled(compute: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Made:
    """A forward in single operators, and compiled without a graph."""
    made = torch.compile(compute) if CUDA else compute
    ways = [torch.no_grad()(partial(one, *inputs)) for one in (compute, made)]
    return ways[0], lambda: ways[1]


def quantised() -> Made:
    """Weights of one byte are widened and scaled before each product, 64 rows."""
    width = 4096 if not SMALL else 32
    weights = quantised_layers(width, 12 if not SMALL else 1)

    def forward(x: torch.Tensor) -> torch.Tensor:
        for small, scale in weights:
            x = functional.silu(x @ (small.to(HALF) * scale))
        return x

    return compiled(forward, torch.randn(64, width, device=DEVICE, dtype=HALF))


def mixing() -> Made:
    """Layers that mix places and then features, eight of them, in single operators."""
    rows, places, width = (32, 256, 1024) if not SMALL else (2, 8, 16)
    model = Mixer(places, width, 8 if not SMALL else 1).to(DEVICE, HALF)
    return compiled(model, torch.randn(rows, places, width, device=DEVICE, dtype=HALF))


def pretraining() -> Made:
    """A small Llama is trained, 16 rows of 512 tokens; then its forward and backward are compiled."""
    model, tokens = llama(), torch.randint(0, 1000, (16 if not SMALL else 2, 512 if not SMALL else 16), device=DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=CUDA)

    def train(run: Callable[..., Any]) -> None:
        optimizer.zero_grad(set_to_none=True)
        logits = run(input_ids=tokens, use_cache=False).logits[:, :-1]
        functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten()).backward()
        optimizer.step()

    return partial(train, model), lambda: partial(train, torch.compile(model) if CUDA else model)


class Texts(Dataset):  # type: ignore[type-arg]
    """Texts that are cut into words and numbered in Python."""

    words = ("the", "kernel", "waits", "for", "a", "launch", "that", "never", "comes", "home") * 40

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        text = " ".join(self.words[index % 97 :][:250])
        numbers = [hash(word[:end]) % 1000 for word in text.split() for end in range(1, len(word) + 1)]
        return torch.tensor((numbers * 2)[:256]), index % 4


def texts() -> Made:
    """Training of a sorter of texts, whose words are cut in Python; then four workers cut them."""
    width = 256 if not SMALL else 16
    embedding, head = nn.Embedding(1000, width).to(DEVICE), nn.Linear(width, 4).to(DEVICE)
    layers = nn.Sequential(*(nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True) for _ in range(3)))
    weights = [*embedding.parameters(), *layers.to(DEVICE).parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, 1e-4)

    def train(batches: Iterator[Any]) -> None:
        rows, labels = next(batches)
        loss = functional.cross_entropy(head(layers(embedding(rows.to(DEVICE))).mean(1)), labels.to(DEVICE))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def batches(workers: int) -> Iterator[Any]:
        return iter(DataLoader(Texts(), batch_size=32 if not SMALL else 2, num_workers=workers))

    return partial(train, batches(0)), lambda: partial(train, batches(4 if CUDA else 1))


class Sounds(Dataset):  # type: ignore[type-arg]
    """Sounds whose spectra numpy computes."""

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, index: int) -> torch.Tensor:
        sound = np.random.default_rng(index).standard_normal((40 if not SMALL else 4, 512)).astype(np.float32)
        return torch.from_numpy(np.log1p(np.abs(np.fft.rfft(sound)[:, 1:])).astype(np.float32).T.copy())


def sounds() -> Made:
    """Spectra of numpy are sorted by convolutions, and the answer is read each step; then six workers."""
    width = 256 if not SMALL else 16
    parts: list[nn.Module] = [nn.Conv1d(256, width, 3), nn.ReLU()]
    for _ in range(20 if not SMALL else 0):
        parts += [nn.Conv1d(width, width, 3, padding=1), nn.BatchNorm1d(width), nn.ReLU()]
    model = nn.Sequential(*parts, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, 10)).to(DEVICE).eval()

    def sort(batches: Iterator[Any]) -> None:
        with torch.no_grad():
            model(next(batches).to(DEVICE)).argmax(-1).tolist()

    def batches(workers: int) -> Iterator[Any]:
        return iter(DataLoader(Sounds(), batch_size=8 if not SMALL else 2, num_workers=workers))

    return partial(sort, batches(0)), lambda: partial(sort, batches(6 if CUDA else 1))


def frames() -> Made:
    """Pictures of whole numbers in pageable memory go through convolutions; then pinned, and fetched a step ahead."""
    rows, side = (64, 384) if not SMALL else (2, 16)
    pictures = [torch.randint(0, 255, (rows, 3, side, side), dtype=torch.uint8) for _ in range(2)]
    parts: list[nn.Module] = [nn.Conv2d(3, 64, 4, 4), nn.ReLU()]
    for _ in range(8 if not SMALL else 1):
        parts += [nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*parts).to(DEVICE, HALF, memory_format=torch.channels_last).requires_grad_(False)
    turn = iter(range(10**9))

    def look(x: torch.Tensor) -> torch.Tensor:
        return model((x.to(HALF) / 255).to(memory_format=torch.channels_last)).mean((2, 3))

    def remedied() -> Step:
        if not CUDA:
            return lambda: look(pictures[next(turn) % 2].to(DEVICE))
        pinned, side_stream = [one.pin_memory() for one in pictures], torch.cuda.Stream()
        ahead: list[torch.Tensor] = []

        def fetch() -> None:
            with torch.cuda.stream(side_stream):
                ahead.append(pinned[next(turn) % 2].to(DEVICE, non_blocking=True))

        def step() -> None:
            here = torch.cuda.current_stream()
            here.wait_stream(side_stream)
            x = ahead.pop()
            x.record_stream(here)
            fetch()
            look(x)

        fetch()
        return step

    return lambda: look(pictures[next(turn) % 2].to(DEVICE)), remedied


WORKLOADS: dict[str, Workload] = {
    "sentences": Workload(sentences, "graph", "BERT, 4 rows of 64 tokens"),
    "summaries": Workload(summaries, "graph", "BART, encoder and decoder"),
    "states": Workload(states, "graph", "Mamba in single operators"),
    "camera": Workload(camera, "graph", "frames from pinned memory, read by a ViT"),
    "hearing": Workload(hearing, "graph", "a spectrogram in numpy, then Whisper's encoder"),
    "phone": Workload(phone, "graph", "a convolutional net for phones"),
    "painting": Workload(painting, "graph", "a guided diffusion transformer, four moments"),
    "speech": Workload(speech, "graph", "a library's LSTM reads, a cell writes by chance"),
    "molecules": Workload(molecules, "graph", "messages along the edges of a graph"),
    "router": Workload(router, "graph", "experts in one batch, tokens sorted to them"),
    "clicks": Workload(clicks, "graph", "a recommender, fresh indices each step"),
    "texts": Workload(texts, "workers", "words cut in Python, training; then 4 workers"),
    "sounds": Workload(sounds, "workers", "spectra in numpy, the answer read each step; then 6 workers"),
    "frames": Workload(frames, "overlap", "pictures from pageable memory; then pinned and a step ahead"),
    "quantised": Workload(quantised, "compile", "weights of one byte, widened before each product"),
    "mixing": Workload(mixing, "compile", "an MLP-Mixer in single operators"),
    "pretraining": Workload(pretraining, "compile", "a small Llama is trained; then compiled"),
}
