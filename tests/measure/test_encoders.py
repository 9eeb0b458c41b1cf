"""Each encoder's time is in its own stage, however it is called, and an encoder in no stage is said."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from laptime import StageTimer
from laptime.data.record import STAGES
from laptime.errors import LaptimeError
from tests.models import tiny, tiny_encoders

STAGE = {
    "chameleon": "vision",
    "florence2": "encode",
    "qwen2_audio": "audio",
    "seamless_m4t": "encode",
    "t5": "encode",
    "whisper": "encode",
}
INSIDE = {
    "chameleon": "model.vqmodel.encoder.conv_in",
    "florence2": "model.language_model.encoder.layers.0",
    "qwen2_audio": "model.audio_tower.conv1",
    "seamless_m4t": "text_encoder.layers.0",
    "t5": "encoder.block.0",
    "whisper": "model.encoder.conv1",
}
SLEEP_MS = 40.0


def slow(module: nn.Module) -> None:
    module.register_forward_pre_hook(lambda *_: time.sleep(SLEEP_MS / 1e3))


@pytest.mark.parametrize("family", STAGE)
def test_an_encoders_time_is_in_its_stage_and_in_no_other(family):
    model, inputs = tiny_encoders.build(family)
    bare = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    slow(model.get_submodule(INSIDE[family]))
    with StageTimer(model) as timer:
        timed = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert torch.equal(getattr(bare, "sequences", bare), getattr(timed, "sequences", timed))
    sample = timer.last
    times = {name: sample.stages.stage(name) or 0.0 for name in STAGES}
    assert sample.stages.closes()
    assert times.pop(STAGE[family]) >= SLEEP_MS
    others = {name for name in ("vision", "audio", "encode") if times.get(name)}
    assert others == ({"vision"} if family == "florence2" else set())
    assert (sample.output_tokens, sample.decode_forwards) == (4, 3)
    assert "unassigned-encoder" not in sample.flags
    assert "forwards-mismatch" not in sample.flags
    assert "generate" not in model.__dict__
    assert all("encode" not in m.__dict__ and "get_image_features" not in m.__dict__ for m in model.modules())


def test_an_encoder_that_belongs_to_no_stage_is_named_with_its_time():
    model = tiny.build("llama")
    scanner = nn.Sequential(nn.Conv1d(1, 4, 3), nn.Conv1d(4, 1, 3))
    model.model.scanner = scanner
    slow(scanner[1])
    model.model.register_forward_pre_hook(lambda *_: [scanner(torch.zeros(1, 1, 9)), None][1])
    with StageTimer(model) as timer:
        model.generate(**tiny.tiny_inputs("llama"), max_new_tokens=3)
    sample = timer.last
    assert "unassigned-encoder" in sample.flags
    assert sample.unassigned_ms["model.scanner"] >= SLEEP_MS
    assert sample.stages.other_ms >= SLEEP_MS
    assert sample.stages.closes()


class Eyes(nn.Module):
    """A user's own module: it looks, listens and searches, and hands the rest to a language model's generate()."""

    def __init__(self):
        super().__init__()
        self.looking = nn.Sequential(nn.Conv2d(3, 32, 14, 14), nn.Flatten(2))
        self.projector = nn.Linear(32, 32)
        self.speech_encoder = nn.Sequential(nn.Conv1d(1, 32, 3), nn.Conv1d(32, 32, 3))
        self.retriever = nn.Sequential(nn.Conv1d(1, 4, 3), nn.Conv1d(4, 1, 3))
        self.llm = tiny.build("llama")

    def generate(self, input_ids, pixels=None, sound=None, **kwargs):
        self.retriever(torch.zeros(1, 1, 9))
        parts = [self.llm.get_input_embeddings()(input_ids)]
        if pixels is not None:
            parts.append(self.projector(self.looking(pixels).transpose(1, 2)))
        if sound is not None:
            parts.append(self.speech_encoder(sound).transpose(1, 2))
        return self.llm.generate(inputs_embeds=torch.cat(parts, 1), **kwargs)


@pytest.mark.parametrize("named", [{}, {"vision": "looking", "projector": "projector"}])
def test_encoders_of_a_users_own_module_beside_the_model_that_it_calls(named):
    model = Eyes().eval()
    slow(model.looking[1])
    slow(model.speech_encoder[1])
    slow(model.retriever[1])
    ids = tiny.tiny_inputs("llama")["input_ids"]
    with StageTimer(model, **named) as timer:
        model.generate(ids, pixels=torch.randn(1, 3, 28, 28), sound=torch.randn(1, 1, 9), max_new_tokens=3)
        model.generate(ids, max_new_tokens=3)
    both, text = timer.samples
    assert both.stages.vision_ms >= SLEEP_MS
    assert both.stages.audio_ms >= SLEEP_MS
    assert both.stages.closes()
    assert (both.output_tokens, both.decode_forwards) == (3, 2)
    assert (text.stages.vision_ms, text.stages.audio_ms) == (0.0, None)
    assert text.unassigned_ms["retriever"] >= SLEEP_MS
    with pytest.raises(LaptimeError, match="no such module; near: looking"):
        StageTimer(model, vision="lookin")


class Codec(nn.Module):
    """A codec of sound: what is called is encode()."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 32)])

    def encode(self, sound):
        time.sleep(SLEEP_MS / 1e3)
        return self.layers[0](sound)


class Hears(nn.Module):
    """A user's own module with a codec."""

    def __init__(self):
        super().__init__()
        self.codec_model = Codec()
        self.llm = tiny.build("llama")

    def generate(self, sound, **kwargs):
        return self.llm.generate(inputs_embeds=self.codec_model.encode(sound), **kwargs)


def test_a_codec_whose_encode_is_called_is_audio():
    model = Hears().eval()
    with StageTimer(model) as timer:
        model.generate(torch.randn(1, 4, 8), max_new_tokens=3)
    assert timer.last.stages.audio_ms >= SLEEP_MS
    assert timer.last.flags.count("unassigned-encoder") == 0
    assert "encode" not in vars(model.codec_model)


def test_several_towers_can_be_named():
    model = tiny.build("llava")
    names = ["model.vision_tower", "model.multi_modal_projector"]
    with StageTimer(model, vision=names) as timer:
        model.generate(**tiny.tiny_inputs("llava"), max_new_tokens=3)
    assert timer.last.stages.vision_ms > 0


def test_the_tokens_of_a_video_are_counted_as_those_of_an_image():
    model = tiny.build("qwen2_5_vl")
    ids = torch.tensor([[5, tiny.START, *[tiny.VIDEO] * 8, tiny.END, 6, 7]])
    call = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == tiny.VIDEO).int() * 2,
        "pixel_values_videos": torch.randn(32, 3 * 2 * 14 * 14),
        "video_grid_thw": torch.tensor([[2, 4, 4]]),
    }
    with StageTimer(model) as timer:
        model.generate(**call, max_new_tokens=3)
    assert timer.last.image_tokens == 8
    assert timer.last.prompt_tokens == 13
    assert timer.last.stages.vision_ms > 0
