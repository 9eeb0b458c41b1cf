"""Image features by the model's own vision tower and projector, captured once for each shape of images.

What a tower computes from sizes alone (positions, windows, how a position table is stretched) is computed beforehand,
on the host. What then still can't be captured runs as the model runs it, and the reason is kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface

from laptime.decoder.aligned_weights import Aligned
from laptime.errors import LaptimeError
from laptime.models.anatomy import find_anatomy

try:
    from transformers import vision_utils
except ImportError:  # an older transformers: its towers take nothing beforehand, so they run as they are
    vision_utils = None

SEGMENTS = "laptime_flash_segments"
"""The attention of towers that pack all images into one row. "flash" in the name: transformers then passes lengths."""
SIZES = ("image_grid_thw", "image_sizes", "batch_num_images")
"""Inputs that say how large images are: small, read on the host, part of a graph's key."""
PIXELS = ("pixel_values", "pixel_attention_mask")


@dataclass(frozen=True, eq=False)
class Features:
    """Image features, one row each, (F, hidden), and those that are added behind early blocks, (levels, F, hidden)."""

    first: torch.Tensor
    deep: torch.Tensor | None

    @property
    def nbytes(self) -> int:
        """Bytes of both."""
        return self.first.nbytes + (0 if self.deep is None else self.deep.nbytes)


class Tower:
    """A model's own way from pixels to features, for one shape of images: static pixels in, the same features out.

    core: the module with get_image_features. pixels: buffers that stay where they are. aligned: weights to put in.
    """

    def __init__(self, core: Any, given: Mapping[str, Any], dtype: torch.dtype, aligned: Aligned | None = None) -> None:
        self._core, self._aligned = core, aligned
        self.pixels = {name: _buffer(given[name], dtype) for name in PIXELS if given.get(name) is not None}
        sizes = {name: given[name].cpu() for name in SIZES if given.get(name) is not None}
        device = next(iter(self.pixels.values())).device
        self._constants = _Constants()
        self._beforehand = {**sizes, **_known_of_grid(core, sizes.get("image_grid_thw"), device)}

    def load(self, given: Mapping[str, Any]) -> None:
        """Copy a call's pixels into the buffers."""
        for name, buffer in self.pixels.items():
            buffer.copy_(given[name], non_blocking=True)

    def __call__(self) -> Features:
        """The features of the pixels in the buffers."""
        with _segments(self._core), self._constants, self._aligned.put_in() if self._aligned else nullcontext():
            out = self._core.get_image_features(**self.pixels, **self._beforehand, return_dict=True)
        found = out.pooler_output
        first = found if isinstance(found, torch.Tensor) else torch.cat(list(found), dim=0)
        deep = getattr(out, "deepstack_features", None)
        return Features(first.reshape(-1, first.shape[-1]), torch.stack(list(deep)) if deep else None)


class _Constants(TorchFunctionMode):
    """Inside, a tensor made of Python numbers is made once. A capture can't copy it to the device again.

    In a captured part such numbers are constant anyway: reading one from the device would end the capture.
    """

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[str, torch.Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not torch.tensor or any(isinstance(value, torch.Tensor) for value in (*args, *kwargs.values())):
            return func(*args, **kwargs)
        key = repr((args, sorted(kwargs.items(), key=str)))
        if key not in self._made:
            self._made[key] = func(*args, **kwargs)
        return self._made[key]


def images_of(model: Any) -> tuple[Any, int] | None:
    """The module whose get_image_features makes this model's features, and the id that stands for one; else None."""
    core = getattr(model, "model", model)
    token = getattr(model.config, "image_token_id", None)
    if token is None or not callable(getattr(core, "get_image_features", None)):
        return None
    return core, int(token)


def seeing_modules(core: Any) -> dict[str, Any]:
    """The modules between pixels and features by their paths: all of `core` but itself and its language model."""
    blocks = find_anatomy(core).layers_path
    others = {id(module) for module in core.get_submodule(blocks.rpartition(".")[0]).modules()}
    return {path: module for path, module in core.named_modules() if path and id(module) not in others}


def shape_of(core: Any, given: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a captured tower depends on: the pixels' shapes and, where the model reads them, sizes and tile grids."""
    shapes = [(name, tuple(given[name].shape)) for name in PIXELS if given.get(name) is not None]
    sizes = [(name, tuple(given[name].flatten().tolist())) for name in SIZES if given.get(name) is not None]
    grids = getattr(core.config, "image_grid_pinpoints", None)
    return (*shapes, *sizes, *([("grids", tuple(map(tuple, grids)))] if grids else []))


def levels_of(core: Any) -> int:
    """How many blocks image features are added behind."""
    return len(getattr(getattr(core, "visual", None), "deepstack_visual_indexes", ()))


REMEMBERED = 16
"""The number of newest prompts whose positions are remembered."""


class RopePlaces:
    """The model's own rope positions of prompts with images. Those of the newest prompts are remembered."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Any, ...], torch.Tensor] = OrderedDict()

    def of(
        self, core: Any, given: Mapping[str, Any]
    ) -> Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor] | None:
        """The positions, (3, B, S), as a function of ids and mask on the host; None where the model has none.

        Raises LaptimeError where the processor's mm_token_type_ids are missing, or don't fit the prompt and its images.
        """
        if given.get("image_grid_thw") is None or not hasattr(core, "get_rope_index"):
            return None
        kinds = given.get("mm_token_type_ids")
        if kinds is None:
            raise LaptimeError(
                "mm_token_type_ids is missing: without it the positions of the image's tokens are not known"
            )
        grid, kinds = given["image_grid_thw"].cpu(), kinds.cpu()

        def places(ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
            masked = b"" if mask is None else mask.numpy().tobytes()
            key = (tuple(ids.shape), kinds.numpy().tobytes(), grid.numpy().tobytes(), masked)
            if key not in self._known:
                try:
                    self._known[key] = core.get_rope_index(ids, kinds, image_grid_thw=grid, attention_mask=mask)[0]
                except (RuntimeError, ValueError, IndexError, StopIteration) as error:
                    raise LaptimeError(
                        f"the prompt, mm_token_type_ids and image_grid_thw ({len(grid)} images) don't belong together; "
                        "make them with one processor"
                    ) from error
                if len(self._known) > REMEMBERED:
                    self._known.popitem(last=False)
            return self._known[key]

        return places


@contextmanager
def compiled_blocks(core: Any) -> Iterator[None]:
    """Inside, the tower's blocks are compiled by Inductor: one function for all blocks of a kind."""
    changed = [block for blocks in _block_lists(core) for block in blocks]
    for block in changed:
        block.forward = torch.compile(block.forward, dynamic=False)
    try:
        yield
    finally:
        for block in changed:
            del block.forward


def is_packed(model: Any) -> bool:
    """Whether the model's tower packs images of any size into one row."""
    return hasattr(getattr(model, "model", model), "visual")


def tower_blocks(model: Any) -> int:
    """How many blocks the model's vision tower has, as far as they are in lists of equal ones."""
    return sum(len(blocks) for blocks in _block_lists(getattr(model, "model", model)))


def _block_lists(core: Any) -> list[Any]:
    """The lists of equal blocks in the vision tower."""
    tower = find_anatomy(core).vision
    if tower is None:
        return []
    lists = [module for module in tower.modules() if isinstance(module, torch.nn.ModuleList)]
    return [
        blocks
        for blocks in lists
        if len(blocks) > 1 and len({type(block) for block in blocks}) == 1 and any(True for _ in blocks[0].children())
    ]


def _buffer(like: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty_like(like, dtype=dtype if like.is_floating_point() else like.dtype).copy_(like)


def _known_of_grid(core: Any, grid: torch.Tensor | None, device: torch.device) -> dict[str, Any]:
    """What a tower at native resolution computes from the images' grids alone. Lengths stay on the host."""
    visual = getattr(core, "visual", None)
    if grid is None or visual is None or vision_utils is None:
        return {}
    merge, config = visual.config.spatial_merge_size, visual.config
    lengths, _ = vision_utils.get_vision_attention_seqlens(grid, config)
    known: dict[str, Any] = {
        "position_ids": vision_utils.get_vision_position_ids(grid, merge).to(device),
        "cu_seqlens": lengths,
        "max_seqlen": _longest(lengths),
    }
    if hasattr(config, "fullatt_block_indexes"):
        index, windows = vision_utils.get_vision_window_index(grid, merge, config.window_size, config.patch_size)
        known |= {
            "window_index": index.to(device),
            "cu_window_seqlens": windows,
            "max_window_seqlen": _longest(windows),
        }
    if hasattr(visual, "interpolation_mode"):
        indices, weights = vision_utils.get_vision_interpolation_indices_and_weights(
            grid,
            num_grid_per_side=visual.num_grid_per_side,
            mode=visual.interpolation_mode,
            align_corners=visual.interpolation_align_corners,
            spatial_merge_size=merge,
        )
        known |= {"interp_indices": indices.to(device), "interp_weights": weights.to(device)}
    return known


def _longest(lengths: torch.Tensor) -> int:
    return int((lengths[1:] - lengths[:-1]).max())


@contextmanager
def _segments(core: Any) -> Iterator[None]:
    """Inside, a tower that packs its images attends to all segments of one length at once."""
    config = getattr(getattr(core, "visual", None), "config", None)
    if config is None or vision_utils is None:
        yield
        return
    before = config._attn_implementation
    config._attn_implementation = SEGMENTS
    try:
        yield
    finally:
        config._attn_implementation = before


@torch.compiler.disable
def _attend_in_segments(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    cu_seq_lens_q: torch.Tensor,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of (1, heads, positions, D) within segments; segments of equal length are one call.

    cu_seq_lens_q: the segments' boundaries, on the host.
    """
    ends: list[int] = cu_seq_lens_q.tolist()
    out = torch.empty_like(query)
    runs: list[tuple[int, int, int]] = []  # begin, length of a segment, number of segments
    for begin, end in pairwise(ends):
        if runs and runs[-1][1] == end - begin:
            runs[-1] = (runs[-1][0], end - begin, runs[-1][2] + 1)
        else:
            runs.append((begin, end - begin, 1))
    if len(runs) == 1:
        length, count, heads = runs[0][1], runs[0][2], query.shape[1]
        q, k, v = (part[0].unflatten(1, (count, length)).transpose(0, 1) for part in (query, key, value))
        attended = scaled_dot_product_attention(q, k, v, scale=scaling)
        return attended.transpose(1, 2).reshape(1, count * length, heads, -1), None
    for begin, length, count in runs:
        whole = slice(begin, begin + length * count)
        q, k, v = (part[0, :, whole].unflatten(1, (count, length)).transpose(0, 1) for part in (query, key, value))
        attended = scaled_dot_product_attention(q, k, v, scale=scaling)
        out[0, :, whole] = attended.transpose(0, 1).flatten(1, 2)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(SEGMENTS, _attend_in_segments)
