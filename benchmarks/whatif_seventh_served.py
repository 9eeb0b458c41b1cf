"""Programs of whatif_seventh.py that answer: language models with a cache, one that sees, engines between pieces."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from transformers import DynamicCache, StaticCache
from transformers.cache_utils import DynamicLayer
from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb as turned_in_part
from transformers.models.mistral.modeling_mistral import apply_rotary_pos_emb as turned
from transformers.models.mistral.modeling_mistral import repeat_kv
from whatif_models import CUDA, DEVICE, HALF, SMALL, Step
from whatif_seventh_nets import decoder_sizes, piece_by_piece, published, seen_so_far
from whatif_third import Made
from whatif_workloads import captured


def chat() -> Made:
    """Qwen3 writes into a cache of fixed size, one row, each token goes to the host; a new question now and then."""
    places, asked = (1024, 256) if not SMALL else (32, 8)
    model = published("qwen3", writes=True, attention="sdpa", **decoder_sizes(1024, 16, 16, 8))
    cache = StaticCache(config=model.config, max_cache_len=places)
    token = torch.zeros(1, 1, dtype=torch.long, device=DEVICE)
    position, every = torch.zeros(1, 1, dtype=torch.long, device=DEVICE), torch.arange(places, device=DEVICE)
    count = iter(range(10**9))

    def advance() -> None:
        with torch.no_grad():
            seen = (every <= position)[None, None]
            given = {"attention_mask": seen, "position_ids": position, "past_key_values": cache, "use_cache": True}
            token.copy_(model(input_ids=token, **given).logits[:, -1].argmax(-1, keepdim=True))
            position.add_(1)

    def step(run: Step) -> None:
        if next(count) % (places - asked - 12) == 0:
            for length in (position, *(layer.cumulative_length for layer in cache.layers)):
                length.fill_(asked)
        run()
        token.item()

    advance()
    return partial(step, advance), lambda: partial(step, captured(advance))


def choices() -> Made:
    """Granite reads four answers behind a prompt whose keys and values are kept; the host takes the likeliest."""
    before, each = (256, 8) if not SMALL else (8, 4)
    model = published("granite", writes=True, **decoder_sizes(1024, 12, 16, 4))
    prompt = DynamicCache(config=model.config)
    words = len(model.model.embed_tokens.weight)
    with torch.no_grad():
        model(input_ids=torch.randint(0, words, (1, before), device=DEVICE), past_key_values=prompt, use_cache=True)
    known = [(layer.keys.repeat(4, 1, 1, 1), layer.values.repeat(4, 1, 1, 1)) for layer in prompt.layers]

    def behind() -> DynamicCache:
        cache = DynamicCache()
        for keys, values in known:
            layer = DynamicLayer()
            layer.keys, layer.values, layer.dtype, layer.device = keys, values, keys.dtype, keys.device
            layer.is_initialized = True
            cache.layers.append(layer)
        return cache

    mask = seen_so_far(each, before + each)
    positions = torch.arange(before, before + each, device=DEVICE)[None]
    questions = torch.randint(0, words, (16, 4, each))
    questions = questions.pin_memory() if CUDA else questions
    place, worth = torch.zeros(4, each, dtype=torch.long, device=DEVICE), torch.zeros(4, device=DEVICE)
    turn = iter(range(10**9))

    def read() -> None:
        with torch.no_grad():
            given = {"attention_mask": mask, "position_ids": positions, "past_key_values": behind()}
            chance = model(input_ids=place, use_cache=True, **given).logits[:, :-1].float().log_softmax(-1)
            worth.copy_(chance.gather(-1, place[:, 1:, None]).sum((1, 2)))

    def step(run: Step) -> None:
        place.copy_(questions[next(turn) % 16], non_blocking=True)
        run()
        worth.argmax().item()

    return partial(step, read), lambda: partial(step, captured(read))


def asking() -> Made:
    """A photo is made smaller by Pillow and scaled in numpy, SigLIP sees it, Qwen2 reads it and says a word."""
    side, text = (224, 32) if not SMALL else (32, 4)
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 9}
    if SMALL:
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1}
    tower = published("siglip_vision_model", image_size=side, patch_size=16, **sizes)
    reader = published("qwen2", writes=True, **decoder_sizes(896, 12, 14, 2))
    width = reader.config.hidden_size
    between = nn.Sequential(nn.Linear(sizes["hidden_size"], width), nn.GELU(), nn.Linear(width, width))
    between.to(DEVICE, HALF).requires_grad_(False)
    photos = [
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (60, 80, 3), dtype=np.uint8)).resize((960, 720))
        for i in range(4)
    ]
    pixels = torch.zeros(1, 3, side, side, device=DEVICE, dtype=HALF)
    question = reader.model.embed_tokens(torch.arange(text, device=DEVICE)[None])
    length, turn = (side // 16) ** 2 + text, iter(range(10**9))
    mask, positions = seen_so_far(length, length), torch.arange(length, device=DEVICE)[None]
    answer = torch.zeros(1, dtype=torch.long, device=DEVICE)

    def think() -> None:
        with torch.no_grad():
            x = torch.cat((between(tower(pixel_values=pixels).last_hidden_state), question), 1)
            given = {"attention_mask": mask, "position_ids": positions, "use_cache": False}
            answer.copy_(reader(inputs_embeds=x, **given).logits[:, -1].argmax(-1))

    def step(run: Step) -> None:
        photo = photos[next(turn) % 4].convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        values = (np.asarray(photo, dtype=np.float32) / 255 - 0.5) / 0.5
        pixels.copy_(torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None])
        run()
        answer.item()

    return partial(step, think), lambda: partial(step, captured(think))


def paged() -> Made:
    """Sixteen answers of Mistral's layers over pages of keys and values; pieces between attentions are captured."""
    rows, pages, page = (16, 32, 16) if not SMALL else (2, 2, 4)
    model = published("mistral", writes=True, **decoder_sizes(1024, 12, 16, 4))
    config, layers = model.config, model.model.layers
    heads, kept_heads, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    pool = torch.zeros(len(layers), 2, rows * pages * page, kept_heads, size, device=DEVICE, dtype=HALF)
    order = np.random.default_rng(0).permutation(rows * pages).reshape(rows, pages)
    table, every = torch.from_numpy(order).to(DEVICE), torch.arange(pages * page, device=DEVICE)
    token, position = (torch.zeros(rows, 1, dtype=torch.long, device=DEVICE) for _ in range(2))
    slots, mask = torch.zeros_like(token[:, 0]), torch.zeros(rows, 1, 1, len(every), dtype=torch.bool, device=DEVICE)
    x = torch.zeros(rows, 1, config.hidden_size, device=DEVICE, dtype=HALF)
    turn = [torch.zeros(rows, 1, size, device=DEVICE, dtype=HALF) for _ in range(2)]
    query, seen = (torch.zeros(rows, heads, 1, size, device=DEVICE, dtype=HALF) for _ in range(2))
    key, value = (torch.zeros(rows, kept_heads, 1, size, device=DEVICE, dtype=HALF) for _ in range(2))
    there = np.arange(rows) * 7 + pages * page // 2
    arrive = torch.zeros(2, rows, dtype=torch.long, pin_memory=CUDA)

    def piece(at: int) -> None:
        if at == 0:
            x.copy_(model.model.embed_tokens(token))
            for place, made in zip(turn, model.model.rotary_emb(x, position), strict=True):
                place.copy_(made)
            mask.copy_((every <= position)[:, None, None])
        else:
            layer = layers[at - 1]
            y = x + layer.self_attn.o_proj(seen.transpose(1, 2).flatten(2))
            x.copy_(y + layer.mlp(layer.post_attention_layernorm(y)))
        if at == len(layers):
            token.copy_(model.lm_head(model.model.norm(x))[:, -1].argmax(-1, keepdim=True))
            return
        layer, y = layers[at].self_attn, layers[at].input_layernorm(x)
        three = (
            part(y).unflatten(-1, (-1, size)).transpose(1, 2) for part in (layer.q_proj, layer.k_proj, layer.v_proj)
        )
        made_query, made_key, made_value = three
        made_query, made_key = turned(made_query, made_key, *turn)
        for place, made in ((query, made_query), (key, made_key), (value, made_value)):
            place.copy_(made)

    def attention(at: int) -> None:
        for store, new in zip(pool[at], (key, value), strict=True):
            store.index_copy_(0, slots, new[:, :, 0])
        pages_of = (store.view(-1, page, kept_heads, size)[table].flatten(1, 2).transpose(1, 2) for store in pool[at])
        known = (repeat_kv(one, heads // kept_heads) for one in pages_of)
        seen.copy_(functional.scaled_dot_product_attention(query, *known, attn_mask=mask))

    def schedule() -> None:
        there[:] = (there + 1) % (pages * page)
        arrive[0] = torch.from_numpy(there)
        arrive[1] = torch.from_numpy(order[np.arange(rows), there // page] * page + there % page)
        position.copy_(arrive[0, :, None], non_blocking=True)
        slots.copy_(arrive[1], non_blocking=True)

    return piece_by_piece(
        [partial(torch.no_grad()(piece), at) for at in range(len(layers) + 1)],
        [partial(torch.no_grad()(attention), at) for at in range(len(layers))],
        schedule,
        token.tolist,
    )


def mixed() -> Made:
    """GPT-NeoX' layers take 16 answers and 96 tokens of a prompt at once; pieces between attentions are captured."""
    rows, chunk, places = (16, 96, 512) if not SMALL else (2, 4, 16)
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 10}
    if SMALL:
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    model = published("gpt_neox", writes=True, vocab_size=16_000 if not SMALL else 100, **sizes)
    layers, heads, size = (
        model.gpt_neox.layers,
        model.config.num_attention_heads,
        model.gpt_neox.layers[0].attention.head_size,
    )
    pool = torch.zeros(len(layers), 2, rows + 1, heads, places, size, device=DEVICE, dtype=HALF)
    tokens = torch.zeros(1, rows + chunk, dtype=torch.long, device=DEVICE)
    position = torch.full((1, rows + chunk), places // 2, dtype=torch.long, device=DEVICE)
    position[0, rows:] += torch.arange(chunk, device=DEVICE)
    each, every = torch.arange(rows, device=DEVICE), torch.arange(places, device=DEVICE)
    here = position[0, rows:].clone()
    of_chunk = (every <= here[:, None])[None, None]
    x = torch.zeros(1, rows + chunk, model.config.hidden_size, device=DEVICE, dtype=HALF)
    three = [torch.zeros(1, heads, rows + chunk, size, device=DEVICE, dtype=HALF) for _ in range(3)]
    seen = torch.zeros(1, rows + chunk, heads, size, device=DEVICE, dtype=HALF)
    turn = [one.clone() for one in model.gpt_neox.rotary_emb(x, position)]

    def piece(at: int) -> None:
        if at == 0:
            x.copy_(model.gpt_neox.embed_in(tokens))
            for place, made in zip(turn, model.gpt_neox.rotary_emb(x, position), strict=True):
                place.copy_(made)
        else:
            layer = layers[at - 1]
            x.copy_(layer.mlp(layer.post_attention_layernorm(x)) + layer.attention.dense(seen.flatten(2)) + x)
        if at == len(layers):
            said = model.get_output_embeddings()(model.gpt_neox.final_layer_norm(x[:, : rows + 1])).argmax(-1)
            tokens[:, :rows].copy_(said[:, :rows])
            position[:, :rows].add_(1).remainder_(places)
            return
        layer = layers[at]
        parts = layer.attention.query_key_value(layer.input_layernorm(x)).unflatten(-1, (heads, -1)).transpose(1, 2)
        query, key, value = parts.chunk(3, -1)
        for place, made in zip(three, (*turned_in_part(query, key, *turn), value), strict=True):
            place.copy_(made)

    def attention(at: int) -> None:
        query, key, value = (one[0].transpose(0, 1) for one in three)
        alone = (every <= position[0, :rows, None])[:, None, None]
        for store, new in zip(pool[at], (key, value), strict=True):
            store[each, :, position[0, :rows]] = new[:rows]
            store[rows].index_copy_(1, here, new[rows:].transpose(0, 1))
        keys, values = pool[at]
        attend = functional.scaled_dot_product_attention
        seen[0, :rows].copy_(attend(query[:rows, :, None], keys[:rows], values[:rows], attn_mask=alone)[:, :, 0])
        many = attend(query[None, rows:].transpose(1, 2), keys[rows:], values[rows:], attn_mask=of_chunk)
        seen[0, rows:].copy_(many[0].transpose(0, 1))

    fresh = torch.randint(0, 100, (chunk,))
    fresh = fresh.pin_memory() if CUDA else fresh
    return piece_by_piece(
        [partial(torch.no_grad()(piece), at) for at in range(len(layers) + 1)],
        [partial(torch.no_grad()(attention), at) for at in range(len(layers))],
        lambda: tokens[0, rows:].copy_(fresh, non_blocking=True),
        tokens[0, :rows].tolist,
    )
