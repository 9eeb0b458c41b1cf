"""What has no stages is refused by name before anything runs."""

import pytest
from torch import nn

import laptime
from laptime.errors import LaptimeError
from tests.models import tiny_encoders
from tests.models.tiny import build


@pytest.fixture
def llama():
    return build("llama")


class OwnLoop(nn.Module):
    """A generate() that has nothing of transformers in it."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(8, 8)

    def generate(self, input_ids, **kwargs):
        raise AssertionError("it ran")


class WordsForCTC(type(build("llama"))):
    """Named as transformers names what reads tokens off the frames of a sound."""


@pytest.mark.parametrize("kind", ["bark", "csm", "dia", "higgs_audio_v2", "musicgen_melody", "diffusion_gemma"])
def test_families_that_write_no_rows_of_tokens_are_refused_by_name(llama, kind):
    llama.config.model_type = kind
    with pytest.raises(LaptimeError, match=rf"^{kind} "):
        laptime.StageTimer(llama)


def test_loops_without_a_forward_for_each_token_are_refused_by_name(llama):
    with pytest.raises(LaptimeError, match=r"OwnLoop.generate\(\) runs a loop of its own"):
        laptime.StageTimer(OwnLoop())
    llama.__class__ = WordsForCTC
    with pytest.raises(LaptimeError, match="WordsForCTC reads its tokens off the frames"):
        laptime.StageTimer(llama)


def test_a_call_that_will_return_only_sound_is_refused_before_it_runs():
    model, inputs = tiny_encoders.build("seamless_m4t")
    with laptime.StageTimer(model) as timer:
        with pytest.raises(LaptimeError, match="return_intermediate_token_ids=True"):
            model.generate(**{**inputs, "generate_speech": True}, max_new_tokens=3)
        model.generate(**inputs, max_new_tokens=3)
    assert timer.failures == []
    assert (timer.last.output_tokens, timer.last.decode_forwards) == (3, 2)
