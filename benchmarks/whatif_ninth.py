"""A ninth set of programs with a remedy each, one of every kind, by one who had not read the what-if's code.

Published models of transformers with random weights, and nets of papers in plain torch: `whatif_truth.py --set ninth`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import AutoConfig, YolosForObjectDetection
from transformers.models.gemma.modeling_gemma import apply_rotary_pos_emb as turned
from whatif_eighth_fed import together
from whatif_eighth_nets import in_two_places, pinned
from whatif_eighth_served import Writer
from whatif_models import CUDA, DEVICE, HALF, SMALL, Step, fetched
from whatif_ninth_nets import Actor, Boards, Cells, Even, Player, Policy, critic
from whatif_seventh_nets import decoder_sizes, piece_by_piece, published
from whatif_third import Made, compiled, graphed, kept
from whatif_workloads import Workload, captured


def programming() -> Made:
    """StarCoder2 writes greedily, one row; `.item()` each token, Python looks for the end of a function."""
    model = published("starcoder2", writes=True, attention="sdpa", **decoder_sizes(1152, 15, 12, 2))
    writer, recent = Writer(model, *((768, 192) if not SMALL else (32, 8))), [0] * 4

    def advance() -> None:
        writer.token.copy_(writer.logits().argmax(-1, keepdim=True))

    def step(run: Step) -> None:
        writer.go_on()
        run()
        recent[:] = [*recent[1:], int(writer.token.item())]
        if recent == [11, 11, 7, 0]:
            writer.ask()

    return partial(step, advance), lambda: partial(step, captured(advance))


def penalised() -> Made:
    """Cohere's layers write, words said before count less, drawn among those above a share; `.item()` each token."""
    model = published("cohere", writes=True, attention="sdpa", pad_token_id=0, **decoder_sizes(1280, 10, 20, 20))
    writer = Writer(model, *((512, 64) if not SMALL else (32, 8)))
    said = torch.zeros(1, len(model.model.embed_tokens.weight), device=DEVICE)

    def advance() -> None:
        logits = (writer.logits().float() - 0.4 * said) / 0.9
        chance = logits.softmax(-1)
        chance = chance * (chance >= 0.05 * chance.amax(-1, keepdim=True))
        writer.token.copy_((chance / torch.empty_like(chance).exponential_(1)).argmax(-1, keepdim=True))
        said.mul_(0.99).scatter_add_(1, writer.token, torch.ones_like(writer.token, dtype=torch.float32))

    def step(run: Step) -> None:
        writer.go_on()
        run()
        writer.token.item()

    return partial(step, advance), lambda: partial(step, captured(advance))


def boxes() -> Made:
    """Pillow and numpy prepare a photo, YOLOS finds things in it, the host draws their boxes."""
    size, width = ((512, 384), 384) if not SMALL else ((64, 48), 32)
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": 6 if not SMALL else 2}
    sizes |= {"num_hidden_layers": 12 if not SMALL else 1, "num_detection_tokens": (asked := 100 if not SMALL else 8)}
    config = AutoConfig.for_model("yolos", image_size=list(size[::-1]), **sizes)
    config._attn_implementation = "eager"
    model = YolosForObjectDetection(config).to(DEVICE, HALF).eval().requires_grad_(False)
    chances = [np.random.default_rng(i) for i in range(4)]
    photos = [Image.fromarray(one.integers(0, 255, (45, 60, 3), dtype=np.uint8)).resize((800, 600)) for one in chances]
    pixels = torch.zeros(1, 3, *size[::-1], device=DEVICE, dtype=HALF)
    kinds = torch.zeros(asked, config.num_labels + 1, device=DEVICE)
    places, turn = torch.zeros(asked, 4, device=DEVICE), iter(range(10**9))

    def see() -> None:
        with torch.no_grad():
            made = model(pixel_values=pixels)
            kinds.copy_(made.logits[0].float().softmax(-1))
            places.copy_(made.pred_boxes[0])

    def step(run: Step) -> None:
        photo = photos[next(turn) % 4].copy()
        values = np.asarray(photo.resize(size, Image.Resampling.BILINEAR), dtype=np.float32) / 255
        pixels.copy_(torch.from_numpy(np.ascontiguousarray(((values - 0.45) / 0.225).transpose(2, 0, 1)))[None])
        run()
        chance = kinds.cpu().numpy()[:, :-1].max(-1)
        middle, extent = np.split(places.cpu().numpy() * np.array([*photo.size, *photo.size]), 2, axis=1)
        pen = ImageDraw.Draw(photo)
        for at in np.argsort(-chance)[:20]:
            pen.rectangle([*(middle[at] - extent[at] / 2), *(middle[at] + extent[at] / 2)], outline=(255, 0, 0))

    return partial(step, see), lambda: partial(step, captured(see))


def games() -> Made:
    """A net learns moves and results from games of Reversi that Python plays; then six workers play them."""
    games_a_batch, moves, width, blocks = (20, 8, 96, 6) if not SMALL else (2, 4, 8, 1)
    net = Player(width, blocks).to(DEVICE)
    optimizer = torch.optim.SGD(net.parameters(), 0.02, momentum=0.9, weight_decay=1e-4, nesterov=True)

    def train(batches: Iterator[Any]) -> None:
        planes, chosen, ends = (part.to(DEVICE).flatten(0, 1) for part in next(batches))
        move, worth = net(planes)
        optimizer.zero_grad()
        (functional.cross_entropy(move, chosen) + functional.mse_loss(worth, ends)).backward()
        optimizer.step()

    def batches(workers: int) -> Iterator[Any]:
        return iter(DataLoader(Boards(moves), games_a_batch, num_workers=workers, collate_fn=together))

    return partial(train, batches(0)), lambda: partial(train, batches(6 if CUDA else 1))


def streaming() -> Made:
    """Gemma's layers, 32 answers without end: attention over the first and the latest places, pieces captured."""
    rows, own, first = (32, 384, 4) if not SMALL else (2, 16, 2)
    model = published("gemma", writes=True, **decoder_sizes(1024, 12, 8, 1) | {"num_key_value_heads": 1})
    layers, heads = model.model.layers, model.config.num_attention_heads
    size, width, scale = layers[0].self_attn.head_dim, model.config.hidden_size, layers[0].self_attn.scaling
    pool = torch.zeros(len(layers), 2, rows, own, size, device=DEVICE, dtype=HALF)
    token, position, slot = (torch.zeros(rows, 1, dtype=torch.long, device=DEVICE) for _ in range(3))
    each, every = torch.arange(rows, device=DEVICE), torch.arange(own, device=DEVICE)
    x = torch.zeros(rows, 1, width, device=DEVICE, dtype=HALF)
    turn = [torch.zeros(rows, 1, size, device=DEVICE, dtype=HALF) for _ in range(2)]
    three = [torch.zeros(rows, n, 1, size, device=DEVICE, dtype=HALF) for n in (heads, 1, 1)]
    seen = torch.zeros(rows, heads, size, device=DEVICE, dtype=HALF)
    there, arrive = np.arange(rows) * 17, torch.zeros(2, rows, dtype=torch.long, pin_memory=CUDA)

    def piece(at: int) -> None:
        if at == 0:
            x.copy_(model.model.embed_tokens(token))
            for place, made in zip(turn, model.model.rotary_emb(x, position), strict=True):
                place.copy_(made)
        else:
            layer = layers[at - 1]
            y = x + layer.self_attn.o_proj(seen.flatten(1)[:, None])
            x.copy_(y + layer.mlp(layer.post_attention_layernorm(y)))
        if at == len(layers):
            token.copy_(model.lm_head(model.model.norm(x))[:, -1].argmax(-1, keepdim=True))
            return
        attention, normed = layers[at].self_attn, layers[at].input_layernorm(x)
        query, key, value = (
            made(normed).unflatten(-1, (-1, size)).transpose(1, 2)
            for made in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        for place, made in zip(three, (*turned(query, key, *turn), value), strict=True):
            place.copy_(made)

    def attend(at: int) -> None:
        query, key, value = three
        keys, values = pool[at]
        for store, new in ((keys, key), (values, value)):
            store[each, slot[:, 0]] = new[:, 0, 0]
        scores = (query[:, :, 0] @ keys.transpose(1, 2)).float() * scale
        scores = scores.masked_fill((every > position)[:, None], float("-inf"))
        seen.copy_(scores.softmax(-1).to(HALF) @ values)

    def schedule() -> None:
        there[:] = (there + 1) % 4000
        arrive[0] = torch.from_numpy(there)
        arrive[1] = torch.from_numpy(np.where(there < own, there, first + (there - first) % (own - first)))
        position.copy_(arrive[0, :, None], non_blocking=True)
        slot.copy_(arrive[1, :, None], non_blocking=True)

    return piece_by_piece(
        [partial(torch.no_grad()(piece), at) for at in range(len(layers) + 1)],
        [partial(torch.no_grad()(attend), at) for at in range(len(layers))],
        schedule,
        token.tolist,
    )


def gripping() -> Made:
    """A robot's next 16 moves come out of noise: one step of a diffusion policy, a U-Net along time."""
    rows, moves, widths = (8, 7, (256, 512, 1024)) if not SMALL else (2, 3, (8, 16, 32))
    model = Policy(moves, widths, 128 if not SMALL else 8).to(DEVICE, HALF).requires_grad_(False)
    plan = torch.randn(rows, moves, 16, device=DEVICE)
    sees = torch.randn(rows, 128 if not SMALL else 8, device=DEVICE, dtype=HALF)
    share = torch.cos(torch.linspace(0.02, 1.55, 101, device=DEVICE)).square()
    at = torch.full((1,), 99, dtype=torch.long, device=DEVICE)

    def denoise() -> None:
        with torch.no_grad():
            now, before = share[at + 1], share[at]
            noise = model(plan.to(HALF), at.expand(rows), sees).float()
            clean = ((plan - (1 - now).sqrt() * noise) / now.sqrt()).clamp(-1, 1)
            kept_share = now / before
            middle = before.sqrt() * (1 - kept_share) * clean + kept_share.sqrt() * (1 - before) * plan
            spread = ((1 - before) / (1 - now) * (1 - kept_share)).sqrt()
            plan.copy_(middle / (1 - now) + spread * torch.randn_like(plan))
            at.sub_(1).remainder_(100)

    return graphed(denoise)


def weather() -> Made:
    """Lorenz' model of 1996, 64 members of 40 places, 20 moments by Runge and Kutta, drawn to their mean."""
    moments, pace = (20 if not SMALL else 2), 0.01
    members = 8 + torch.randn(64, 40, device=DEVICE)

    def change(x: torch.Tensor) -> torch.Tensor:
        return (torch.roll(x, -1, 1) - torch.roll(x, 2, 1)) * torch.roll(x, 1, 1) - x + 8

    def forecast() -> None:
        x = members
        for _ in range(moments):
            one = change(x)
            two = change(x + pace / 2 * one)
            three = change(x + pace / 2 * two)
            x = x + pace / 6 * (one + 2 * two + 2 * three + change(x + pace * three))
        middle = x.mean(0, keepdim=True)
        members.copy_(middle + 0.98 * (x - middle))

    return graphed(forecast)


def acting() -> Made:
    """Soft actor-critic: an update of two critics, an actor and its temperature from a memory on the device."""
    sees, moves, width, rows, many = (17, 6, 256, 256, 100_000) if not SMALL else (3, 2, 8, 4, 32)
    actor = Actor(sees, moves, width).to(DEVICE)
    critics, slow = (nn.ModuleList(critic(sees + moves, width) for _ in range(2)).to(DEVICE) for _ in range(2))
    slow.load_state_dict(critics.state_dict())
    heat = torch.zeros(1, device=DEVICE, requires_grad=True)
    parts = (list(critics.parameters()), list(actor.parameters()), [heat])
    critic_way, actor_way, heat_way = (torch.optim.Adam(one, 3e-4, capturable=CUDA) for one in parts)
    stored = [torch.randn(many, n, device=DEVICE) for n in (sees, moves, 1, sees)]

    def least(of: nn.ModuleList, state: torch.Tensor, move: torch.Tensor) -> torch.Tensor:
        both = torch.cat((state, move), 1)
        return torch.minimum(of[0](both), of[1](both))

    def update() -> None:
        at = torch.randint(0, many, (rows,), device=DEVICE)
        state, done, gain, later = (one[at] for one in stored)
        with torch.no_grad():
            move, chance = actor(later)
            wanted = gain + 0.99 * (least(slow, later, move) - heat.exp() * chance)
        both = torch.cat((state, done.tanh()), 1)
        critic_way.zero_grad(set_to_none=True)
        (functional.mse_loss(critics[0](both), wanted) + functional.mse_loss(critics[1](both), wanted)).backward()
        critic_way.step()
        move, chance = actor(state)
        actor_way.zero_grad(set_to_none=True)
        (heat.detach().exp() * chance - least(critics, state, move)).mean().backward()
        actor_way.step()
        heat_way.zero_grad(set_to_none=True)
        (-heat.exp() * (chance.detach() - moves)).mean().backward()
        heat_way.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(slow.parameters()), parts[0], 0.005)

    return graphed(update)


def cells() -> Made:
    """A variational net is trained on counts of genes from pageable memory; then pinned and a step ahead."""
    rows, genes, width = (512, 16_000, 256) if not SMALL else (4, 32, 8)
    net = Cells(genes, width, 24 if not SMALL else 4).to(DEVICE)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, eps=0.01)
    chances = (np.random.default_rng(i) for i in range(3))
    stored = [(torch.from_numpy(one.poisson(0.7, (rows, genes)).astype(np.float32)),) for one in chances]
    turn = itertools.cycle(stored)

    def train(counts: torch.Tensor) -> None:
        optimizer.zero_grad()
        net(counts).backward()
        optimizer.step()

    def remedied() -> Step:
        return fetched(itertools.cycle([pinned(one) for one in stored]), train)

    return lambda: train(next(turn)[0].to(DEVICE)), remedied


def cameras() -> Made:
    """Hiera sees eight large frames a step from pageable memory, made smaller on the device; then a step ahead."""
    count, high, wide = (8, 1080, 1920) if not SMALL else (1, 90, 160)
    sizes: dict[str, Any] = {} if not SMALL else {"embed_dim": 8, "depths": [1, 1, 2, 1]}
    model = published("hiera", **sizes)
    chances = (np.random.default_rng(i) for i in range(2))
    stored = [(torch.from_numpy(one.integers(0, 255, (count, 3, high, wide), dtype=np.uint8)),) for one in chances]
    turn = itertools.cycle(stored)

    def see(frames: torch.Tensor) -> Any:
        with torch.no_grad():
            small = functional.interpolate(frames.to(HALF), size=(224, 224), mode="area")
            return model(pixel_values=small / 127.5 - 1).pooler_output.float().argmax(-1)

    def remedied() -> Step:
        return in_two_places(itertools.cycle([pinned(one) for one in stored]), stored[0], see)

    return lambda: see(next(turn)[0].to(DEVICE)), remedied


def proteins() -> Made:
    """ESM, 12 layers that turn their keys, reads two proteins of 256 residues."""
    rows, length = (2, 256) if not SMALL else (1, 8)
    sizes: dict[str, Any] = {
        "hidden_size": 480,
        "intermediate_size": 1920,
        "num_attention_heads": 20,
        "num_hidden_layers": 12,
    }
    if SMALL:
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1}
    sizes |= {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32, "max_position_embeddings": 1026}
    model = published("esm", token_dropout=False, position_embedding_type="rotary", **sizes)
    residues = torch.randint(4, 24, (rows, length), device=DEVICE)
    mask = torch.zeros(rows, 1, length, length, device=DEVICE, dtype=HALF)
    places = torch.arange(length, device=DEVICE)[None]

    def read(given: torch.Tensor) -> torch.Tensor:
        x = model.embeddings(input_ids=given, position_ids=places)
        turn = model.rotary_embeddings(x, places)
        return model.encoder(x, attention_mask=mask, position_embeddings=turn).last_hidden_state.mean(1)

    return graphed(kept(read, residues))


def spheres() -> Made:
    """Layers whose vectors are all kept at length one, norms in single operators; then compiled."""
    width, heads, rows, length = (1024, 16, 4, 1024) if not SMALL else (32, 4, 1, 8)
    model = nn.Sequential(*(Even(width, heads) for _ in range(8 if not SMALL else 1)))
    model.to(DEVICE, HALF).requires_grad_(False)
    return compiled(model, torch.randn(rows, length, width, device=DEVICE, dtype=HALF))


WORKLOADS: dict[str, Workload] = {
    "programming": Workload(programming, "graph", "StarCoder2 writes, each token read by the host"),
    "penalised": Workload(penalised, "graph", "Cohere's layers write, words said before count less"),
    "boxes": Workload(boxes, "graph", "a photo by Pillow and numpy, YOLOS, boxes drawn"),
    "games": Workload(games, "workers", "a net trained on games that Python plays; then 6 workers"),
    "streaming": Workload(streaming, "graph", "Gemma, first and latest places, pieces captured; then one graph"),
    "gripping": Workload(gripping, "graph", "a step of a diffusion policy, a U-Net along time"),
    "weather": Workload(weather, "graph", "an ensemble of Lorenz' model, 20 moments"),
    "acting": Workload(acting, "graph", "an update of soft actor-critic"),
    "cells": Workload(cells, "overlap", "a variational net trained on pageable counts; then a step ahead"),
    "cameras": Workload(cameras, "overlap", "Hiera, eight large frames from pageable memory; then a step ahead"),
    "proteins": Workload(proteins, "graph", "ESM, two proteins of 256 residues"),
    "spheres": Workload(spheres, "compile", "layers on the sphere, 4 rows of 1,024 tokens"),
}
