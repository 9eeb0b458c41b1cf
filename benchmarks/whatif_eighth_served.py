"""Programs of whatif_eighth.py that write: a sampled decode, one held to a grammar, and an engine between pieces."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import StaticCache
from transformers.models.phi.modeling_phi import apply_rotary_pos_emb as turned
from whatif_models import CUDA, DEVICE, HALF, SMALL, Step
from whatif_seventh_nets import decoder_sizes, piece_by_piece, published
from whatif_third import Made
from whatif_workloads import captured


class Writer:
    """A decoder with a cache of fixed size, its token and position kept on the device."""

    def __init__(self, model: Any, places: int, asked: int) -> None:
        self.model, self.asked, self.room = model, asked, places - asked - 12
        self.cache = StaticCache(config=model.config, max_cache_len=places)
        self.token, self.position = (torch.zeros(1, 1, dtype=torch.long, device=DEVICE) for _ in range(2))
        self.every, self.written = torch.arange(places, device=DEVICE), 0
        self.logits()  # makes the cache's tensors
        self.ask()

    def logits(self) -> torch.Tensor:
        """Of the next token; the cache and the position go on by one."""
        with torch.no_grad():
            seen = (self.every <= self.position)[None, None]
            given = {"attention_mask": seen, "position_ids": self.position, "past_key_values": self.cache}
            made = self.model(input_ids=self.token, use_cache=True, **given).logits[:, -1]
            self.position.add_(1)
            return made

    def ask(self) -> None:
        """Begin behind another prompt of the same length."""
        for length in (self.position, *(layer.cumulative_length for layer in self.cache.layers)):
            length.fill_(self.asked)

    def go_on(self) -> None:
        """Count a token; where the cache is full, another prompt begins."""
        self.written += 1
        if self.written % self.room == 0:
            self.ask()


def story() -> Made:
    """OLMo 2 writes a story: the 50 likeliest words by temperature, drawn without asking the host; `.item()` each."""
    sizes = decoder_sizes(1024, 14, 16, 16)
    model = published("olmo2", writes=True, attention="sdpa", **sizes)
    writer = Writer(model, *((1024, 128) if not SMALL else (32, 8)))

    def advance() -> None:
        logits = writer.logits().float() / 0.8
        least = logits.topk(50, -1).values[:, -1:]
        chance = torch.where(logits < least, float("-inf"), logits).softmax(-1)
        writer.token.copy_((chance / torch.empty_like(chance).exponential_(1)).argmax(-1, keepdim=True))

    def step(run: Step) -> None:
        writer.go_on()
        run()
        writer.token.item()

    return partial(step, advance), lambda: partial(step, captured(advance))


STATES = {
    "value": "[-0123456789",
    "sign": "0123456789",
    "number": "0123456789,]",
    "comma": " -0123456789[",
    "end": ",]",
}
"""What may follow in a list of numbers."""
NEXT = {",": "comma", "]": "end", "-": "sign", "[": "value", " ": "value"}


def after(state: str, piece: str) -> str | None:
    """The state of a list of numbers behind a piece of text, None where the piece may not be written."""
    for letter in piece:
        if letter not in STATES[state]:
            return None
        state = NEXT.get(letter, "number")
    return state


def lists() -> Made:
    """StableLM writes lists of numbers: Python tries each word against a grammar, numpy draws from those allowed."""
    model = published("stablelm", writes=True, attention="sdpa", **decoder_sizes(1024, 8, 16, 16))
    writer, chance = Writer(model, *((1024, 64) if not SMALL else (32, 8))), np.random.default_rng(0)
    words = len(model.model.embed_tokens.weight)
    letters = [*"0123456789", *"0123456789", *",]-[ ", *"abcdefgh"]
    pieces = ["".join(chance.choice(letters, 1 + i % 3)) for i in range(min(words, 6000))]
    said, now = torch.zeros(1, words, device=DEVICE), {"state": "value"}
    recent: list[int] = []

    def advance() -> None:
        said.copy_(writer.logits())

    def choose() -> None:
        scores = said[0].cpu().numpy()
        following = {at: state for at, piece in enumerate(pieces) if (state := after(now["state"], piece))}
        allowed = np.fromiter(following, dtype=np.int64)
        held = scores[allowed] / 0.7
        held[np.isin(allowed, recent[-64:])] -= 1.1
        weights = np.exp(held - held.max())
        chosen = int(chance.choice(allowed, p=weights / weights.sum()))
        now["state"] = following[chosen]
        recent.append(chosen)
        writer.token.fill_(chosen)

    def step(run: Step) -> None:
        writer.go_on()
        run()
        choose()

    return partial(step, advance), lambda: partial(step, captured(advance))


def shared() -> Made:
    """Phi's layers, 24 answers behind one shared prompt: two attentions merged between captured pieces."""
    rows, before, own = (24, 512, 256) if not SMALL else (2, 8, 8)
    sizes = decoder_sizes(1024, 10, 16, 16)
    heads = sizes["num_key_value_heads"] = sizes["num_attention_heads"]
    model = published("phi", writes=True, **sizes)
    layers = model.model.layers
    size, width = layers[0].self_attn.head_dim, model.config.hidden_size
    part, scale = layers[0].self_attn.rotary_ndims, layers[0].self_attn.scaling
    prompt = torch.randn(len(layers), 2, heads, before, size, device=DEVICE, dtype=HALF)
    pool = torch.zeros(len(layers), 2, rows, heads, own, size, device=DEVICE, dtype=HALF)
    token, position = (torch.zeros(rows, 1, dtype=torch.long, device=DEVICE) for _ in range(2))
    each, every = torch.arange(rows, device=DEVICE), torch.arange(own, device=DEVICE)
    x, normed = (torch.zeros(rows, 1, width, device=DEVICE, dtype=HALF) for _ in range(2))
    turn = [torch.zeros(rows, 1, part, device=DEVICE, dtype=HALF) for _ in range(2)]
    three = [torch.zeros(rows, heads, 1, size, device=DEVICE, dtype=HALF) for _ in range(3)]
    seen = torch.zeros(rows, heads, size, device=DEVICE, dtype=HALF)
    there, arrive = np.arange(rows) * 5, torch.zeros(rows, dtype=torch.long, pin_memory=CUDA)

    def piece(at: int) -> None:
        if at == 0:
            x.copy_(model.model.embed_tokens(token))
            for place, made in zip(turn, model.model.rotary_emb(x, position + before), strict=True):
                place.copy_(made)
        else:
            layer = layers[at - 1]
            x.copy_(layer.self_attn.dense(seen.flatten(1)[:, None]) + layer.mlp(normed) + x)
        if at == len(layers):
            token.copy_(model.lm_head(model.model.final_layernorm(x))[:, -1].argmax(-1, keepdim=True))
            return
        attention = layers[at].self_attn
        normed.copy_(layers[at].input_layernorm(x))
        query, key, value = (
            made(normed).unflatten(-1, (heads, size)).transpose(1, 2)
            for made in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        query_turned, key_turned = turned(query[..., :part], key[..., :part], *turn)
        query = torch.cat((query_turned, query[..., part:]), -1)
        key = torch.cat((key_turned, key[..., part:]), -1)
        for place, made in zip(three, (query, key, value), strict=True):
            place.copy_(made)

    def attend(at: int) -> None:
        query, key, value = three
        for store, new in zip(pool[at], (key, value), strict=True):
            store[each, :, position[:, 0]] = new[:, :, 0]
        keys, values = prompt[at]
        scores = (query[:, :, 0].transpose(0, 1) @ keys.transpose(1, 2)).float() * scale
        of_prompt, weight = (scores.softmax(-1).to(HALF) @ values).transpose(0, 1), scores.logsumexp(-1).t()
        keys, values = pool[at]
        scores = (query @ keys.transpose(2, 3)).float() * scale
        scores = scores.masked_fill((every > position)[:, None, None], float("-inf"))
        of_own, other = (scores.softmax(-1).to(HALF) @ values)[:, :, 0], scores.logsumexp(-1)[:, :, 0]
        share = torch.sigmoid(weight - other)[..., None].to(HALF)
        seen.copy_(of_prompt * share + of_own * (1 - share))

    def schedule() -> None:
        there[:] = (there + 1) % own
        arrive.copy_(torch.from_numpy(there))
        position.copy_(arrive[:, None], non_blocking=True)

    return piece_by_piece(
        [partial(torch.no_grad()(piece), at) for at in range(len(layers) + 1)],
        [partial(torch.no_grad()(attend), at) for at in range(len(layers))],
        schedule,
        token.tolist,
    )
