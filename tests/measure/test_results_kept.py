"""An observer never costs the result: whatever goes wrong in measuring, generate() returns what it made."""

import asyncio
import copy
import io
import threading
import time
import warnings

import pytest
import torch
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    BlipConfig,
    BlipForConditionalGeneration,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    Kosmos2Config,
    Kosmos2ForConditionalGeneration,
)

import laptime
from laptime.errors import LaptimeError
from laptime.measure.clock import HostClock
from tests.models.tiny import build, tiny_inputs

GREEDY = {"do_sample": False, "max_new_tokens": 5}


@pytest.fixture
def llama():
    return build("llama")


@pytest.mark.parametrize("call", [{}, {"inputs": torch.tensor([[5, 6, 7]]), "input_ids": None}])
def test_a_call_without_a_prompt_and_one_with_inputs_are_measured(llama, call):
    bare = llama.generate(**call, **GREEDY)
    with laptime.StageTimer(llama) as timer:
        output = llama.generate(**call, **GREEDY)
    assert torch.equal(output, bare)
    assert timer.last.prompt_tokens == bare.shape[1] - 5
    assert (timer.last.output_tokens, timer.last.decode_forwards) == (5, 4)


def test_ids_in_a_tuple_are_counted_and_a_result_without_ids_is_returned(llama):
    own = llama.generate
    for shape, measured in ((lambda ids: (ids, "audio"), 1), (lambda ids: "a text", 0)):
        llama.generate = lambda *args, shape=shape, **kwargs: shape(own(*args, **kwargs))
        with laptime.StageTimer(llama) as timer, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            output = llama.generate(**tiny_inputs("llama"), **GREEDY)
        assert type(output) in (tuple, str)
        assert (len(timer.samples), len(timer.failures)) == (measured, 1 - measured)
    assert "without token ids" in timer.failures[0].error
    with pytest.raises(LaptimeError, match="without token ids"):
        _ = timer.last


class _Breaks(HostClock):
    """A clock that fails at one kind of mark, or when it is read."""

    def __init__(self, at):
        super().__init__()
        self._at = at

    def start(self):
        self._fail("start")
        super().start()

    def mark(self, kind):
        self._fail(kind)
        super().mark(kind)

    def remark(self, kind):
        self._fail(kind)
        super().remark(kind)

    def resolve(self):
        self._fail("resolve")
        return super().resolve()

    def _fail(self, kind):
        if kind == self._at:
            raise RuntimeError(f"no event for {kind}")


@pytest.mark.parametrize(
    "at", ["start", "prefill-begin", "first-logits", "first-token", "decode-begin", "logits", "end", "resolve"]
)
def test_whatever_breaks_in_measuring_the_output_comes_back_and_the_reason_is_kept(llama, at, tmp_path):
    bare = llama.generate(**tiny_inputs("llama"), **GREEDY)
    with laptime.StageTimer(llama) as timer:
        llama.generate(**tiny_inputs("llama"), **GREEDY)
        assert len(timer.samples) == 1  # so its clock is free, and replaced
        timer._clocks[:] = [_Breaks(at)]
        with pytest.warns(RuntimeWarning, match="did not measure") as seen:
            outputs = [llama.generate(**tiny_inputs("llama"), **GREEDY) for _ in range(2)]
    assert all(torch.equal(output, bare) for output in outputs)
    assert len([w for w in seen if w.category is RuntimeWarning]) == 1
    assert [failure.error for failure in timer.failures] == [f"RuntimeError: no event for {at}"] * 2
    assert len(timer.samples) == 1
    assert "generate" not in llama.__dict__
    assert "prepare_inputs_for_generation" not in llama.__dict__
    timer.save(tmp_path / "run")
    assert [f.sample_id for f in laptime.load_run(tmp_path / "run").failures] == ["1", "2"]
    assert repr(timer).endswith("2 not measured>")


def test_the_result_comes_back_where_warnings_are_errors(llama):
    with laptime.StageTimer(llama) as timer, warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        timer._clocks[:] = [_Breaks("logits")]
        assert llama.generate(**tiny_inputs("llama"), **GREEDY).shape == (1, 13)
    assert len(timer.failures) == 1


VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
          "image_size": 28, "patch_size": 14}  # fmt: skip
QFORMER = {"vocab_size": 320, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
           "num_attention_heads": 2, "encoder_hidden_size": 16}  # fmt: skip
OPT = {"model_type": "opt", "vocab_size": 320, "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2,
       "num_attention_heads": 4, "word_embed_proj_dim": 32, "max_position_embeddings": 128, "pad_token_id": 0,
       "eos_token_id": 2}  # fmt: skip
BLIP_TEXT = {"vocab_size": 320, "hidden_size": 32, "encoder_hidden_size": 16, "intermediate_size": 64,
             "num_hidden_layers": 2, "num_attention_heads": 4, "bos_token_id": 1, "eos_token_id": 2,
             "sep_token_id": 2, "pad_token_id": 0}  # fmt: skip
KOSMOS_TEXT = {"vocab_size": 320, "embed_dim": 32, "layers": 2, "ffn_dim": 64, "attention_heads": 4,
               "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip


def inner_generating(kind):
    """A tiny model whose generate() calls that of a part of it, its inputs, and that part's path."""
    torch.manual_seed(0)
    pixels = {"pixel_values": torch.randn(1, 3, 28, 28)}
    ids = torch.tensor([[300] * 4 + [5, 6, 7]])
    text = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if kind == "blip":
        return (
            BlipForConditionalGeneration(BlipConfig(vision_config=VISION, text_config=BLIP_TEXT)),
            pixels,
            "text_decoder",
        )
    if kind == "kosmos2":
        mask = (ids == 300).long()
        config = Kosmos2Config(vision_config=VISION, text_config=KOSMOS_TEXT, latent_query_num=4)
        return (
            Kosmos2ForConditionalGeneration(config),
            {**pixels, **text, "image_embeds_position_mask": mask},
            "text_model",
        )
    made = {
        "blip2": (Blip2Config, Blip2ForConditionalGeneration),
        "instructblip": (InstructBlipConfig, InstructBlipForConditionalGeneration),
    }
    config, model = made[kind]
    parts = {"vision_config": VISION, "qformer_config": QFORMER, "text_config": OPT}
    question = {"qformer_input_ids": torch.tensor([[5, 6]])} if kind == "instructblip" else {}
    built = model(config(**parts, num_query_tokens=4, image_token_index=300))
    return built, {**pixels, **text, **question}, "language_model"


@pytest.mark.parametrize("kind", ["blip", "blip2", "instructblip", "kosmos2"])
def test_a_generate_inside_generate_is_where_the_stages_are(kind):
    model, inputs, part = inner_generating(kind)
    model.eval()
    call = {**inputs, "max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    bare = model.generate(**call)
    forwards = []
    inner = model.get_submodule(part)
    with laptime.StageTimer(model) as timer:
        handle = inner.register_forward_pre_hook(lambda *_: forwards.append(time.sleep(0.01)))
        output = model.generate(**call)
        handle.remove()
    assert torch.equal(output, bare)
    sample = timer.last
    assert sample.stages.closes()
    assert (sample.output_tokens, sample.decode_forwards, len(forwards)) == (5, 4, 5)
    assert sample.stages.vision_ms > 0
    assert sample.stages.decode_ms > 40
    assert timer.anatomy.language_path.split(".")[0] == part
    assert not any("generate" in module.__dict__ for module in model.modules())


def test_a_copy_made_inside_the_timer_is_a_model_of_its_own(llama):
    with laptime.StageTimer(llama) as timer:
        other = copy.deepcopy(llama)
        torch.save(llama, io.BytesIO())
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        assert not torch.equal(
            other.generate(**tiny_inputs("llama"), **GREEDY), llama.generate(**tiny_inputs("llama"), **GREEDY)
        )
    assert len(timer.samples) == 1
    with laptime.StageTimer(other) as own:
        other.generate(**tiny_inputs("llama"), **GREEDY)
    assert len(own.samples) == 1


def test_a_peak_of_the_users_own_stays_unless_memory_is_asked_for(llama):
    resource = pytest.importorskip("resource")
    block = torch.ones(200_000_000 // 4)
    del block
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with laptime.StageTimer(llama) as timer:
        llama.generate(**tiny_inputs("llama"), **GREEDY)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >= before
    assert timer.last.memory_peak_bytes is None
    with laptime.StageTimer(llama, memory=True) as timer:
        llama.generate(**tiny_inputs("llama"), **GREEDY)
    assert timer.last.memory_peak_bytes > 0


def test_an_offloaded_model_is_called_offloaded(llama):
    class AlignDevicesHook:
        offload = True

    llama.model.layers[0]._hf_hook = AlignDevicesHook()
    with pytest.raises(LaptimeError, match="offloaded"):
        laptime.StageTimer(llama)


@pytest.mark.parametrize("family", ["llama", "llava_next"])
def test_calls_of_four_threads_are_timed_each_with_its_own_marks(family):
    """Each thread's own pause shows in its own sample only, wherever the others are meanwhile."""
    model, inputs = build(family), tiny_inputs(family)
    bare = model.generate(**inputs, **GREEDY)
    pauses, outputs = {}, {}
    tower = model.model.language_model.layers[0] if family != "llama" else model.model.layers[0]
    encoder = model.model.multi_modal_projector if family != "llama" else model.model.embed_tokens

    def pause(kind):
        seen = threading.local()

        def once(*_):
            if not getattr(seen, "done", False):
                seen.done = True
                time.sleep(pauses[threading.current_thread().name][kind])

        return once

    handles = [encoder.register_forward_pre_hook(pause("early")), tower.register_forward_pre_hook(pause("late"))]
    with laptime.StageTimer(model, per_token=True) as timer:

        def work():
            outputs[threading.current_thread().name] = model.generate(**inputs, **GREEDY)

        threads = []
        for number in range(4):
            pauses[f"t{number}"] = {"early": 0.1 * number, "late": 0.1 * (3 - number)}
            threads.append(threading.Thread(target=work, name=f"t{number}"))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for handle in handles:
        handle.remove()
    assert len(timer.samples) == 4
    assert timer.failures == []
    assert all(torch.equal(output, bare) for output in outputs.values())
    assert len({sample.key for sample in timer.samples}) == 4
    for sample in timer.samples:
        assert sample.stages.closes()
        assert (sample.output_tokens, sample.decode_forwards, len(sample.itl_ms)) == (5, 4, 4)
        assert "overlapped" in sample.flags
        paused_ms = sample.stages.vision_ms + sample.stages.prefill_ms
        assert paused_ms > 299
    if family != "llama":
        visions = sorted(sample.stages.vision_ms for sample in timer.samples)
        assert [later > 100 * number for number, later in enumerate(visions)] == [True] * 4
    assert not any("generate" in m.__dict__ or "prepare_inputs_for_generation" in m.__dict__ for m in model.modules())
    assert not any(m._forward_pre_hooks for name, m in model.named_modules() if "layers.0" in name)


def test_calls_awaited_in_threads_are_all_samples(llama):
    inputs = tiny_inputs("llama")

    async def serve():
        calls = (asyncio.to_thread(llama.generate, **inputs, do_sample=False, max_new_tokens=n) for n in (2, 3, 4, 5))
        return await asyncio.gather(*calls)

    with laptime.StageTimer(llama) as timer:
        outputs = asyncio.run(serve())
    assert sorted(sample.output_tokens for sample in timer.samples) == [2, 3, 4, 5]
    assert sorted(output.shape[1] for output in outputs) == [10, 11, 12, 13]
    assert timer.failures == []


def test_a_call_that_raises_in_one_thread_leaves_the_others_measured(llama):
    inputs = tiny_inputs("llama")
    problems = []

    def refused():
        try:
            llama.generate(**inputs, **GREEDY, prompt_lookup_num_tokens=3)
        except LaptimeError as error:
            problems.append(str(error))

    with laptime.StageTimer(llama) as timer:
        threads = [
            threading.Thread(target=llama.generate, kwargs={**inputs, **GREEDY}),
            threading.Thread(target=refused),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(timer.samples) == len(problems) == 1
    assert set(llama.__dict__) == set(build("llama").__dict__)


def test_a_criterion_inside_a_generate_of_the_users_own_is_seen(llama):
    own = llama.generate
    llama.generate = lambda **call: own(**call, stopping_criteria=[lambda ids, scores, **_: ids[:, -1] >= 0])
    with laptime.StageTimer(llama) as timer:
        llama.generate(**tiny_inputs("llama"), **GREEDY)
    assert (timer.last.output_tokens, timer.failures) == (1, [])


@pytest.mark.parametrize("kind", ["lora", "prompt tuning", "prefix tuning"])
def test_an_adapter_is_seen_through(llama, kind):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    virtual = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 4}
    config = {
        "lora": peft.LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"),
        "prompt tuning": peft.PromptTuningConfig(**virtual),
        "prefix tuning": peft.PrefixTuningConfig(**virtual),
    }[kind]
    model = peft.get_peft_model(llama, config).eval()
    bare = model.generate(**tiny_inputs("llama"), **GREEDY)
    language = None if kind == "lora" else "base_model.model"
    for named in (None, language):
        with laptime.StageTimer(model, language=named) as timer:
            output = model.generate(**tiny_inputs("llama"), **GREEDY)
        assert torch.equal(output, bare)
        assert (timer.last.output_tokens, timer.last.decode_forwards) == (5, 4)
        assert timer.last.stages.decode_ms > 0
    assert not any("generate" in module.__dict__ for module in model.modules())


def test_a_generate_that_drops_the_processors_it_was_given_is_measured_all_the_same():
    """As Janus's does: it takes logits_processor by name and hands its own loop none."""

    class Dropping(type(build("llama"))):
        def generate(self, inputs=None, logits_processor=None, **kwargs):
            return super().generate(inputs, **kwargs)

    model = build("llama")
    model.__class__ = Dropping
    call = tiny_inputs("llama")
    bare = model.generate(call["input_ids"], max_new_tokens=4)
    with laptime.StageTimer(model) as timer:
        timed = model.generate(call["input_ids"], max_new_tokens=4)
    assert torch.equal(bare, timed)
    assert timer.failures == []
    assert (timer.last.output_tokens, timer.last.decode_forwards) == (4, 3)
    assert "_get_logits_processor" not in vars(model)
