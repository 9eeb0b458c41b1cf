"""How much work an operator's call is, from the shapes that the profiler recorded: operations and bytes.

Bytes are the least that must move: each input is read once, each output written once. A multiply-add is two operations.
T elements of output, s bytes each:

| kind | operations | bytes |
|---|---|---|
| GEMM | 2 M N K for each matrix | the two matrices, the sum's other term, the product |
| convolution | 2 N K (C / groups) R S for each place of the output, and for each gradient | input, weights, output |
| attention | 2 (D + Dv) for each pair of query and key that attends; 2.5 times that backward | q, k, v, output |
| norm | 8 T (4 T for RMS norm, 9 T backward) | input, output, parameters |
| softmax | 5 T | input, output |
| reduce | one for each element of the input | input, output |
| elementwise | T | inputs as they lie in memory, output |
| copy | 0 | source, target |

An operator that is not among these, or whose shapes don't fit, has no work: unknown, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from math import prod

import msgspec

from laptime.trace.recorded_shapes import TYPE_BYTES, RecordedCall, Tensor, recorded_call


class Work(msgspec.Struct, frozen=True):
    """One call's least work. `dtype` is what it computes in: fp64, fp32, fp16 (and bf16), fp8, int."""

    kind: str
    flop: int
    bytes: int | None
    dtype: str


_DTYPES = {"double": "fp64", "float": "fp32", "c10::BFloat16": "fp16", "c10::Half": "fp16"}

_UNARY = (
    r"abs|acos|cos|sin|tan|tanh|exp|exp2|expm1|log|log2|log10|neg|reciprocal|rsqrt|sqrt|sigmoid|relu|silu|gelu|erf|floor"
    r"|ceil|round|trunc|sign|clamp|clamp_min|clamp_max|pow|square|leaky_relu|elu|hardswish|hardtanh|softplus|triu|tril"
    r"|bitwise_not|masked_fill"
)
_BINARY = (
    r"add|sub|rsub|mul|div|maximum|minimum|fmod|remainder|atan2|bitwise_and|bitwise_or|addcmul|addcdiv|lerp|where"
    r"|(?:silu|gelu|tanh|sigmoid|threshold)_backward"
)
_THREE = re.compile(r"addcmul|addcdiv|lerp|where")
_COMPARES = re.compile(r"eq|ne|lt|le|gt|ge|logical_not|logical_and|logical_or|isnan|isinf")
_ELEMENTWISE = re.compile(rf"aten::(?P<name>{_UNARY}|{_BINARY}|{_COMPARES.pattern})_?")


@lru_cache(maxsize=65_536)
def operator_work(name: str, shape: str) -> Work | None:
    """The work of one call of an operator; None where it isn't known.

    name: `aten::mm`. shape: a JSON list of dimensions, types, values and strides, as the readers write it.
    """
    rule = _RULES.get(name)
    if rule is None and _ELEMENTWISE.fullmatch(name):
        rule = _elementwise
    if rule is None:
        return None
    try:
        return rule(recorded_call(name, shape))
    except (ValueError, IndexError, TypeError, ZeroDivisionError, OverflowError):
        return None  # shapes that such an operator does not have


def _moved(read: list[Tensor | None], written: int, type: str) -> int | None:
    """Bytes of what is read, and of `written` elements of a type; None where a type isn't known."""
    total = 0
    for tensor in read:
        if tensor is None:
            continue
        if (size := tensor.bytes) is None:
            return None
        total += size
    return None if type not in TYPE_BYTES else total + written * TYPE_BYTES[type]


def _dtype(type: str) -> str:
    return _DTYPES.get(type, "fp8" if "Float8" in type else "int")


def _product(call: RecordedCall, first: int, added: int | None = None) -> Work:
    a, b = call.tensor(first), call.tensor(first + 1)
    (m, k), (k2, n) = a.dims[-2:], b.dims[-2:]
    if k != k2 or a.dims[:-2] != b.dims[:-2]:
        raise ValueError("no product")
    out = prod(a.dims[:-2]) * m * n
    term = None if added is None else call.inputs[added]
    return Work("GEMM", 2 * out * k, _moved([a, b, term], out, a.type), _dtype(a.type))


def _mm(call: RecordedCall) -> Work:
    return _product(call, 0)


def _addmm(call: RecordedCall) -> Work:
    return _product(call, 1, 0)


def _scaled_mm(call: RecordedCall) -> Work:
    work = _product(call, 0)
    return Work(work.kind, work.flop, None, work.dtype)  # the type of its output isn't recorded


def _linear(call: RecordedCall) -> Work:
    x, w = call.tensor(0), call.tensor(1)
    if x.dims[-1] != w.dims[-1] or len(w.dims) != 2:
        raise ValueError("no product")
    out = prod(x.dims[:-1]) * w.dims[0]
    bias = call.inputs[2] if len(call.inputs) > 2 else None
    return Work("GEMM", 2 * out * w.dims[1], _moved([x, w, bias], out, x.type), _dtype(x.type))


def _pairs(queries: int, keys: int, causal: bool) -> int:
    """Pairs of query and key that attend; the last query sees all keys."""
    if not causal:
        return queries * keys
    if queries > keys:
        raise ValueError("more queries than keys")
    return queries * (keys - queries) + queries * (queries + 1) // 2


def _attention(call: RecordedCall, first: int, causal: bool, *, heads_first: bool, backward: bool = False) -> Work:
    q, k, v = (call.tensor(first + i) for i in range(3))
    if not len(q.dims) == len(k.dims) == len(v.dims) == 4:
        raise ValueError("rows of unlike length: the pairs are not known")
    head, place = (1, 2) if heads_first else (2, 1)
    pairs = q.dims[0] * q.dims[head] * _pairs(q.dims[place], k.dims[place], causal)
    flop = 2 * pairs * (q.dims[3] + v.dims[3])
    out = q.numel // q.dims[3] * v.dims[3]
    if backward:
        extra = (
            None if any(t.bytes is None for t in (q, k, v)) else _moved([q, k, v], q.numel + k.numel + v.numel, q.type)
        )
        moved = _moved([q], out, q.type)  # the gradient and the output of the forward pass
        whole = None if extra is None or moved is None else extra + moved
        return Work("attention", flop * 5 // 2, whole, _dtype(q.type))
    return Work("attention", flop, _moved([q, k, v], out, q.type), _dtype(q.type))


def _true(call: RecordedCall, place: int) -> bool:
    """A flag that was recorded by value. Raises ValueError without one: nothing is assumed."""
    text = str(call.values[place])
    if text not in ("True", "False", "0", "1", "2"):
        raise ValueError("no flag")
    return text not in ("False", "0")


def _attends(first: int, causal: int, *, heads_first: bool, backward: bool = False) -> Callable[[RecordedCall], Work]:
    return lambda call: _attention(call, first, _true(call, causal), heads_first=heads_first, backward=backward)


def _convolution(stride: int, padding: int, dilation: int, groups: int) -> Callable[[RecordedCall], Work]:
    def work(call: RecordedCall) -> Work:
        x, w = call.tensor(0), call.tensor(1)
        sizes = x.dims[2:]
        kernel, count = w.dims[2:], len(sizes)
        step, pad, spread = (call.numbers(place) for place in (stride, padding, dilation))
        if x.dims[1] != w.dims[1] * call.numbers(groups)[0] or len(kernel) != count or not count:
            raise ValueError("no convolution")
        step, pad, spread = (values * count if len(values) == 1 else values for values in (step, pad, spread))
        out = [(size + 2 * pad[i] - spread[i] * (kernel[i] - 1) - 1) // step[i] + 1 for i, size in enumerate(sizes)]
        written = x.dims[0] * w.dims[0] * prod(out)
        return Work(
            "convolution", 2 * written * w.dims[1] * prod(kernel), _moved([x, w], written, x.type), _dtype(x.type)
        )

    return work


def _convolution_backward(call: RecordedCall) -> Work:
    gradient, x, w = (call.tensor(i) for i in range(3))
    if _true(call, 7):
        raise ValueError("transposed")
    mask = re.findall(r"True|False", str(call.values[10]))
    wanted = [tensor for tensor, flag in zip((x, w), mask, strict=False) if flag == "True"]
    if not wanted:
        raise ValueError("no gradient")
    once = 2 * gradient.numel * w.dims[1] * prod(w.dims[2:])
    moved = _moved([gradient, x, w], sum(tensor.numel for tensor in wanted), x.type)
    return Work("convolution", once * len(wanted), moved, _dtype(x.type))


def _norm(each: int, *, inputs: int = 1) -> Callable[[RecordedCall], Work]:
    """A norm. inputs: how many inputs are as large as its output."""

    def work(call: RecordedCall) -> Work:
        x = call.tensor(0)
        small = [tensor for tensor in call.inputs[inputs:] if tensor is not None and tensor.numel < x.numel]
        moved = _moved([*(call.tensor(i) for i in range(inputs)), *small], x.numel, x.type)
        return Work("norm", each * x.numel, moved, _dtype(x.type))

    return work


def _softmax(call: RecordedCall) -> Work:
    x = call.tensor(0)
    return Work("softmax", 5 * x.numel, _moved([x], x.numel, x.type), _dtype(x.type))


def _reduce(call: RecordedCall) -> Work:
    x = call.tensor(0)
    return Work("reduce", x.numel, _moved([x], 0, x.type), _dtype(x.type))


def _copy(call: RecordedCall) -> Work:
    target, source = call.tensor(0), call.tensor(1)
    if target.numel != _broadcast([target, source]):
        raise ValueError("no copy")
    return Work("copy", 0, _moved([source], target.numel, target.type), _dtype(target.type))


def _fill(call: RecordedCall) -> Work:
    target = call.tensor(0)
    return Work("copy", 0, _moved([], target.numel, target.type), _dtype(target.type))


def _broadcast(tensors: list[Tensor]) -> int:
    """How many elements inputs have together. Raises ValueError where they don't fit."""
    out: list[int] = []
    for tensor in tensors:
        dims = list(tensor.dims)
        longest = max(len(out), len(dims))
        out, dims = [1] * (longest - len(out)) + out, [1] * (longest - len(dims)) + dims
        if any(1 not in (a, b) and a != b for a, b in zip(out, dims, strict=True)):
            raise ValueError("shapes don't fit")
        out = [b if a == 1 else a for a, b in zip(out, dims, strict=True)]
    return prod(out)


_RANK = ("c10::BFloat16", "c10::Half", "float", "double")


def _elementwise(call: RecordedCall) -> Work:
    plain = _ELEMENTWISE.fullmatch(call.name)
    if plain is None:
        raise ValueError("not elementwise")
    count = 1 if re.fullmatch(_UNARY, plain["name"]) else 3 if _THREE.fullmatch(plain["name"]) else 2
    # An `out=` tensor is among the inputs too: it is written, not read.
    tensors = [tensor for tensor in call.inputs if tensor is not None][:count]
    large = [tensor for tensor in tensors if tensor.dims] or tensors
    if not large:
        raise ValueError("no tensor")
    written = _broadcast(tensors)
    floats = [tensor.type for tensor in large if tensor.type in _RANK]
    out = max(floats, key=_RANK.index) if floats else large[0].type
    if call.name.endswith("_") and call.inputs[0] is not None:
        out = call.inputs[0].type
    elif _COMPARES.fullmatch(plain["name"]):
        out = "bool"
    return Work("elementwise", written, _moved([*large], written, out), _dtype(large[0].type))


_RULES: dict[str, Callable[[RecordedCall], Work]] = {
    "aten::mm": _mm,
    "aten::bmm": _mm,
    "aten::addmm": _addmm,
    "aten::baddbmm": _addmm,
    "aten::_scaled_mm": _scaled_mm,
    "aten::linear": _linear,
    "aten::_flash_attention_forward": _attends(0, 8, heads_first=False),
    "aten::_efficient_attention_forward": _attends(0, 9, heads_first=False),
    "aten::_scaled_dot_product_flash_attention": _attends(0, 4, heads_first=True),
    "aten::_scaled_dot_product_efficient_attention": _attends(0, 6, heads_first=True),
    "aten::_scaled_dot_product_cudnn_attention": _attends(0, 6, heads_first=True),
    "aten::_cudnn_attention_forward": _attends(0, 10, heads_first=True),
    "flash_attn::_flash_attn_forward": _attends(0, 5, heads_first=False),
    "aten::_flash_attention_backward": _attends(1, 11, heads_first=False, backward=True),
    "aten::cudnn_convolution": _convolution(3, 2, 4, 5),
    "aten::miopen_convolution": _convolution(4, 3, 5, 6),
    "aten::convolution_backward": _convolution_backward,
    "aten::native_layer_norm": _norm(8),
    "aten::native_group_norm": _norm(8),
    "aten::native_batch_norm": _norm(8),
    "aten::cudnn_batch_norm": _norm(8),
    "aten::miopen_batch_norm": _norm(8),
    "aten::rms_norm": _norm(4),
    "aten::_fused_rms_norm": _norm(4),
    "aten::native_layer_norm_backward": _norm(9, inputs=2),
    "aten::native_batch_norm_backward": _norm(9, inputs=2),
    "aten::_softmax": _softmax,
    "aten::_log_softmax": _softmax,
    "aten::sum": _reduce,
    "aten::mean": _reduce,
    "aten::copy_": _copy,
    "aten::fill_": _fill,
    "aten::zero_": _fill,
}
