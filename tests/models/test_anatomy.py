"""What find_anatomy names is what runs: checked by hooks on a real, tiny generate() of every family."""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from laptime.errors import LaptimeError
from laptime.models.anatomy import Anatomy, find_anatomy
from tests.models import tiny

TOWERS = {
    **dict.fromkeys(
        ["llava", "llava_next", "llava_onevision", "internvl", "gemma3", "paligemma", "aria"],
        ("model.vision_tower", "model.multi_modal_projector", "model.language_model"),
    ),
    **dict.fromkeys(["idefics3", "smolvlm"], ("model.vision_model", "model.connector", "model.text_model")),
    **dict.fromkeys(
        ["qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"], ("model.visual", "model.visual", "model.language_model")
    ),
}
GATES = {"olmoe": "gate", "mixtral": "gate", "qwen3_moe": "gate", "llava_next": "gate", "qwen3_vl_moe": "gate"}


def events_of_generate(model: nn.Module, anatomy: Anatomy, inputs: dict[str, Any], new_tokens: int) -> list[str]:
    events: list[str] = []
    for name in ("vision", "projector", "language"):
        module = getattr(anatomy, name)
        if module is not None:
            module.register_forward_pre_hook(lambda *_, name=name: events.append(f"{name} in"))
            module.register_forward_hook(lambda *_, name=name: events.append(f"{name} out"))
    for index, layer in enumerate(anatomy.layers):
        layer.register_forward_pre_hook(lambda *_, index=index: events.append(f"layer {index}"))
    out = model.generate(**inputs, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False)
    assert out.shape[1] == inputs["input_ids"].shape[1] + new_tokens
    return events


@pytest.mark.parametrize("family", tiny.TEXT_FAMILIES)
def test_text_model(family: str) -> None:
    model = tiny.build(family)
    anatomy = find_anatomy(model)
    assert (anatomy.vision, anatomy.projector, anatomy.vision_path, anatomy.projector_path) == (None,) * 4
    assert anatomy.language is model
    assert anatomy.language_path == ""
    assert anatomy.layers is model.model.layers
    forward = ["language in", *(f"layer {i}" for i in range(tiny.LAYERS)), "language out"]
    assert events_of_generate(model, anatomy, tiny.tiny_inputs(family, batch=2), 3) == forward * 3


@pytest.mark.parametrize("family", tiny.VLM_FAMILIES)
def test_vision_language_model(family: str) -> None:
    model = tiny.build(family)
    anatomy = find_anatomy(model)
    vision, projector, language = TOWERS[family]
    assert (anatomy.vision_path, anatomy.projector_path, anatomy.language_path) == (vision, projector, language)
    assert anatomy.layers_path == f"{language}.layers"
    assert anatomy.vision is model.get_submodule(vision)
    assert anatomy.language is model.get_submodule(language)
    assert len(anatomy.layers) == tiny.LAYERS
    forward = ["language in", *(f"layer {i}" for i in range(tiny.LAYERS)), "language out"]
    events = events_of_generate(model, anatomy, tiny.tiny_inputs(family, batch=2), 3)
    assert events[-3 * len(forward) :] == forward * 3  # entered once for each forward, after all of vision
    seen = events[: -3 * len(forward)]
    assert seen[0] == "vision in"
    assert seen[-1] == "projector out"
    assert seen.count("vision in") == seen.count("projector out") == 1


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_experts(family: str) -> None:
    model = tiny.build(family)
    experts = find_anatomy(model).experts
    if family == "aria":  # its top-k is read from the config, not from a gate
        assert experts is not None
        assert (experts.top_k_attribute, experts.top_k_config, experts.top_k, experts.count) == (None, "moe_topk", 2, 4)
        assert len(experts.gate_paths) == tiny.LAYERS
    elif family in GATES:
        assert experts is not None
        layers = find_anatomy(model).layers_path
        assert experts.gate_paths == tuple(f"{layers}.{i}.mlp.gate" for i in range(tiny.LAYERS))
        assert (experts.top_k_attribute, experts.top_k, experts.count) == ("top_k", 2, 4)
    else:
        assert experts is None


@pytest.mark.parametrize("family", [*GATES, "aria"])
def test_top_k_is_a_knob(family: str) -> None:
    """What `Experts` points at changes the output: it is the value that the model uses."""
    model, inputs = tiny.build(family), tiny.tiny_inputs(family)
    experts = find_anatomy(model).experts
    assert experts is not None
    with torch.no_grad():
        before = model(**inputs).logits
        if experts.top_k_attribute is None:
            setattr(model.config.get_text_config(), str(experts.top_k_config), 1)
        else:
            for path in experts.gate_paths:
                setattr(model.get_submodule(path), experts.top_k_attribute, 1)
        after = model(**inputs).logits
    assert not torch.allclose(before, after)


# -- Molmo: remote code, so an imitation that has its module names and its order of calls -------------------------


class MolmoBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.att_proj, self.attn_out, self.ff_proj = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn_out(self.att_proj(x))
        return x + self.ff_proj(x)


class MolmoVision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.image_vit = nn.Module()
        self.image_vit.patch_embedding = nn.Linear(12, 8)
        self.image_vit.transformer = nn.Module()
        self.image_vit.transformer.resblocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(5))
        self.image_pooling_2d = nn.Linear(8, 8)
        self.image_projector = nn.Linear(8, 16)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.image_vit.patch_embedding(images)
        for block in self.image_vit.transformer.resblocks:
            x = block(x)
        return self.image_projector(self.image_pooling_2d(x))


class MolmoInner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict(
            {"wte": nn.Embedding(40, 16), "ln_f": nn.LayerNorm(16), "ff_out": nn.Linear(16, 40)}
        )
        self.transformer.update({"blocks": nn.ModuleList(MolmoBlock() for _ in range(4))})
        self.vision_backbone = MolmoVision()

    def forward(self, input_ids: torch.Tensor, images: torch.Tensor | None = None) -> torch.Tensor:
        x = self.transformer["wte"](input_ids)
        if images is not None:
            x = x + self.vision_backbone(images).mean(1, keepdim=True)
        for block in self.transformer["blocks"]:
            x = block(x)
        return self.transformer["ff_out"](self.transformer["ln_f"](x))


class MolmoImitation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_hidden_layers=4, hidden_size=16, vocab_size=40)
        self.model = MolmoInner()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.transformer["wte"]

    def get_output_embeddings(self) -> nn.Module:
        return self.model.transformer["ff_out"]

    def forward(self, **kwargs: torch.Tensor) -> torch.Tensor:
        return self.model(**kwargs)


def test_molmo() -> None:
    model = MolmoImitation()
    anatomy = find_anatomy(model)
    assert anatomy.vision_path == "model.vision_backbone"
    assert anatomy.projector_path == "model.vision_backbone"  # its image_projector is inside
    assert anatomy.language_path == "model"  # transformer is a ModuleDict, which is never called
    assert anatomy.layers_path == "model.transformer.blocks"
    events: list[str] = []
    for name in ("vision", "language"):
        getattr(anatomy, name).register_forward_pre_hook(lambda *_, name=name: events.append(name))
    ids = torch.zeros(1, 3, dtype=torch.long)
    model(input_ids=ids, images=torch.randn(1, 2, 12))
    model(input_ids=ids)
    assert events == ["language", "vision", "language"]


class MolmoWithoutGetters(MolmoImitation):
    def get_input_embeddings(self) -> nn.Module:
        raise NotImplementedError

    def get_output_embeddings(self) -> nn.Module:
        raise NotImplementedError


def test_molmo_that_does_not_name_its_embedding() -> None:
    anatomy = find_anatomy(MolmoWithoutGetters())
    assert anatomy.layers_path == "model.transformer.blocks"
    assert anatomy.vision_path == "model.vision_backbone"
    assert anatomy.language_path == "model"


# -- naming modules by hand, and models that are not known --------------------------------------------------------


def test_named_modules_are_taken() -> None:
    model = tiny.build("llava")
    anatomy = find_anatomy(
        model,
        vision="model.vision_tower.encoder",
        projector="model.multi_modal_projector.linear_2",
        language="model.language_model",
    )
    assert anatomy.vision is model.model.vision_tower.encoder
    assert anatomy.projector is model.model.multi_modal_projector.linear_2
    assert anatomy.layers is model.model.language_model.layers


@pytest.mark.parametrize("part", ["vision", "projector", "language"])
def test_wrong_name_shows_near_ones(part: str) -> None:
    right = {
        "vision": "model.vision_tower",
        "projector": "model.multi_modal_projector",
        "language": "model.language_model",
    }[part]
    with pytest.raises(LaptimeError) as raised:
        find_anatomy(tiny.build("llava"), **{part: right + "s"})
    message = str(raised.value)
    assert f"--{part}-module" in message
    assert right in message
    assert "\n" not in message


def test_a_list_of_modules_cannot_be_named() -> None:
    with pytest.raises(LaptimeError, match=r"list of modules.*model\.language_model"):
        find_anatomy(tiny.build("llava"), language="model.language_model.layers")


class MolmoWithoutEmbedding(MolmoImitation):
    def get_input_embeddings(self) -> nn.Module:
        raise NotImplementedError


def test_the_output_head_bounds_the_tower_where_the_embedding_is_not_known() -> None:
    model = MolmoWithoutEmbedding()
    model.config.vocab_size = None
    assert find_anatomy(model).vision_path == "model.vision_backbone"


class EmbeddingOutside(MolmoImitation):
    """The token embedding beside the language model, and in it a list as long as the layers that does not attend."""

    def __init__(self) -> None:
        super().__init__()
        inner = nn.Module()
        inner.trunk = nn.Module()
        inner.trunk.gates = nn.ModuleList(nn.Linear(90, 90) for _ in range(4))
        inner.trunk.blocks = nn.ModuleList(MolmoBlock() for _ in range(3))  # one skipped: shorter than the config says
        inner.embed, inner.tower, inner.head = nn.Embedding(40, 16), MolmoVision(), nn.Linear(16, 40)
        self.model = inner

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embed

    def get_output_embeddings(self) -> nn.Module:
        return self.model.head


def test_the_language_model_stops_short_of_the_tower() -> None:
    anatomy = find_anatomy(EmbeddingOutside())
    assert anatomy.layers_path == "model.trunk.blocks"  # what attends counts more than how many
    assert anatomy.language_path == "model.trunk"  # and not "model", although the embedding is there
    assert anatomy.vision_path == "model.tower"


class LayersDeepInside(EmbeddingOutside):
    """The language model is a module whose layers sit one module deeper than its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.model.speech = nn.Module()
        self.model.speech.trunk, self.model.speech.embed = self.model.trunk, self.model.embed
        del self.model.trunk, self.model.embed

    def get_input_embeddings(self) -> nn.Module:
        return self.model.speech.embed


def test_the_language_model_takes_its_embedding_in() -> None:
    anatomy = find_anatomy(LayersDeepInside())
    assert anatomy.layers_path == "model.speech.trunk.blocks"
    assert anatomy.language_path == "model.speech"


class Unknown(nn.Module):
    """No config, no word for its parts, nothing that attends."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.trunk = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))


def test_unknown_model_says_how_to_name_its_modules() -> None:
    with pytest.raises(LaptimeError) as raised:
        find_anatomy(Unknown())
    message = str(raised.value)
    for word in ("`vision_module`", "`projector_module`", "`language_module`", "trunk", "encoder", "Unknown"):
        assert word in message
    assert "\n" not in message


class TwoTowers(MolmoImitation):
    def __init__(self) -> None:
        super().__init__()
        self.model.second_vision = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 16))


def test_two_towers_are_not_guessed_between() -> None:
    model = TwoTowers()
    with pytest.raises(LaptimeError, match=r"model\.vision_backbone.*`vision_module`"):
        find_anatomy(model)
    assert find_anatomy(model, vision="model.second_vision").vision is model.model.second_vision


def test_a_config_with_vision_and_no_tower_is_not_a_text_model() -> None:
    model = MolmoImitation()
    model.config.vision_config = SimpleNamespace()
    model.model.vision_backbone = nn.Sequential(nn.Linear(12, 16))
    with pytest.raises(LaptimeError, match=r"vision tower.*`vision_module`"):
        find_anatomy(model)
    anatomy = find_anatomy(model, vision="model.vision_backbone")
    assert anatomy.vision_path == "model.vision_backbone"
    assert anatomy.layers_path == "model.transformer.blocks"


def test_skipped_blocks_do_not_hide_the_layers() -> None:
    """Knobs shorten the list; the config still says the old count."""
    model = tiny.build("qwen3")
    model.model.layers = model.model.layers[:1]
    assert find_anatomy(model).layers_path == "model.layers"


def test_a_tower_as_deep_as_the_language_model_is_not_taken_for_it() -> None:
    config = tiny.VLM_CONFIGS["llava"]()
    config.vision_config.num_hidden_layers = tiny.LAYERS
    config.vision_config.hidden_size = 64  # and wider, so its layers weigh more
    anatomy = find_anatomy(AutoModelForImageTextToText.from_config(config))
    assert anatomy.layers_path == "model.language_model.layers"
    assert anatomy.vision_path == "model.vision_tower"


def test_patches_of_bytes_are_no_images():
    class Bytes(nn.Module):
        """BLT's names: its local encoder makes patches of the bytes of a text."""

        def __init__(self):
            super().__init__()
            self.local_encoder = nn.Module()
            self.local_encoder.patch_embedding_projection = nn.Linear(8, 8)
            self.embed = nn.Embedding(32, 8)
            self.layers = nn.ModuleList([nn.Sequential(OrderedDict(attention=nn.Linear(8, 8)))])

        def get_input_embeddings(self):
            return self.embed

        def forward(self, input_ids, patch_lengths=None):
            return self.embed(input_ids)

    anatomy = find_anatomy(Bytes())
    assert (anatomy.vision, anatomy.layers_path, anatomy.language_path) == (None, "layers", "")
