"""A seventh set of programs with a remedy each, written by one who had not read the what-if's code.

Mostly code of published libraries (transformers, timm, torchvision, torch_geometric) with random weights, in loops as
their users write them. A program whose library is absent is left out: `whatif_truth.py --set seventh`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForMaskedLM, T5EncoderModel
from whatif_models import CUDA, DEVICE, HALF, SMALL, Step
from whatif_seventh_fed import grids, masked_words, neighbours, satellite, species, spectra
from whatif_seventh_nets import Joined, Latents, flowing, library
from whatif_seventh_served import asking, chat, choices, mixed, paged
from whatif_third import Made, compiled, graphed, kept
from whatif_workloads import Workload, captured


def latents() -> Made:
    """A guided step of a latent diffusion net with attention to words, by Euler, from noise level to noise level."""
    side, widths, words = (48, (128, 256, 512), 77) if not SMALL else (8, (16, 32, 64), 4)
    model = Latents(widths, 768 if not SMALL else 16).to(DEVICE, HALF)
    latent = torch.randn(1, 4, side, side, device=DEVICE, dtype=HALF)
    prompt = torch.randn(2, words, 768 if not SMALL else 16, device=DEVICE, dtype=HALF)
    levels, at = torch.linspace(14, 0.03, 31, device=DEVICE), torch.zeros(1, dtype=torch.long, device=DEVICE)

    def denoise() -> None:
        with torch.no_grad():
            level, following = levels[at], levels[at + 1]
            given = (latent / (level.square() + 1).sqrt().to(HALF)).repeat(2, 1, 1, 1)
            without, with_words = model(given, (level.log() * 250).repeat(2), prompt).chunk(2)
            guided = without + 7.5 * (with_words - without)
            latent.add_(guided * (following - level).to(HALF) / 30).clamp_(-50, 50)
            at.add_(1).remainder_(30)

    return graphed(denoise)


def burning() -> Made:
    """A net is trained to obey Burgers' equation, its derivatives by autograd; NAdam goes weight by weight."""
    width, count = (64, 4096) if not SMALL else (8, 16)
    parts = [part for _ in range(6) for part in (nn.Linear(width, width), nn.Tanh())]
    net = nn.Sequential(nn.Linear(2, width), nn.Tanh(), *parts, nn.Linear(width, 1)).to(DEVICE)
    optimizer = torch.optim.NAdam(net.parameters(), 1e-3, foreach=False, capturable=CUDA)
    place, time = (torch.rand(count, 1, device=DEVICE, requires_grad=True) for _ in range(2))
    start = torch.cat(
        (torch.linspace(-1, 1, count // 8, device=DEVICE)[:, None], torch.zeros(count // 8, 1, device=DEVICE)), 1
    )
    wanted = -torch.sin(math.pi * start[:, :1])

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        made = net(torch.cat((place, time), 1))
        ones = torch.ones_like(made)
        by_place, by_time = torch.autograd.grad(made, (place, time), ones, create_graph=True)
        twice = torch.autograd.grad(by_place, place, ones, create_graph=True)[0]
        left = by_time + made * by_place - 0.01 / math.pi * twice
        loss = left.square().mean() + functional.mse_loss(net(start), wanted)
        loss.backward(inputs=list(net.parameters()))
        optimizer.step()

    return graphed(train)


def fluid() -> Made:
    """A fluid flows around a disc, sixteen moments a step, operator by operator."""
    rows, columns, moments = (160, 480, 16) if not SMALL else (8, 16, 2)
    forward = flowing(rows, columns, moments)
    state = torch.ones(9, rows, columns, device=DEVICE) / 9 + 0.01 * torch.rand(9, rows, columns, device=DEVICE)
    state[1] += 0.02
    return graphed(lambda: state.copy_(forward(state)))


def citations() -> Made:
    """A deep net of a graph by torch_geometric, 14 layers that weigh neighbours by softmax."""
    geometric = library("torch_geometric.nn")
    nodes, edges, width = (3000, 24_000, 64) if not SMALL else (20, 60, 8)
    layers = nn.ModuleList(
        geometric.DeepGCNLayer(
            geometric.GENConv(width, width, aggr="softmax", t=1.0, learn_t=True, num_layers=2, norm="layer"),
            nn.LayerNorm(width),
            nn.ReLU(),
            block="res+",
            dropout=0.1,
        )
        for _ in range(14 if not SMALL else 2)
    )
    enter, leave = nn.Linear(128, width), nn.Linear(width, 40)
    for module in (layers, enter, leave):
        module.to(DEVICE).eval().requires_grad_(False)
    ends = torch.randint(0, nodes, (2, edges), device=DEVICE)

    def forward(x: torch.Tensor) -> torch.Tensor:
        x = layers[0].conv(enter(x), ends)
        for layer in layers[1:]:
            x = layer(x, ends)
        return leave(functional.relu(layers[0].norm(x))).log_softmax(-1)

    return graphed(kept(forward, torch.randn(nodes, 128, device=DEVICE)))


def detecting() -> Made:
    """SSDLite by torchvision sees a frame; the host decodes its boxes and drops those that overlap."""
    vision = library("torchvision")
    model = vision.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    model.to(DEVICE, HALF).eval().requires_grad_(False)
    frames = torch.randint(0, 255, (4, 3, 320, 320), dtype=torch.uint8)
    frames = frames.pin_memory() if CUDA else frames
    frame, turn = torch.zeros(1, 3, 320, 320, dtype=torch.uint8, device=DEVICE), iter(range(10**9))

    def features() -> list[torch.Tensor]:
        return list(model.backbone((frame.to(HALF) / 255 - 0.5) / 0.5).values())

    with torch.no_grad():
        sizes = [torch.zeros(1, 1, *one.shape[2:]) for one in features()]
        whole = vision.models.detection.image_list.ImageList(torch.zeros(1, 3, 320, 320), [(320, 320)])
        anchors = model.anchor_generator(whole, sizes)[0]
        places = {name: made.clone() for name, made in model.head(features()).items()}

    def see() -> None:
        with torch.no_grad():
            for name, made in model.head(features()).items():
                places[name].copy_(made)

    def step(run: Step) -> None:
        frame.copy_(frames[next(turn) % 4][None], non_blocking=True)
        run()
        chance, kind = places["cls_logits"][0].float().cpu().softmax(-1)[:, 1:].max(-1)
        chance, best = chance.topk(200)
        boxes = model.box_coder.decode_single(places["bbox_regression"][0].float().cpu()[best], anchors[best])
        boxes = vision.ops.clip_boxes_to_image(boxes, (320, 320))
        chosen = vision.ops.batched_nms(boxes, chance, kind[best], 0.55)[:100]
        torch.cat((boxes[chosen], chance[chosen, None]), 1).numpy().tolist()

    return partial(step, see), lambda: partial(step, captured(see))


def passages() -> Made:
    """T5's encoder reads eight passages of 512 tokens, near places weighed by a table; then compiled."""
    sizes = {"d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 4, "num_heads": 12}
    if SMALL:
        sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4}
    config = AutoConfig.for_model("t5", vocab_size=1000, feed_forward_proj="gated-gelu", **sizes)
    config._attn_implementation = "eager"
    model = T5EncoderModel(config).to(DEVICE, HALF).eval().requires_grad_(False)
    rows, length = (8, 512) if not SMALL else (1, 8)
    tokens = torch.randint(2, 1000, (rows, length), device=DEVICE)
    mask = torch.zeros(rows, 1, length, length, device=DEVICE, dtype=HALF)
    mask[:, :, :, length - length // 8 :] = torch.finfo(HALF).min
    return compiled(lambda x: model(input_ids=x, attention_mask=mask).last_hidden_state, tokens)


def responses() -> Made:
    """ConvNeXt V2 by timm, whose blocks have two norms each, sees 64 pictures; then compiled."""
    model = library("timm").create_model("convnextv2_nano" if not SMALL else "convnextv2_atto", pretrained=False)
    model.to(DEVICE, HALF).eval().requires_grad_(False)
    count, side = (64, 224) if not SMALL else (1, 64)
    return compiled(model, torch.randn(count, 3, side, side, device=DEVICE, dtype=HALF))


def masked() -> Made:
    """RoBERTa, its attention in single operators and with dropout, is trained on 32 rows of 256; then compiled."""
    rows, length, words = (32, 256, 8000) if not SMALL else (2, 8, 100)
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 3}
    if SMALL:
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1}
    config = AutoConfig.for_model(
        "roberta", vocab_size=words, max_position_embeddings=length + 8, pad_token_id=1, **sizes
    )
    config._attn_implementation = "eager"
    model = AutoModelForMaskedLM.from_config(config).to(DEVICE).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    tokens = torch.randint(4, words, (rows, length), device=DEVICE)
    labels = torch.where(torch.rand(rows, length, device=DEVICE) < 0.15, tokens, -100)
    mask = torch.zeros(rows, 1, length, length, device=DEVICE)

    def train(run: Any) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = run(input_ids=tokens, attention_mask=mask, labels=labels).loss
        loss.backward()
        optimizer.step()

    return partial(train, model), lambda: partial(train, torch.compile(model) if CUDA else model)


def joined() -> Made:
    """Four blocks of a diffusion transformer, in which 2,048 places and 128 words attend together; then compiled."""
    width, heads, pixels, words = (1536, 24, 2048, 128) if not SMALL else (32, 4, 8, 4)
    blocks = nn.ModuleList(Joined(width, heads) for _ in range(4 if not SMALL else 1))
    blocks.to(DEVICE, HALF).requires_grad_(False)

    def forward(picture: torch.Tensor, prompt: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
        both = [picture, prompt]
        for block in blocks:
            both = block(both, moment)
        return both[0]

    shapes = ((2, pixels, width), (2, words, width), (2, width))
    return compiled(forward, *(torch.randn(*shape, device=DEVICE, dtype=HALF) for shape in shapes))


WORKLOADS: dict[str, Workload] = {
    "chat": Workload(chat, "graph", "Qwen3 writes into a cache of fixed size"),
    "choices": Workload(choices, "graph", "Granite reads four answers behind a kept prompt"),
    "asking": Workload(asking, "graph", "a photo by Pillow and numpy, SigLIP and Qwen2"),
    "paged": Workload(paged, "graph", "Mistral over pages, pieces captured; then one graph"),
    "mixed": Workload(mixed, "graph", "GPT-NeoX, answers and a prompt's piece, pieces captured; then one graph"),
    "latents": Workload(latents, "graph", "a latent diffusion net that attends to words, a guided step"),
    "burning": Workload(burning, "graph", "a net trained to obey an equation, NAdam weight by weight"),
    "fluid": Workload(fluid, "graph", "a fluid on a lattice, 16 moments"),
    "citations": Workload(citations, "graph", "14 layers over a graph of 3,000 nodes"),
    "detecting": Workload(detecting, "graph", "SSDLite, boxes decoded by the host"),
    "species": Workload(species, "workers", "ResNet trained on photos changed by torchvision; then 6 workers"),
    "spectra": Workload(spectra, "workers", "GIN trained on graphs whose eigenvectors scipy finds; then 4 workers"),
    "masked-words": Workload(masked_words, "workers", "DistilBERT trained, texts tokenised and masked; then 8 workers"),
    "satellite": Workload(satellite, "overlap", "DenseNet, pictures from pageable memory; then timm's prefetching"),
    "neighbours": Workload(neighbours, "overlap", "GraphSAGE, graphs from pageable memory; then prefetched"),
    "grids": Workload(grids, "overlap", "DeepLab trained on grids from pageable memory; then a step ahead"),
    "passages": Workload(passages, "compile", "T5's encoder, 8 passages of 512 tokens"),
    "responses": Workload(responses, "compile", "ConvNeXt V2, 64 pictures"),
    "masked": Workload(masked, "compile", "RoBERTa trained with dropout, 32 rows of 256 tokens"),
    "joined": Workload(joined, "compile", "four blocks of a diffusion transformer"),
}
