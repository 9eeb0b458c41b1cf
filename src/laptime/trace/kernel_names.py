"""Kernel names that a person can read: templates and mangling folded, and the family each kernel belongs to."""

from __future__ import annotations

import re
from functools import cache, lru_cache

COLLECTIVE = "collective"

FAMILIES: tuple[str, ...] = (
    "GEMM",
    "GEMV",
    "attention",
    "norm",
    "moe",
    "elementwise",
    "rope",
    "copy",
    "gather",
    "reduce",
    "softmax",
    "sort",
    "convolution",
    "pooling",
    "resize",
    "fft",
    COLLECTIVE,
    "random",
    "graph",
    "other",
)

_LIMIT = 64
_LOOKED_AT = 4_000
"""Characters of a name that are read: longer ones repeat their template arguments."""

_COLLECTIVE_WITHIN = re.compile(r"All(?:[Rr]educe|[Gg]ather|To_?[Aa]ll)")
"""Where one word ends and `AllReduce` begins only capitals tell."""

# In this order: the first pattern in a name, in small letters, decides. Ignoring case would take twice as long.
# They stay text until they are asked for: start-up counts.
_FAMILY_PATTERNS: tuple[tuple[str, str], ...] = (
    (
        COLLECTIVE,
        r"nccl|rccl|msccl|one_?ccl|(?<![a-z])all[-_]?(?:reduce|gather|to_?all)|reduce_?scatter"
        r"|(?<![a-z0-9])a2a(?![a-z])"
        r"|cross_device|send_?recv|nvshmem|rocshmem|multimem|quick_?reduce|user_?buffers"
        # How ranks signal each other through memory that all of them see.
        r"|symm_mem|symmetric_memory|(?<![a-z])put_signal_kernel|(?<![a-z])wait_signal_kernel"
        # Tokens sent to the experts of other ranks and back: DeepEP and its relatives.
        r"|deep_?ep::(?!(?:\w+::)*\w*layout)|int(?:er|ra)_?node(?:_ll)?::(?!(?:\w+::)*\w*layout)"
        r"|(?<![a-z])ep_?(?:dispatch|combine)",
    ),
    ("copy", r"reshape_and_cache|concat_and_cache|append_?paged_?kv|nchw_?to_?nhwc|nhwc_?to_?nchw|nchw2|2nchw"),
    ("moe", r"moe(?![a-z])|moesort|fused_moe|moe_|expert|topk_?gating|_routing_"),
    (
        "attention",
        r"flash(?!infer::)|fmha|attention|attn|sdpa|(?<![a-z])mha|paged|(?:prefill|decode)_?with_?(?:paged|ragged)?_?kv"
        r"|merge_?states?(?:kernel|(?![a-z]))|(?<![a-z])xqa|mqa_logits|(?<![a-z])mla_|decode_?softmax_?reducev|(?<![a-z])sage_|fwd_(?:grouped_)?kernel_stage\d"
        # Layers that mix tokens without attention's square: state spaces and the delta rule.
        r"|delta_rule|selective_(?:scan|state)|chunk_(?:scan|state)_|(?<![a-z])wkv",
    ),
    ("GEMV", r"gemv|dot_kernel|gemvx|mul_mat_vec|mat(?:rix)?_?vec(?:tor)?_?(?:mul|prod)"),
    ("rope", r"(?<![a-z_])rope_(?:norm|neox)(?![a-z_])"),
    (
        "norm",
        r"rms_?norm|layer_?norm|group_?norm|batch_?norm|bn_fw|bn_bw|norm_kernel|add_?norm|(?<![a-z])norm"
        r"|gamma_?beta|instance_?norm|rowwise_?moments|compute_?(?:internal_?gradients|(?:backward_?)?fused_?params)",
    ),
    (
        "convolution",
        r"convol|scudnn|conv[123]d|conv_|_conv(?!ert)|depthwise|winograd|implicit_con|dgrad|wgrad|fprop|im2d?2?col|col2im"
        r"|(?<![a-z])igemm|bwd_weight|bwd_data|cask_cudnn|miopen.*conv|flip_filter",
    ),
    ("fft", r"fft(?![a-z])|fft\dd|dft_"),
    (
        "pooling",
        r"max_?pool|avg_?pool|average_?pool|pooling_(?:fw|bw|forward|backward)|pool2d|pool3d|adaptive_\w*pool",
    ),
    ("resize", r"upsample|interpol|grid_sampl|resize|(?<![a-z])affine_grid|roi_align"),
    (
        "GEMM",
        r"gemm|nvjet|cutlass|cublas|cijk_|matmul|matri(?:x|ces)_?mul|mul(?:t|tiply)?_?matri(?:x|ces)|(?<![a-z])mat_mul|xmma|_mm_|splitkreduce|triton_tem|(?<!sub)tensorop|mlp"
        r"|mul_mat_|lora_(?:shrink|expand)|(?<![a-z])spmm|csrmm|linear(?!ize)|wvsplitk|llmm|marlin|epilogue::|(?<![a-z])bmm_|myl_fc(?![a-z])",
    ),
    ("softmax", r"soft_?max"),
    ("sort", r"sort|radix|top_?k|bitonic"),
    ("rope", r"rope|rotary"),
    ("random", r"philox|distribution_|random|dropout|curand|rand_state"),
    (
        "gather",
        r"index_?select|embedding|(?<![a-z])get_rows|k_get_rows|compute_grad_weight|gather|scatter|index_elementwise|index_put|indexing|indexfunc|take_|indices"
        r"|linearize_index|offsets_range|bounds_check|nonzero|masked_select|permute_2d|permute_pooled|bucketize"
        r"|token_ids|to_dense|compute_cuda_kernel",
    ),
    (
        "copy",
        r"copy|(?<![a-z])cpy_|catarray|concat|transpose|memcpy|permute|kv_?cache|contiguous|pad_|dynamic_(?:update_)?slice|(?<![a-z])slice|myl_resh",
    ),
    (
        "reduce",
        r"reduce|reduction|argmax|argmin|scan|sum_|mean_|criterion|_loss|cross_?entropy|var_core|qparam|lpnorm",
    ),
    (
        "elementwise",
        r"elementwise|pointwise|functor|act_and_mul|silu|gelu|swiglu|relu|fill|"
        # Not simulate, accumulate, formula, loadData; and what is multiplied its name alone doesn't say.
        r"add(?!ata|ed|ing|ress)|(?<!si)(?<!sti)(?<!cu)(?<!for)mul(?!t)|(?:vec(?:tor)?|cupy)_?mult|mult\w*fusion"
        r"|cast|quant|scale"
        r"|foreach|multi_tensor|(?<![a-z])cvt_|sigmoid|pow|arange|subtensorop|divide|subtract|absolute|sqrt|_transform"
        r"|transform_config|triu|tril|clamp|to_float|(?<![a-z])scal_|compute_position"
        r"|loop_\w*fusion|(?<![a-z_])fusion_?\d|wrapped_|bias_residual",
    ),
)

_FIRST_PATTERN = dict(_FAMILY_PATTERNS)[COLLECTIVE]

# What an operator of at::native is called inside its functor.
_OPERATION = (
    r"CUDAFunctor(?:OnSelf|OnOther)?_(?P<a>[a-z]+)"
    r"|(?<![A-Za-z0-9_])(?P<b>[A-Z][A-Za-z0-9]*?)(?:Ops|Functor)(?![A-Za-z0-9_])"
    r"|(?<![A-Za-z0-9_])(?P<c>[a-z][a-z0-9_]*?)_(?:tensor_scalar_kernel_impl|kernel_cuda|kernel_impl|cuda_out|functor|kernel)"
    r"(?![A-Za-z0-9])"
)
_WRAPPERS = frozenset(
    {"Unary", "Binary", "AUnary", "BUnary", "Reduce", "gpu", "legacy_elementwise", "elementwise", "reduce"}
)
_AT_SHAPES = ("vectorized_elementwise", "unrolled_elementwise", "elementwise", "reduce", "index_elementwise")
_GENERIC = frozenset({"Kernel", "Kernel2", "device_kernel", "kernel", "Kernel1", "_kernel_agent", "run_kernel"})
_CK_ENTRIES = frozenset({"kentry", "kentry_pt"})
_ROCPRIM = re.compile(r"(?<!\w)(?!default)(?:wrapped_)?(\w+?)_(?:impl|config_selector|config)(?!\w)")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_LITERAL = re.compile(r"L[a-z]n?\d+E")
_DIGITS = re.compile(r"\d+")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BRACKETS = re.compile(r"([<({>)}])")


@lru_cache(maxsize=65_536)
def short_name(name: str) -> str:
    """At most 64 characters that tell the kernel from others: `elementwise mul`, `rms_norm`, `nvjet 64x8_64x16`."""
    text = _flat_mangled(name[:_LOOKED_AT]) if name.startswith("_Z") else name[:_LOOKED_AT]
    return _shorten(_readable(text.strip()) or name.strip() or "?")


_INDUCTOR = re.compile(r"triton_(?P<kind>poi|red|per|tem|for|mm)_fused_(?P<operators>\w*?)_*\d*$")
_ONLY_MOVES = (
    r"(?:_?to_copy|cat|clone|copy|view|permute|transpose|constant_pad_nd|stack|slice|split|squeeze|unsqueeze|expand"
    r"|as_strided|select|t|unsafe|with|sizes|_|\d)+"
)
_FUSED: tuple[tuple[str, str], ...] = (
    ("norm", r"norm|mean.*rsqrt|rsqrt.*mean"),
    ("softmax", r"soft_?max|logsumexp"),
)


def _inductor(kind: str, operators: str) -> str:
    """A kernel that Inductor fused. Its name lists what it stands next to as well, so its kind counts first."""
    if kind in ("tem", "mm"):
        return "attention" if "attention" in operators else "convolution" if "convolution" in operators else "GEMM"
    if kind in ("red", "per"):
        return next((family for family, pattern in _FUSED if re.search(pattern, operators)), "reduce")
    if re.fullmatch(_ONLY_MOVES, operators):
        return "copy"
    return "gather" if re.match(r"(?:embedding|index|gather)", operators) else "elementwise"


_COMPILED = (
    r"(?i)triton_(?:poi|red|per|tem|for|mm)_|(?:wrapped|loop|input)_\w*fusion|fusion_?\d|__?myl_"
    r"|generatedNativePointwise"
)


def compiled(name: str) -> bool:
    """Whether a compiler made this kernel, and chose what it merges: Inductor, XLA or TensorRT."""
    return re.match(_COMPILED, name) is not None


@lru_cache(maxsize=65_536)
def family(name: str) -> str:
    """One of FAMILIES."""
    fused = _INDUCTOR.match(name)
    if fused is not None:
        return _inductor(fused["kind"], fused["operators"])
    base, inner = _parts(name)
    if base in _ENTRIES and _compiled(_ATTENTION).search(inner.split(None, 1)[0].lower() if inner.strip() else ""):
        return "attention"
    for part in (base, inner):  # what the kernel is called counts before what it is called with
        if _COLLECTIVE_WITHIN.search(part):
            return COLLECTIVE
        small = part.lower()
        for kind, pattern in _FAMILY_PATTERNS:
            if _compiled(pattern).search(small) and not (
                part is base and kind == "elementwise" and _native_copy(inner)
            ):
                return "convolution" if kind == "GEMM" and part is base and re.search(_CONVOLVES, inner) else kind
    return "other"


@lru_cache(maxsize=65_536)
def communicates(name: str) -> bool:
    """Whether a kernel is of the family "collective". Of others most names are told without all families' patterns."""
    return any(map(_may_communicate, _parts(name))) and family(name) == COLLECTIVE


def _may_communicate(part: str) -> bool:
    return _COLLECTIVE_WITHIN.search(part) is not None or _compiled(_FIRST_PATTERN).search(part.lower()) is not None


_BEHIND = re.compile(r"\(\?<!([^()]*)\)([a-z])(?![?*+{])")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """A pattern in which what must not stand before a letter is asked behind it: re looks for letters at once, and
    would ask the other at each place. That takes half of the time."""
    return re.compile(_BEHIND.sub(r"\2(?<!\1\2)", pattern))


def _parts(name: str) -> tuple[str, str]:
    """What a kernel is called, and what it is called with."""
    base, inner = _split(_flat_mangled(name[:_LOOKED_AT]) if name.startswith("_Z") else name[:_LOOKED_AT])
    return base.removeprefix("fbgemm_gpu::"), inner


_ENTRIES = frozenset({"cutlass::device_kernel", "cutlass::Kernel", "cutlass::Kernel2"})
"""CUTLASS's entry points: what they run is the first of their template's arguments."""

_ATTENTION = dict(_FAMILY_PATTERNS)["attention"]

_CONVOLVES = r"dgrad|wgrad|fprop|ImplicitGemmConv|conv[23]d"
"""What a GEMM template's arguments hold when it computes a convolution."""


def _native_copy(inner: str) -> bool:
    """Whether an elementwise kernel of at::native only copies."""
    return "copy_kernel" in inner


def _readable(text: str) -> str:
    base, inner = _split(text)
    last = base.rsplit("::", 1)[-1].strip() or base
    if last.startswith(("nvjet_", "cutlass_", "sm80_", "sm90_", "sm100_", "ampere_", "turing_", "volta_")):
        return _tile(last)
    if last.startswith("Cijk_"):
        tile = re.search(r"MT\d+x\d+x\d+", last)
        return f"Tensile GEMM {tile.group()}" if tile else "Tensile GEMM"
    if last in _CK_ENTRIES and (named := re.search(r"(?<![A-Za-z0-9_])[A-Z][A-Za-z0-9_]{7,}", inner)):
        return named.group().removesuffix("Kernel")
    if last == "trampoline_kernel" and (named := _ROCPRIM.search(inner)):
        return f"rocprim {named[1]}"
    if last in _GENERIC and "::" in base and not base.startswith("cutlass"):
        return base.rsplit("::", 2)[-2]
    if last in _GENERIC and inner:
        names = [w for w in _IDENTIFIER.findall(inner) if len(w) >= 12 and not w.startswith("Template")]
        return _tile(names[0]) if names else f"{base} {inner}"
    plain = re.sub(r"(_kernel|Kernel)(?=_|$)", "", last).strip("_") or last
    shape = plain.removesuffix("_manual_unroll").removesuffix("_with_index")
    if shape in _AT_SHAPES:
        operation = _operation(inner)
        if operation:
            form = "reduce" if shape == "reduce" else "elementwise"
            return operation if operation == "copy" else f"{form} {operation}"
    return plain


def _operation(inner: str) -> str | None:
    """`mul` of `BinaryFunctor<…, MulFunctor<float>>`: the innermost functor that isn't a wrapper."""
    for match in re.finditer(_OPERATION, inner):
        word = match.group("a") or match.group("b") or match.group("c")
        if word in _WRAPPERS or word.startswith("gpu_"):
            continue
        word = _CAMEL.sub("_", word).lower().strip("_")
        return "copy" if word.endswith("copy") else word
    return None


def _split(text: str) -> tuple[str, str]:
    """The name without template and call arguments, and the first template's arguments."""
    text = text.replace("(anonymous namespace)", "_anonymous").removeprefix("void ")
    depth = 0
    base: list[str] = []
    inner: list[str] = []
    for i, part in enumerate(_BRACKETS.split(text)):  # text and brackets in turns
        if i % 2 == 0:
            if part:
                (inner if depth else base).append(part)
        elif part in "<({":
            depth += 1
            inner.append(" ")
            if part == "(" and depth == 1 and base:
                break
        else:
            depth = max(depth - 1, 0)
            if depth:
                inner.append(" ")
    plain = "".join(base).strip()
    plain = "::".join(part for part in plain.split("::") if part and part != "_anonymous")
    return plain.rsplit(" ", 1)[-1] if "::" in plain else plain, "".join(inner)


def _flat_mangled(text: str) -> str:
    """An Itanium-mangled name as `outer::name<words of its arguments>`: length-prefixed identifiers, in order."""
    words: list[str] = []
    nested: list[str] = []
    position, limit = 2, len(text)
    in_name = True
    while position < limit:
        literal = _LITERAL.match(text, position)  # Lj2E is the number 2, not a word of length 2
        if literal is not None:
            position = literal.end()
            continue
        match = _DIGITS.match(text, position)
        if match is None:
            if text[position] == "I":
                in_name = False  # template arguments begin
            elif nested and text[position] not in "NSLtK_":
                in_name = False
            position += 1
            continue
        length = int(match.group()[:6])
        word = text[match.end() : match.end() + length]
        if not _IDENTIFIER.fullmatch(word):
            position = match.end()
            continue
        if word.startswith("_GLOBAL__N"):
            word = "_anonymous"
        (nested if in_name else words).append(word)
        position = match.end() + length
    return f"{'::'.join(nested)}<{' '.join(words)}>" if nested else text


def _tile(word: str) -> str:
    """A library's GEMM: its first word, its kind and its tile."""
    tile = re.findall(r"\d+x\d+(?:x\d+)?", word)
    head = re.split(r"_(?=\d|sm\d|tst|xmma)", word, maxsplit=1)[0]
    kind = re.search(r"[a-z0-9]*gemm[a-z0-9]*", word)
    parts = [head] + ([kind.group()] if kind and kind.group() not in head else []) + tile[:2]
    if word.startswith("nvjet") and "splitK" in word:
        parts.append("splitK")
    return " ".join(parts)


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LIMIT else text[: _LIMIT - 1] + "…"
