"""Where a model's vision tower, projector, language model, decoder layers and experts are.

Found by what the modules are, not by the model's class: the vision tower is what holds the patch embedding, the
language model what holds the token embedding and the decoder layers, the projector what sits between the two.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from laptime.errors import LaptimeError
from laptime.models.encoders import Bracket, Encoders, feature_functions, looks_like_encoder

_CONTAINERS = (nn.ModuleList, nn.ModuleDict)  # they hold modules but are never called, so no hook on them fires
_PATCH_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_LAYER_COUNTS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_TOP_KS = ("top_k", "num_experts_per_tok", "moe_topk", "moe_top_k", "top_k_experts")
_HOW_TO_NAME = "name its modules with --vision-module, --projector-module and --language-module"


@dataclass(frozen=True)
class Experts:
    """The routed experts: where the gates are and how many experts each of them picks.

    `top_k_attribute` is the gate's own attribute that holds top-k (it may be changed between calls), or None when
    the model reads it from its text config (`top_k_config` then says under which name).
    """

    gate_paths: tuple[str, ...]
    count: int | None
    top_k: int
    top_k_attribute: str | None
    top_k_config: str | None


@dataclass(frozen=True)
class Anatomy:
    """The parts of a model that stages are measured on, each with its dotted path ("" is the model itself).

    vision: the vision tower, entered first for images (the largest of several); None in a text-only model.
    projector: the last vision module left; the tower itself when the merger is inside it.
    language: its forward is entered once for each forward of the model. It may contain the vision tower (Molmo).
    layers: the decoder layers, first to last.
    encoders: how the stages vision, audio and encode are seen, and what looks like an encoder but is in no stage.
    """

    vision: nn.Module | None
    projector: nn.Module | None
    language: nn.Module
    layers: nn.ModuleList
    vision_path: str | None
    projector_path: str | None
    language_path: str
    layers_path: str
    experts: Experts | None
    encoders: Encoders


def find_anatomy(
    model: nn.Module,
    *,
    vision: str | Sequence[str] | None = None,
    projector: str | Sequence[str] | None = None,
    language: str | None = None,
) -> Anatomy:
    """Find the parts of `model`; a dotted path given by the caller is taken as it is. Several towers are a list.

    Raises LaptimeError when a given path does not exist (with near names) or when a part can't be found
    (with the options that name it and candidates).
    """
    tree = _Tree(model)
    towers, projectors = _listed(vision), _listed(projector)
    for option, paths in (("vision", towers), ("projector", projectors), ("language", _listed(language))):
        for path in paths:
            tree.check(path, f"--{option}-module")
    embedding = tree.token_embedding()
    two_sided = bool(getattr(tree.config, "is_encoder_decoder", False))
    if two_sided and language is None:
        language = tree.path_of("get_decoder")
    vision_path: str | None = None
    if towers:
        vision_path = towers[0]
    elif not two_sided:
        vision_path = _vision_tower(tree, embedding, language)
    layers_path = _decoder_layers(tree, vision_path, language)
    audio_path = None if two_sided else _audio_tower(tree, layers_path, embedding)
    beside = vision_path if vision_path is not None else audio_path
    if language is not None:
        language_path = language
    elif beside is None:
        language_path = ""  # the top level: hooks there still fire when the model's forward is compiled
    else:
        language_path = _language_model(tree, layers_path, embedding, beside)
    if not projectors and vision_path is not None:
        projectors = [_projector(tree, vision_path, language_path, layers_path)]
    brackets = _brackets(tree, towers, projectors, {"vision": vision_path, "audio": audio_path}, language_path)
    layers = tree.modules[layers_path]
    assert isinstance(layers, nn.ModuleList)
    return Anatomy(
        vision=None if vision_path is None else tree.modules[vision_path],
        projector=tree.modules[projectors[-1]] if projectors else None,
        language=tree.modules[language_path],
        layers=layers,
        vision_path=vision_path,
        projector_path=projectors[-1] if projectors else None,
        language_path=language_path,
        layers_path=layers_path,
        experts=_experts(tree, layers_path),
        encoders=_encoders(tree, layers_path, brackets, named=bool(towers or projector)),
    )


def _listed(paths: str | Sequence[str] | None) -> list[str]:
    return [] if paths is None else [paths] if isinstance(paths, str) else list(paths)


class _Tree:
    """A model's modules by dotted path, and the questions about paths that the search asks."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules: dict[str, nn.Module] = dict(model.named_modules())
        self.config: Any = getattr(model, "config", None)
        get_text_config = getattr(self.config, "get_text_config", None)
        self.text_config: Any = get_text_config() if callable(get_text_config) else self.config
        self.coders = [
            path for path, module in self.modules.items() if path and callable(getattr(module, "encode", None))
        ]
        self.makes_image_features = any(
            callable(getattr(module, name, None))
            for module in self.modules.values()
            for name in ("get_image_features", "get_video_features")
        )

    def path_of(self, getter: str) -> str | None:
        """The path of what the model's own `get_encoder` or `get_decoder` returns; None where there is none."""
        get = getattr(self.model, getter, None)
        try:
            module = get() if callable(get) else None
        except (AttributeError, NotImplementedError, TypeError):
            return None
        return next((path for path, m in self.modules.items() if m is module and path), None)

    def largest(self, paths: Sequence[str]) -> str:
        """The path with the most weights below it."""
        return max(paths, key=lambda path: sum(p.numel() for p in self.modules[path].parameters()))

    def check(self, path: str, option: str) -> None:
        """Raise LaptimeError, with near names, unless there is a module at `path` that is called in a forward."""
        if path not in self.modules or path == "":
            near = difflib.get_close_matches(path, self.modules, n=4, cutoff=0.4) or self.candidates()
            raise LaptimeError(f"{option} {path!r}: the model has no such module; near: {', '.join(near)}")
        if isinstance(self.modules[path], _CONTAINERS):
            raise LaptimeError(
                f"{option} {path!r} is a list of modules and never called itself; name one of: "
                f"{', '.join(p for p in (_parent(path), path + '.0') if p in self.modules and p)}"
            )

    def candidates(self) -> list[str]:
        """The up to eight shallowest modules that hold most of the weights: what a user would name."""
        weights = {
            path: sum(p.numel() for p in module.parameters())
            for path, module in self.modules.items()
            if path
            and path.count(".") <= 2
            and not isinstance(module, _CONTAINERS)
            and not path.split(".")[-1].isdigit()
        }
        big = sorted((path for path in weights if weights[path]), key=lambda path: (-weights[path], path))
        return big[:8]

    def unknown(self, what: str) -> LaptimeError:
        name = type(self.model).__name__
        return LaptimeError(f"{name}: can't tell {what}; {_HOW_TO_NAME}; candidates: {', '.join(self.candidates())}")

    def token_embedding(self) -> str | None:
        """Path of the token embedding, by the model's own word for it or by the size of its vocabulary."""
        module = None
        try:
            module = self.model.get_input_embeddings()
        except (AttributeError, NotImplementedError):
            vocabulary = getattr(self.text_config, "vocab_size", None)
            tables = [m for m in self.modules.values() if isinstance(m, nn.Embedding)]
            module = next((m for m in tables if m.num_embeddings == vocabulary), None)
        return next((path for path, m in self.modules.items() if m is module), None) if module is not None else None

    def callable_ancestor(self, path: str) -> str:
        """The nearest ancestor of `path` that has a forward of its own."""
        path = _parent(path)
        while path and isinstance(self.modules[path], _CONTAINERS):
            path = _parent(path)
        return path

    def children(self, path: str) -> Iterator[str]:
        """Paths of the modules right below `path`, looking through containers."""
        for name, child in self.modules[path].named_children():
            child_path = f"{path}.{name}" if path else name
            if child_path not in self.modules:
                continue  # a module reachable under two names is listed under its first
            if isinstance(child, nn.ModuleDict):
                yield from self.children(child_path)
            else:
                yield child_path


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _holds(outer: str, inner: str | None) -> bool:
    """Whether the module at path `outer` contains (or is) the one at `inner`."""
    return inner is not None and (outer in ("", inner) or inner.startswith(outer + "."))


def _is_patch_embedding(path: str, module: nn.Module) -> bool:
    """Images enter a network through a strided convolution over pixels, or (Molmo) a Linear that is called so."""
    if isinstance(module, _PATCH_CONVOLUTIONS):
        return module.kernel_size == module.stride and max(module.kernel_size) > 1
    return "patch_embed" in path.rpartition(".")[2] and not isinstance(module, _CONTAINERS)


def _vision_tower(tree: _Tree, embedding: str | None, language: str | None) -> str | None:
    """The largest module around the patch embedding that has no part of the language model in it."""
    head = _output_head(tree)
    towers: list[str] = []
    for path, module in tree.modules.items():
        if not _is_patch_embedding(path, module) or any(_holds(tower, path) for tower in towers) or _of_sound(path):
            continue
        tower = path
        while True:
            above = tree.callable_ancestor(tower)
            if not above or _holds(above, embedding) or _holds(above, head) or _holds(above, language):
                break
            tower = above
        if not _holds(tower, embedding):
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


def _feature_parts(tree: _Tree, embedding: str | None, head: str | None, function: str) -> list[str]:
    """What lies beside the decoder layers in the model whose function makes features of images or sound."""
    layers = _decoder_layers(tree, None, None)
    holders = [path for path, module in tree.modules.items() if callable(getattr(module, function, None))]
    parts = [part for path in holders[-1:] for part in tree.children(path)]
    return [
        part
        for part in parts
        if not _holds(part, layers)
        and part not in (embedding, head)
        and any(True for _ in tree.modules[part].parameters())
    ]


def _of_sound(path: str) -> bool:
    return any(word in path.lower() for word in ("audio", "speech"))


def _audio_tower(tree: _Tree, layers: str, embedding: str | None) -> str | None:
    """The largest module beside the decoder layers that is named for sound, or may make its features, and encodes."""
    towers = [
        path
        for path, module in tree.modules.items()
        if _of_sound(path.rpartition(".")[2]) and not _holds(path, layers) and looks_like_encoder(module)
    ]
    towers = [path for path in towers if not isinstance(tree.modules[path], _CONTAINERS)]
    if not towers:  # VibeVoice's are called tokenizers
        towers = _feature_parts(tree, embedding, _output_head(tree), "get_audio_features")
    return tree.largest(towers) if towers else None


def _brackets(
    tree: _Tree, towers: list[str], projectors: list[str], found: dict[str, str | None], language: str
) -> list[Bracket]:
    """The encoders that are watched by their modules: those named by the user, and those without a function."""
    brackets: list[Bracket] = []
    modules = tree.modules
    entries = towers or _listed(found["vision"])
    if entries:
        brackets.append(
            Bracket("vision", tuple(modules[p] for p in entries), tuple(modules[p] for p in projectors or entries))
        )
    if (audio := found["audio"]) is not None:
        beside = [p for p in tree.children(_parent(audio)) if "project" in p.rpartition(".")[2]]
        beside = [p for p in beside if p not in projectors and not _holds(p, language)]
        brackets.append(Bracket("audio", (modules[audio],), tuple(modules[p] for p in beside[:1] or [audio])))
    if getattr(tree.config, "is_encoder_decoder", False) and (encoder := tree.path_of("get_encoder")) is not None:
        brackets.append(Bracket("encode", (modules[encoder],), (modules[encoder],)))
    return brackets


def _encoders(tree: _Tree, layers: str, brackets: list[Bracket], *, named: bool) -> Encoders:
    """Feature functions first; a bracket only for a stage that has none, or whose modules the user has named."""
    head, embedding = _output_head(tree), tree.token_embedding()

    def is_language(path: str) -> bool:
        return _holds(path, layers) or path in (head, embedding)

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
            if is_language(path) or _holds(layers, path) or any(id(b) in inside for b in bracketed):
                continue
            if any(type(m) is layer_class for m in module.modules()):  # more decoder layers (HRM has two stacks)
                continue
            if looks_like_encoder(module) and not isinstance(module, _CONTAINERS):
                unassigned[path] = module
        if not around:
            break
        around = tree.callable_ancestor(around)
    return Encoders(functions, tuple(brackets), unassigned)


def _output_head(tree: _Tree) -> str | None:
    try:
        head = tree.model.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return next((path for path, module in tree.modules.items() if module is head), None) if head is not None else None


def _decoder_layers(tree: _Tree, vision: str | None, language: str | None) -> str:
    """The ModuleList outside the vision tower whose elements attend and whose length is the config's layer count."""
    counts = [getattr(tree.text_config, name, None) for name in _LAYER_COUNTS]
    expected = next((count for count in counts if isinstance(count, int)), None)
    best: tuple[tuple[bool, bool, bool, bool, int], str] | None = None
    decoder = tree.path_of("get_decoder") or ""
    for path, module in tree.modules.items():
        if not isinstance(module, nn.ModuleList) or len(module) == 0:
            continue
        if any(_holds(coder, path) for coder in tree.coders):  # a VQ-VAE has layers that attend, too
            continue
        if (vision is not None and _holds(vision, path)) or (language is not None and not _holds(language, path)):
            continue
        attends = any("att" in name.rpartition(".")[2].lower() for name, _ in module[0].named_modules())
        counted = len(module) == expected
        if not (attends or counted):
            continue
        score = (
            not _of_sound(path),
            _holds(decoder, path),
            attends,
            counted,
            sum(p.numel() for p in module.parameters()),
        )
        if best is None or score > best[0]:
            best = (score, path)
    if best is None:
        raise tree.unknown("which module holds the decoder layers")
    return best[1]


def _language_model(tree: _Tree, layers: str, embedding: str | None, vision: str) -> str:
    """The smallest callable module around the layers that has the token embedding too, without the vision tower."""
    path = tree.callable_ancestor(layers)
    while path and not _holds(path, embedding):
        above = tree.callable_ancestor(path)
        if _holds(above, vision):
            break
        path = above
    return path


def _projector(tree: _Tree, vision: str, language: str, layers: str) -> str:
    """What lies beside the vision tower and is no part of the language model; the tower itself if nothing does."""
    around = vision
    while True:
        around = tree.callable_ancestor(around)
        if not around or _holds(around, layers):
            break
    head = _output_head(tree)
    width = getattr(tree.text_config, "hidden_size", None)
    beside = [
        path
        for path in tree.children(around)
        if not _holds(path, vision)
        and not _holds(path, layers)
        and path not in (language, head)
        and not _is_embedding_like(tree, path)
        and not _of_sound(path)
        and any(width is None or width in p.shape for p in tree.modules[path].parameters())
        and not (_holds(language, path) and language not in ("", around))
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


def _is_embedding_like(tree: _Tree, path: str) -> bool:
    return path == tree.token_embedding() or isinstance(tree.modules[path], nn.Embedding)


def _experts(tree: _Tree, layers: str) -> Experts | None:
    """The gates of the decoder layers, by their `top_k`, or by their name where the config holds it (Aria)."""
    inside = {path: module for path, module in tree.modules.items() if path.startswith(layers + ".")}
    gates = {path: m for path, m in inside.items() if _integer(m, "top_k") is not None}
    gates = {path: m for path, m in gates.items() if path.rpartition(".")[2] in ("gate", "router")} or gates
    count = next((n for name in _EXPERT_COUNTS if (n := _integer(tree.text_config, name)) is not None), None)
    key = next((name for name in _TOP_KS if _integer(tree.text_config, name) is not None), None)
    if gates:
        return Experts(tuple(gates), count, next(iter(gates.values())).top_k, "top_k", key)
    routers = tuple(path for path in inside if path.rpartition(".")[2] in ("gate", "router"))
    if routers and key is not None:
        return Experts(routers, count, getattr(tree.text_config, key), None, key)
    return None


def _integer(holder: Any, name: str) -> int | None:
    value = getattr(holder, name, None)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
