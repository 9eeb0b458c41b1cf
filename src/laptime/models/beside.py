"""Encoders of a user's own module, beside the transformers model that it calls.

class Eyes(nn.Module):           # generate() runs the tower, and hands its features to the language model's generate()
    vision = SiglipVisionModel
    projector = nn.Linear
    llm = LlamaForCausalLM
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from laptime.models.anatomy import Anatomy
from laptime.models.encoder_parts import is_patch_convolution
from laptime.models.encoders import Bracket, EncoderStage, looks_like_encoder
from laptime.models.module_tree import CONTAINERS, ModuleTree, holds, of_sound

_SEEING = ("vis", "image", "img", "pixel", "video")
_BETWEEN = ("proj", "connect", "merge", "align", "adapt", "former", "resampl")


def with_encoders_beside(
    anatomy: Anatomy, model: nn.Module, core: str, towers: Sequence[str], projectors: Sequence[str]
) -> Anatomy:
    """The anatomy of the model at the path `core`, and what encodes beside it in the whole model.

    towers, projectors: of images, as the user names them; else what has a patch convolution or is called so. Other
    encoders are watched and belong to no stage.
    """
    tree = ModuleTree(model)
    beside = _beside(tree, core)
    for option, paths in (("vision", towers), ("projector", projectors)):
        for path in paths:
            tree.check(path, f"--{option}-module")
    between = list(projectors) or [path for path in beside if _called(path, _BETWEEN)]
    encoders = [p for p in beside if looks_like_encoder(tree.modules[p]) and p not in between]
    hearing = [path for path in encoders if of_sound(path)]
    seeing = list(towers) or [path for path in encoders if path not in hearing and _sees(tree, path)]
    brackets = list(anatomy.encoders.brackets)
    timed = {one.stage for one in brackets} | {one.stage for one in anatomy.encoders.functions}
    found: tuple[tuple[EncoderStage, list[str], bool], ...] = (("vision", seeing, False), ("audio", hearing, True))
    for stage, paths, sound in found:
        ends = [path for path in between if of_sound(path) == sound or not (seeing and hearing)]
        if paths and stage not in timed:
            brackets.append(Bracket(stage, _modules(tree, paths), _modules(tree, [*paths, *ends])))
    known = {*seeing, *hearing}
    unassigned = {path: tree.modules[path] for path in encoders if path not in known}
    watched = replace(
        anatomy.encoders, brackets=tuple(brackets), unassigned={**anatomy.encoders.unassigned, **unassigned}
    )
    if not seeing or anatomy.vision is not None:
        return replace(anatomy, encoders=watched)
    last = between[-1] if between else seeing[0]
    return replace(
        anatomy,
        encoders=watched,
        vision=tree.modules[seeing[0]],
        vision_path=seeing[0],
        projector=tree.modules[last],
        projector_path=last,
    )


def _beside(tree: ModuleTree, core: str) -> list[str]:
    """The callable modules right below each module around the core, without the one that leads to it."""
    found: list[str] = []
    around = core
    while around:
        around = tree.callable_ancestor(around)
        found += [path for path in tree.children(around) if not holds(path, core)]
    return [path for path in found if not isinstance(tree.modules[path], CONTAINERS)]


def _sees(tree: ModuleTree, path: str) -> bool:
    return _called(path, _SEEING) or any(is_patch_convolution(module) for module in tree.modules[path].modules())


def _called(path: str, words: Sequence[str]) -> bool:
    name = path.rpartition(".")[2].lower()
    return any(word in name for word in words)


def _modules(tree: ModuleTree, paths: Sequence[str]) -> tuple[nn.Module, ...]:
    return tuple(tree.modules[path] for path in paths)
