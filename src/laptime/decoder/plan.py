"""The decode step of a language model as a frozen value: weights, norms, rope, output head, experts.

`read_plan` takes it from the model's own modules, for the decoder blocks in FAMILIES. It refuses a model when the step
here would compute something else than the model does, and names the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from laptime.decoder.imprint import Hooks
from laptime.decoder.merged_weights import joined
from laptime.errors import LaptimeError
from laptime.models.anatomy import find_anatomy

FAMILIES = {
    "LlamaDecoderLayer": "Llama",
    "MistralDecoderLayer": "Mistral",
    "Qwen2DecoderLayer": "Qwen2",
    "Qwen3DecoderLayer": "Qwen3",
    "OlmoeDecoderLayer": "OLMoE",
    "MixtralDecoderLayer": "Mixtral",
    "Qwen3MoeDecoderLayer": "Qwen3-MoE",
    "Qwen2_5_VLDecoderLayer": "Qwen2.5-VL",
    "Qwen3VLTextDecoderLayer": "Qwen3-VL",
    "Qwen3VLMoeTextDecoderLayer": "Qwen3-VL-MoE",
}
"""Decoder blocks of transformers that have a fast step, and the names of their families."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SCALED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "attn_logit_softcapping")
LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")


@dataclass(frozen=True, eq=False)
class Dense:
    """SwiGLU: down(silu(gate x) * up x). gate_up: (2 I, H), gate's rows first; down: (H, I)."""

    gate_up: torch.Tensor
    down: torch.Tensor


@dataclass(frozen=True, eq=False)
class Routed:
    """Each token goes to `gate.top_k` of E experts. router: (E, H); gate_up: (E, 2 I, H); down: (E, H, I).

    normalised: the shares of the chosen experts are scaled to sum to one.
    gate: the model's own module, so that a top-k changed between two calls takes effect.
    """

    router: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    normalised: bool
    gate: Any

    @property
    def top_k(self) -> int:
        """Experts each token is sent to, as the model says now."""
        return int(self.gate.top_k)


@dataclass(frozen=True, eq=False)
class Layer:
    """One decoder block. qkv: ((heads + 2 kv_heads) D, H), rows of q, k, v in this order; o: (H, heads D).

    q_norm and k_norm: over a head (D,) or over all heads at once; None where the block has none.
    """

    qkv: torch.Tensor
    qkv_bias: torch.Tensor | None
    o: torch.Tensor
    o_bias: torch.Tensor | None
    input_norm: torch.Tensor
    post_norm: torch.Tensor
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    mlp: Dense | Routed


@dataclass(frozen=True, eq=False)
class DecodePlan:
    """A language model's decode step. Weights are the model's own tensors, never copies.

    window: positions that a sliding-window model looks back; a sequence must fit into it. None without one.
    rotary: the model's own module, which gives the rope table. streams: 3 for Qwen's position triples, else 1.
    """

    family: str
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    scale: float
    layers: tuple[Layer, ...]
    final_norm: torch.Tensor
    embedding: torch.Tensor
    head: torch.Tensor
    window: int | None
    rotary: Any
    streams: int

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.dtype

    @property
    def device(self) -> torch.device:
        return self.embedding.device

    @property
    def top_k(self) -> tuple[int, ...]:
        """Each routed layer's top-k; part of what a captured step depends on."""
        return tuple(layer.mlp.top_k for layer in self.layers if isinstance(layer.mlp, Routed))

    def with_blocks(self, active: tuple[int, ...] | None) -> DecodePlan:
        """The plan with these blocks only, in their order; with all for None. Weights are shared."""
        return self if active is None else replace(self, layers=tuple(self.layers[number] for number in active))

    @contextmanager
    def with_top_k(self, top_k: int | tuple[int, ...] | None) -> Iterator[None]:
        """Inside, the model's gates choose this many experts; None leaves them as they are.

        top_k: one number for all blocks, or one for each block of the plan (0 for a block without experts).
        Raises LaptimeError for numbers that don't fit the blocks.
        """
        numbers = top_k if isinstance(top_k, tuple) else (top_k,) * len(self.layers)
        if len(numbers) != len(self.layers):
            raise LaptimeError(f"experts by block: {len(numbers)} numbers for {len(self.layers)} blocks; give one each")
        wanted = []
        for index, (layer, number) in enumerate(zip(self.layers, numbers, strict=True)):
            if isinstance(layer.mlp, Routed) and number is not None:
                if not 1 <= number <= layer.mlp.router.shape[0]:
                    raise LaptimeError(
                        f"block {index}: {number} experts of {layer.mlp.router.shape[0]}; use 1 to "
                        f"{layer.mlp.router.shape[0]}"
                    )
                wanted.append((layer.mlp.gate, number))
            elif isinstance(top_k, tuple) and number:
                raise LaptimeError(f"experts by block: block {index} has no experts; write 0 for it")
        gates = [gate for gate, _ in wanted]
        before = [gate.top_k for gate in gates]
        for gate, number in wanted:
            gate.top_k = number
        try:
            yield
        finally:
            for gate, own in zip(gates, before, strict=True):
                gate.top_k = own

    def weight_bytes(self, batch: int = 1) -> int:
        """Bytes of weights that one step of `batch` rows must read. Of the experts only those that are chosen count."""
        total = self.head.nbytes + self.final_norm.nbytes
        for layer in self.layers:
            total += layer.qkv.nbytes + layer.o.nbytes + layer.input_norm.nbytes + layer.post_norm.nbytes
            if isinstance(layer.mlp, Dense):
                total += layer.mlp.gate_up.nbytes + layer.mlp.down.nbytes
            else:
                experts = layer.mlp.router.shape[0]
                used = experts * (1 - (1 - layer.mlp.top_k / experts) ** batch)  # expected, for even routing
                expert_bytes = (layer.mlp.gate_up.nbytes + layer.mlp.down.nbytes) / experts
                total += layer.mlp.router.nbytes + round(used * expert_bytes)
        return total

    def cache_bytes(self, positions: int, batch: int = 1) -> int:
        """Bytes of keys and values of `positions` positions in every row."""
        return 2 * len(self.layers) * batch * self.kv_heads * positions * self.head_dim * self.embedding.itemsize


def read_plan(model: Any, *, language: str | None = None) -> DecodePlan:
    """The decode step of a transformers model. It only reads: `merged_weights.merge` joins matrices beforehand.

    Raises LaptimeError, naming the reason, for a model or a block that is not understood completely.
    """
    name = type(model).__name__
    anatomy = find_anatomy(model, language=language)
    parent = model.get_submodule(anatomy.layers_path.rpartition(".")[0])
    kinds = {type(layer).__name__ for layer in anatomy.layers}
    unknown = sorted(kinds - FAMILIES.keys())
    if unknown or any(not type(layer).__module__.startswith("transformers.") for layer in anatomy.layers):
        raise LaptimeError(
            f"{name}: decoder blocks {', '.join(unknown or sorted(kinds))} have no fast step; there is one for "
            f"{', '.join(FAMILIES.values())}"
        )
    config = getattr(parent, "config", model.config)
    _refuse_settings(name, model, config)
    _refuse_placement(name, model)
    first = anatomy.layers[0].self_attn
    head = model.get_output_embeddings()
    for what, module in (("output head", head), ("rotary embedding", getattr(parent, "rotary_emb", None))):
        if module is None:
            raise LaptimeError(f"{name}: it has no {what} of its own; no fast step can be made of it")
    layers = tuple(_read_layer(f"{name}, block {i}", layer) for i, layer in enumerate(anatomy.layers))
    eps = {
        float(norm.variance_epsilon)
        for layer in anatomy.layers
        for norm in (layer.input_layernorm, layer.post_attention_layernorm)
    } | {float(parent.norm.variance_epsilon)}
    if len(eps) != 1:
        raise LaptimeError(f"{name}: its norms have different epsilons {sorted(eps)}; no fast step can be made of it")
    return DecodePlan(
        family=FAMILIES[next(iter(kinds))],
        hidden=layers[0].o.shape[0],
        heads=layers[0].o.shape[1] // first.head_dim,
        kv_heads=layers[0].o.shape[1] // first.head_dim // first.num_key_value_groups,
        head_dim=first.head_dim,
        eps=eps.pop(),
        scale=float(first.scaling),
        layers=layers,
        final_norm=parent.norm.weight.data,
        embedding=model.get_input_embeddings().weight.data,
        head=_linear(name, "output head", head).weight.data,
        window=_window(anatomy.layers, config),
        rotary=parent.rotary_emb,
        streams=3 if hasattr(parent.rotary_emb, "mrope_section") else 1,
    )


def _refuse_settings(name: str, model: Any, config: Any) -> None:
    for key in SCALED_LOGITS:
        if getattr(config, key, None) not in (None, 1.0):
            raise LaptimeError(f"{name}: {key} = {getattr(config, key)} is not part of the fast step; use generate()")
    if getattr(config, "clip_qkv", None) is not None:
        raise LaptimeError(f"{name}: clip_qkv = {config.clip_qkv} is not part of the fast step; use generate()")
    if getattr(config, "hidden_act", "silu") not in ("silu", "swish"):
        raise LaptimeError(f"{name}: activation {config.hidden_act}; the fast step computes SwiGLU (silu) only")
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope in LENGTH_DEPENDENT_ROPE:
        raise LaptimeError(
            f"{name}: rope type {rope} changes with the length of the sequence; no table can be made of it"
        )
    if getattr(model, "is_quantized", False) or hasattr(model, "hf_quantizer"):
        raise LaptimeError(f"{name}: its weights are quantised; the fast step reads float32, bfloat16 and float16")
    if getattr(model, "training", False):
        raise LaptimeError(f"{name}: the model is in training mode; call model.eval() first")


def _refuse_placement(name: str, model: Any) -> None:
    devices = {parameter.device for parameter in model.parameters()}
    if len(devices) != 1 or next(iter(devices)).type == "meta":
        raise LaptimeError(
            f"{name}: its weights are on {', '.join(sorted(map(str, devices)))}; all must be on one device"
        )


def _read_layer(name: str, layer: Any) -> Layer:
    attention = layer.self_attn
    if (path := Hooks(dict(layer.named_modules())).first()) is not None:
        raise LaptimeError(f"{name}: {path or 'the block'} has a forward hook, which a fast step would pass by")
    qkv = [_linear(name, key, getattr(attention, key)) for key in ("q_proj", "k_proj", "v_proj")]
    o = _linear(name, "o_proj", attention.o_proj)
    biases = [linear.bias for linear in qkv]
    if any(bias is None for bias in biases) and any(bias is not None for bias in biases):
        raise LaptimeError(f"{name}: only some of q, k and v have a bias; no fast step can be made of it")
    q_norm, k_norm = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
    return Layer(
        qkv=joined([linear.weight for linear in qkv]),
        qkv_bias=None if biases[0] is None else joined(biases),
        o=o.weight.data,
        o_bias=None if o.bias is None else o.bias.data,
        input_norm=layer.input_layernorm.weight.data,
        post_norm=layer.post_attention_layernorm.weight.data,
        q_norm=None if q_norm is None else q_norm.weight.data,
        k_norm=None if k_norm is None else k_norm.weight.data,
        mlp=_read_mlp(name, layer.mlp),
    )


def _read_mlp(name: str, mlp: Any) -> Dense | Routed:
    if hasattr(mlp, "experts"):
        experts, gate = mlp.experts, mlp.gate
        if not isinstance(getattr(experts, "gate_up_proj", None), nn.Parameter) or not hasattr(gate, "top_k"):
            raise LaptimeError(f"{name}: experts of a kind that the fast step doesn't know ({type(experts).__name__})")
        return Routed(
            router=gate.weight.data,
            gate_up=experts.gate_up_proj.data,
            down=experts.down_proj.data,
            normalised=bool(getattr(gate, "norm_topk_prob", True)),
            gate=gate,
        )
    gate, up, down = (_linear(name, key, getattr(mlp, key)) for key in ("gate_proj", "up_proj", "down_proj"))
    if any(linear.bias is not None for linear in (gate, up, down)):
        raise LaptimeError(f"{name}: biases in the MLP are not part of the fast step; use generate()")
    return Dense(gate_up=joined([gate.weight, up.weight]), down=down.weight.data)


def _linear(name: str, what: str, module: Any) -> Any:
    if hasattr(module, "base_layer"):
        raise LaptimeError(f"{name}: {what} has an adapter; merge it into the weights first (merge_and_unload())")
    if type(module) is not nn.Linear or module.weight.dtype not in DTYPES or not module.weight.is_contiguous():
        raise LaptimeError(
            f"{name}: {what} is {type(module).__name__} of {getattr(getattr(module, 'weight', None), 'dtype', None)}; "
            "the fast step reads plain nn.Linear weights in float32, bfloat16 or float16"
        )
    if what == "output head" and module.bias is not None:
        raise LaptimeError(f"{name}: a bias in the output head is not part of the fast step; use generate()")
    return module


def _window(layers: Any, config: Any) -> int | None:
    windows = [
        window
        for layer in layers
        if (window := getattr(layer.self_attn, "sliding_window", getattr(config, "sliding_window", None)))
    ]
    return min(windows) if windows else None
