"""Where a model's vision tower, projector, language model, decoder layers and experts are.

Found by what the modules are, not by the model's class: the vision tower is what holds the patch embedding, the
language model what holds the token embedding and the decoder layers, the projector what sits between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from laptime.models.decoder_parts import Experts, decoder_layers, language_model, routed_experts
from laptime.models.encoder_parts import audio_tower, brackets_of, encoders_of, listed, projector_of, vision_tower
from laptime.models.encoders import Encoders
from laptime.models.module_tree import ModuleTree


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
    tree = ModuleTree(model)
    towers, projectors = listed(vision), listed(projector)
    for option, paths in (("vision", towers), ("projector", projectors), ("language", listed(language))):
        for path in paths:
            tree.check(path, f"--{option}-module")
    embedding = tree.token_embedding()
    two_sided = bool(getattr(tree.config, "is_encoder_decoder", False))
    if two_sided and language is None:
        language = tree.decoder_alone()
    vision_path: str | None = None
    if towers:
        vision_path = towers[0]
    elif not two_sided:
        vision_path = vision_tower(tree, embedding, language)
    layers_path = decoder_layers(tree, vision_path, language)
    audio_path = None if two_sided else audio_tower(tree, layers_path, embedding)
    beside = vision_path if vision_path is not None else audio_path
    if language is not None:
        language_path = language
    elif beside is None:
        language_path = ""  # the top level: hooks there still fire when the model's forward is compiled
    else:
        language_path = language_model(tree, layers_path, embedding, beside)
    if not projectors and vision_path is not None:
        projectors = [projector_of(tree, vision_path, language_path, layers_path)]
    brackets = brackets_of(tree, towers, projectors, {"vision": vision_path, "audio": audio_path}, language_path)
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
        experts=routed_experts(tree, layers_path),
        encoders=encoders_of(tree, layers_path, brackets, named=bool(towers or projector)),
    )
