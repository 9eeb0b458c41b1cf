"""A model's modules by dotted path, and the questions about paths that the search for its parts asks."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from laptime.errors import LaptimeError

CONTAINERS = (nn.ModuleList, nn.ModuleDict)  # they hold modules but are never called, so no hook on them fires
_HOW_TO_NAME = (
    "name its modules with `vision_module`, `projector_module` and `language_module` (`vision`, `projector` and "
    "`language` of a StageTimer)"
)


class ModuleTree:
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

    def takes_images(self) -> bool:
        """Whether the model says that it sees: by its config, by a feature function, or by what a forward takes."""
        if self.makes_image_features or getattr(self.config, "vision_config", None) is not None:
            return True
        classes = {type(module) for module in self.modules.values()}
        named = {name for one in classes for name in inspect.signature(one.forward).parameters}
        return any(word in name for name in named for word in ("image", "pixel", "video"))

    def path_of(self, getter: str) -> str | None:
        """The path of what the model's own `get_encoder` or `get_decoder` returns; None where there is none."""
        get = getattr(self.model, getter, None)
        try:
            module = get() if callable(get) else None
        except (AttributeError, NotImplementedError, TypeError):
            return None
        return next((path for path, m in self.modules.items() if m is module and path), None)

    def decoder_alone(self) -> str | None:
        """The path of an encoder-decoder's decoder, also where the model names what holds both (Florence-2)."""
        path, encoder = self.path_of("get_decoder"), self.path_of("get_encoder")
        while path is not None and encoder is not None and path != encoder and holds(path, encoder):
            get = getattr(self.modules[path], "get_decoder", None)
            inner = get() if callable(get) else None
            inside = [p for p in self.modules if self.modules[p] is inner and p != path and holds(path, p)]
            named = f"{path}.decoder"
            path = inside[0] if inside else named if named in self.modules else None
        return path

    def largest(self, paths: Sequence[str]) -> str:
        """The path with the most weights below it."""
        return max(paths, key=lambda path: sum(p.numel() for p in self.modules[path].parameters()))

    def check(self, path: str, option: str) -> None:
        """Raise LaptimeError, with near names, unless there is a module at `path` that is called in a forward."""
        if path not in self.modules or path == "":
            near = difflib.get_close_matches(path, self.modules, n=4, cutoff=0.4) or self.candidates()
            raise LaptimeError(f"{option} {path!r}: the model has no such module; near: {', '.join(near)}")
        if isinstance(self.modules[path], CONTAINERS):
            raise LaptimeError(
                f"{option} {path!r} is a list of modules and never called itself; name one of: "
                f"{', '.join(p for p in (parent(path), path + '.0') if p in self.modules and p)}"
            )

    def candidates(self) -> list[str]:
        """The up to eight shallowest modules that hold most of the weights: what a user would name."""
        weights = {
            path: sum(p.numel() for p in module.parameters())
            for path, module in self.modules.items()
            if path
            and path.count(".") <= 2
            and not isinstance(module, CONTAINERS)
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
        path = parent(path)
        while path and isinstance(self.modules[path], CONTAINERS):
            path = parent(path)
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


def parent(path: str) -> str:
    return path.rpartition(".")[0]


def holds(outer: str, inner: str | None) -> bool:
    """Whether the module at path `outer` contains (or is) the one at `inner`."""
    return inner is not None and (outer in ("", inner) or inner.startswith(outer + "."))


def output_head(tree: ModuleTree) -> str | None:
    try:
        head = tree.model.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return next((path for path, module in tree.modules.items() if module is head), None) if head is not None else None


def of_sound(path: str) -> bool:
    return any(word in path.lower() for word in ("audio", "speech", "codec"))
