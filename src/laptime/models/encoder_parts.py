"""Where a model's towers and projectors are, and by which functions or modules their stages are seen."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from laptime.models.decoder_parts import decoder_layers
from laptime.models.encoders import Bracket, Encoders, feature_functions, looks_like_encoder
from laptime.models.module_tree import CONTAINERS, ModuleTree, holds, of_sound, output_head, parent

_PATCH_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


def listed(paths: str | Sequence[str] | None) -> list[str]:
    return [] if paths is None else [paths] if isinstance(paths, str) else list(paths)


def _is_patch_embedding(tree: ModuleTree, path: str, module: nn.Module) -> bool:
    """Images enter a network through a strided convolution over pixels, or (Molmo) a Linear that is called so.

    Patches can also be of bytes (BLT).
    """
    if isinstance(module, _PATCH_CONVOLUTIONS):
        return is_patch_convolution(module)
    return "patch_embed" in path.rpartition(".")[2] and not isinstance(module, CONTAINERS) and tree.takes_images()


def is_patch_convolution(module: nn.Module) -> bool:
    """Whether it cuts an image into patches: each pixel goes into one place."""
    return (
        isinstance(module, _PATCH_CONVOLUTIONS) and module.kernel_size == module.stride and max(module.kernel_size) > 1
    )


def vision_tower(tree: ModuleTree, embedding: str | None, language: str | None) -> str | None:
    """The largest module around the patch embedding that has no part of the language model in it."""
    head = output_head(tree)
    towers: list[str] = []
    for path, module in tree.modules.items():
        if not _is_patch_embedding(tree, path, module) or any(holds(tower, path) for tower in towers) or of_sound(path):
            continue
        tower = path
        while True:
            above = tree.callable_ancestor(tower)
            if not above or holds(above, embedding) or holds(above, head) or holds(above, language):
                break
            tower = above
        if not holds(tower, embedding):
            towers.append(tower)
    if len(towers) == 1:
        return towers[0]
    if towers and tree.makes_image_features:  # what runs in that function is vision, whichever is the largest
        return tree.largest(towers)
    if towers:
        raise tree.unknown(f"which of {', '.join(towers)} is the vision tower")
    if tree.makes_image_features:
        parts = _feature_parts(tree, embedding, head, "get_image_features")
        return tree.largest(parts) if parts else None
    if getattr(tree.config, "vision_config", None) is not None:
        named = [path for path in tree.children("") if "vision" in path and looks_like_encoder(tree.modules[path])]
        if len(named) == 1:  # patches enter it by a Linear (Kosmos-2.5)
            return named[0]
        raise tree.unknown("which module is the vision tower")
    return None


def _feature_parts(tree: ModuleTree, embedding: str | None, head: str | None, function: str) -> list[str]:
    """What lies beside the decoder layers in the model whose function makes features of images or sound."""
    layers = decoder_layers(tree, None, None)
    holders = [path for path, module in tree.modules.items() if callable(getattr(module, function, None))]
    parts = [part for path in holders[-1:] for part in tree.children(path)]
    return [
        part
        for part in parts
        if not holds(part, layers)
        and part not in (embedding, head)
        and any(True for _ in tree.modules[part].parameters())
    ]


def audio_tower(tree: ModuleTree, layers: str, embedding: str | None) -> str | None:
    """The largest module beside the decoder layers that is named for sound, or may make its features, and encodes."""
    towers = [
        path
        for path, module in tree.modules.items()
        if of_sound(path.rpartition(".")[2]) and not holds(path, layers) and looks_like_encoder(module)
    ]
    towers = [path for path in towers if not isinstance(tree.modules[path], CONTAINERS)]
    if not towers:  # VibeVoice's are called tokenizers
        towers = _feature_parts(tree, embedding, output_head(tree), "get_audio_features")
    return tree.largest(towers) if towers else None


def projector_of(tree: ModuleTree, vision: str, language: str, layers: str) -> str:
    """What lies beside the vision tower and is no part of the language model; the tower itself if nothing does."""
    around = vision
    while True:
        around = tree.callable_ancestor(around)
        if not around or holds(around, layers):
            break
    head = output_head(tree)
    width = getattr(tree.text_config, "hidden_size", None)
    beside = [
        path
        for path in tree.children(around)
        if not holds(path, vision)
        and not holds(path, layers)
        and path not in (language, head)
        and not _is_embedding_like(tree, path)
        and not of_sound(path)
        and any(width is None or width in p.shape for p in tree.modules[path].parameters())
        and not (holds(language, path) and language not in ("", around))
    ]
    if language == around:  # the tower is inside the language model (Molmo) and brings its own projector
        beside = [path for path in beside if "project" in path.rpartition(".")[2]]
    if len(beside) > 1:
        telling = [
            p for p in beside if any(word in p.rpartition(".")[2] for word in ("proj", "connect", "merge", "align"))
        ]
        if len(telling) != 1 and tree.makes_image_features:
            return vision
        if len(telling) != 1:
            raise tree.unknown(f"which of {', '.join(beside)} is the projector")
        beside = telling
    return beside[0] if beside else vision


def _is_embedding_like(tree: ModuleTree, path: str) -> bool:
    return path == tree.token_embedding() or isinstance(tree.modules[path], nn.Embedding)


def brackets_of(
    tree: ModuleTree, towers: list[str], projectors: list[str], found: dict[str, str | None], language: str
) -> list[Bracket]:
    """The encoders that are watched by their modules: those named by the user, and those without a function."""
    brackets: list[Bracket] = []
    modules = tree.modules
    entries = towers or listed(found["vision"])
    if entries:
        brackets.append(
            Bracket("vision", tuple(modules[p] for p in entries), tuple(modules[p] for p in projectors or entries))
        )
    if (audio := found["audio"]) is not None:
        beside = [p for p in tree.children(parent(audio)) if "project" in p.rpartition(".")[2]]
        beside = [p for p in beside if p not in projectors and not holds(p, language)]
        brackets.append(Bracket("audio", (modules[audio],), tuple(modules[p] for p in beside[:1] or [audio])))
    if getattr(tree.config, "is_encoder_decoder", False) and (encoder := tree.path_of("get_encoder")) is not None:
        brackets.append(Bracket("encode", (modules[encoder],), (modules[encoder],)))
    return brackets


def encoders_of(tree: ModuleTree, layers: str, brackets: list[Bracket], *, named: bool) -> Encoders:
    """Feature functions first; a bracket only for a stage that has none, or whose modules the user has named."""
    head, embedding = output_head(tree), tree.token_embedding()

    def is_language(path: str) -> bool:
        return holds(path, layers) or path in (head, embedding)

    functions = feature_functions(tree.modules, is_language, lambda path: list(tree.children(path)))
    if named:
        functions = tuple(one for one in functions if one.stage != "vision")
    seen = {one.stage for one in functions}
    bracketed = [module for one in brackets if one.stage not in seen for module in (*one.entries, *one.exits)]
    if type(tree.model).__dict__.get("generate") is None:
        brackets = [one for one in brackets if one.stage not in seen]
    else:  # a generate() of the class's own can call the tower past the function (BLIP-2): then the bracket counts
        bracketed += [part for one in functions for part in one.parts]
    unassigned: dict[str, nn.Module] = {}
    around = tree.callable_ancestor(layers)
    layer_class = type(next(iter(tree.modules[layers].children())))
    while True:
        for path in tree.children(around):
            module = tree.modules[path]
            inside = {id(m) for m in module.modules()}
            if is_language(path) or holds(layers, path) or any(id(b) in inside for b in bracketed):
                continue
            if any(type(m) is layer_class for m in module.modules()):  # more decoder layers (HRM has two stacks)
                continue
            if looks_like_encoder(module) and not isinstance(module, CONTAINERS):
                unassigned[path] = module
        if not around:
            break
        around = tree.callable_ancestor(around)
    return Encoders(functions, tuple(brackets), unassigned)
