"""FastModel on a CPU: the model's own tokens through the same buffers that a GPU captures, and what it passes by."""

import re
import threading

import pytest
import torch
from transformers import LlamaConfig, MistralConfig

import laptime
from laptime.decoder import FastModel, timed_generate
from laptime.decoder.aligned_weights import Aligned
from laptime.decoder.fast_model import LateSetting, Setting
from laptime.decoder.prompt import bucket_of
from laptime.decoder.state import Sampling, new_state
from laptime.decoder.vision import Tower
from laptime.errors import LaptimeError
from laptime.models.block_experts import own_experts
from laptime.models.knob_switch import KnobSwitch, LateKnobs
from laptime.models.knobs import ModelKnobs, applied
from tests.decoder.test_decoder import REFUSED, SUPPORTED, built, padded
from tests.models.tiny import TEXT, VLM_CONFIGS, VLM_FAMILIES, build, tiny_inputs

NEW = 8
GREEDY = {"max_new_tokens": NEW, "do_sample": False}


@pytest.mark.parametrize("family", SUPPORTED)
def test_tokens_are_those_of_the_model_in_every_family(family):
    model = built(family)
    with FastModel(model) as fast:
        for batch in (1, 3):
            inputs = tiny_inputs(family, batch=batch, text=9, seed=batch)
            own = model.generate(**inputs, **GREEDY, return_dict_in_generate=True, output_logits=True)
            assert torch.equal(fast.generate(**inputs, **GREEDY), own.sequences)
            state = fast.decoder.session(batch, own.sequences.shape[1], Sampling()).state
            torch.testing.assert_close(state.logits, own.logits[-1], rtol=1e-4, atol=1e-4)
        assert fast.passed_by == {}
        assert {part.part for part in fast.parts()} == (
            {"vision", "prefill"} if family in VLM_FAMILIES else {"prefill"}
        )


@pytest.mark.parametrize("family", ["llava_next", "internvl", "qwen2_5_vl", "qwen3_vl"])
def test_other_images_give_other_tokens_in_the_same_bucket(family):
    model = built(family)
    seen = []
    with FastModel(model) as fast:
        for seed in (1, 2, 1):
            inputs = tiny_inputs(family, text=9, seed=seed)
            own = model.generate(**inputs, **GREEDY)
            assert torch.equal(fast.generate(**inputs, **GREEDY), own)
            state = fast.decoder.session(1, own.shape[1], Sampling()).state
            seen.append(state.logits.clone())
        assert len(fast.parts()) == 2
    assert torch.equal(seen[0], seen[2])
    assert not torch.allclose(seen[0], seen[1], rtol=1e-3)


def test_images_of_several_sizes_at_native_resolution():
    model = built("qwen2_5_vl")
    one = tiny_inputs("qwen2_5_vl", text=9)
    grid = torch.tensor([[1, 4, 10]])  # 40 patches, 10 tokens, windows of unequal size
    ids = torch.cat([one["input_ids"][:, :2], torch.full((1, 10), 310), one["input_ids"][:, -8:]], dim=1)
    wide = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": torch.randn(40, 1176, generator=torch.Generator().manual_seed(3)),
        "image_grid_thw": grid,
        "mm_token_type_ids": (ids == 310).int(),
    }
    with FastModel(model) as fast:
        for inputs in (one, wide, one):
            own = model.generate(**inputs, **GREEDY)
            assert torch.equal(fast.generate(**inputs, **GREEDY), own)
        assert sum(part.part == "vision" for part in fast.parts()) == 2


@pytest.mark.parametrize("family", ["qwen3", "olmoe", "qwen2_5_vl", "internvl"])
def test_left_padded_rows_get_their_own_positions(family):
    model = built(family)
    inputs = tiny_inputs(family, batch=3, text=14)
    if family in VLM_FAMILIES:  # a row that starts later keeps its image
        inputs["attention_mask"][0, 0] = 0
    else:
        inputs = padded(inputs, (14, 9, 3))
    own = model.generate(**inputs, **GREEDY)
    with FastModel(model) as fast:
        assert torch.equal(fast.generate(**inputs, **GREEDY), own)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (lambda inputs: {"image_grid_thw": None}, "image_grid_thw is missing"),
        (lambda inputs: {"mm_token_type_ids": None}, "mm_token_type_ids is missing"),
        (lambda inputs: {"image_grid_thw": inputs["image_grid_thw"][:1]}, "(1 images) don't belong together"),
        (
            lambda inputs: {"attention_mask": inputs["attention_mask"].index_fill(1, torch.tensor([3]), 0)},
            "(2 images) don't belong together",
        ),
    ],
)
def test_inputs_at_native_resolution_that_do_not_belong_together_are_one_line(changed, line):
    model = built("qwen2_5_vl")
    inputs = tiny_inputs("qwen2_5_vl", batch=2, text=9)
    own = model.generate(**inputs, **GREEDY)
    with FastModel(model) as fast:
        with pytest.raises(LaptimeError, match=re.escape(line)):
            fast.generate(**{**inputs, **changed(inputs)}, **GREEDY)
        assert torch.equal(fast.generate(**inputs, **GREEDY), own)


def test_prompts_of_all_lengths_around_a_bucket_s_end_and_a_long_one_before_a_short_one():
    model = built("llama", config=LlamaConfig(**{**TEXT, "max_position_embeddings": 4096}))
    with FastModel(model) as fast:
        for text, new in ((200, 20), (63, 1), (64, 5), (65, 5), (3, 30), (1020, 3), (1024, 2)):
            inputs = tiny_inputs("llama", text=text, seed=text)
            own = model.generate(**inputs, max_new_tokens=new, do_sample=False)
            assert torch.equal(fast.generate(**inputs, max_new_tokens=new, do_sample=False), own)


def test_a_batch_of_32():
    model = built("qwen3")
    inputs = padded(tiny_inputs("qwen3", batch=32, text=20), [20 - row % 17 for row in range(32)])
    with FastModel(model) as fast:
        assert torch.equal(fast.generate(**inputs, **GREEDY), model.generate(**inputs, **GREEDY))


@pytest.mark.parametrize("tokens", [1, 64, 65, 1042, 2048, 2049, 5000, 40_000])
def test_a_bucket_holds_its_prompts_and_little_more(tokens):
    assert tokens <= bucket_of(tokens) <= max(tokens + 63, tokens * 1.04)
    assert bucket_of(bucket_of(tokens)) == bucket_of(tokens)


def test_eos_ends_rows_and_pads_them():
    model = built("qwen3")
    inputs = padded(tiny_inputs("qwen3", batch=3, text=14), (14, 9, 3))
    new = model.generate(**inputs, **GREEDY)[:, 14:]
    with FastModel(model) as fast:
        for eos in ([int(new[0, 2])], [int(new[0, 0]), int(new[1, 0]), int(new[2, 0])], [int(new[1, 4])]):
            call = {**GREEDY, "eos_token_id": eos, "pad_token_id": 7}
            assert torch.equal(fast.generate(**inputs, **call), model.generate(**inputs, **call))
        assert torch.equal(fast.generate(**inputs, **GREEDY)[:, 14:], new), "the ends stop with their call"


def test_sampling_is_seeded_from_the_first_token_on():
    model = built("llama")
    inputs = tiny_inputs("llama", text=11)
    call = {"max_new_tokens": NEW, "do_sample": True}
    greedy = model.generate(**inputs, **GREEDY)
    with FastModel(model) as fast:
        one = fast.generate(**inputs, **call, seed=1)
        assert torch.equal(fast.generate(**inputs, **call, seed=1), one)
        assert len({int(fast.generate(**inputs, **call, seed=seed)[0, 11]) for seed in range(8)}) > 1
        for only_best in ({"top_k": 1}, {"top_p": 1e-6, "top_k": 0}):
            assert torch.equal(fast.generate(**inputs, **call, **only_best, seed=3), greedy)


def test_without_a_seed_torch_s_own_generator_decides():
    model = built("llama")
    inputs = tiny_inputs("llama", text=9)
    with FastModel(model) as fast:

        def draw():
            return fast.generate(**inputs, max_new_tokens=NEW, do_sample=True)

        torch.manual_seed(5)
        one, two = draw(), draw()
        torch.manual_seed(5)
        assert torch.equal(draw(), one)
    assert not torch.equal(one, two)


def test_suppressed_tokens_never_come():
    model = built("llama")
    inputs = tiny_inputs("llama", text=11)
    free = model.generate(**inputs, **GREEDY)
    banned = sorted({int(token) for token in free[0, 11:]})
    with FastModel(model) as fast:
        got = fast.generate(**inputs, **GREEDY, suppress_tokens=banned)
        assert torch.equal(got, model.generate(**inputs, **GREEDY, suppress_tokens=banned))
        assert torch.equal(fast.generate(**inputs, **GREEDY), free)


def test_top_k_is_what_the_gates_say_now():
    model = built("olmoe")
    inputs = tiny_inputs("olmoe", text=11)
    with FastModel(model) as fast:
        for top_k in (2, 1, 3):
            for layer in model.model.layers:
                layer.mlp.gate.top_k = top_k
            assert torch.equal(fast.generate(**inputs, **GREEDY), model.generate(**inputs, **GREEDY))


def test_a_model_with_images_answers_a_question_without_one():
    model = built("internvl")
    inputs = tiny_inputs("internvl", text=9)
    text = {key: inputs[key][:, -7:] for key in ("input_ids", "attention_mask")}
    with FastModel(model) as fast:
        for given in (inputs, text, inputs):
            assert torch.equal(fast.generate(**given, **GREEDY), model.generate(**given, **GREEDY))


def test_a_sliding_window_may_not_be_outgrown():
    model = built("mistral", config=MistralConfig(**TEXT, sliding_window=32))
    inputs = tiny_inputs("mistral", text=20)
    with FastModel(model) as fast:
        own = model.generate(**inputs, max_new_tokens=12, do_sample=False)
        assert torch.equal(fast.generate(**inputs, max_new_tokens=12), own)
        with pytest.raises(LaptimeError, match="sliding window of 32"):
            fast.generate(**inputs, max_new_tokens=13)


@pytest.mark.parametrize("family", REFUSED)
def test_models_that_the_decoder_refuses_are_refused_by_name(family):
    with pytest.raises(LaptimeError, match=REFUSED[family]):
        FastModel(built(family))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        ({"num_beams": 2}, "num_beams"),
        ({"streamer": object()}, "streamer"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"do_sample": True, "temperature": 0.0}, "temperature"),
    ],
)
def test_settings_that_it_can_t_honour_are_refused_by_name(call, word):
    with FastModel(built("llama")) as fast, pytest.raises(LaptimeError, match=word):
        fast.generate(**tiny_inputs("llama"), **{"max_new_tokens": 4, **call})


def test_what_the_fast_prefill_does_not_read_takes_the_model_s_own_and_says_so():
    model = built("llama")
    inputs = tiny_inputs("llama", text=11)
    places = torch.arange(11)[None]
    with FastModel(model) as fast:
        got = fast.generate(**inputs, **GREEDY, position_ids=places)
        assert torch.equal(got, model.generate(**inputs, **GREEDY, position_ids=places))
        fast.generate(**inputs, **GREEDY, prefill_chunk_size=4)
        with pytest.raises(LaptimeError, match="past_key_values is not supported"):
            fast.generate(**inputs, **GREEDY, past_key_values=object())
        assert fast.why_not({"images": ["a.png"]}) == "images is an input that the fast prefill doesn't read"
        assert "attention_mask is a list" in fast.why_not({"attention_mask": [1, 1]})
        assert fast.why_not({"use_cache": True, "top_k": 3, "seed": 1, "position_ids": None}) is None
        assert sorted(fast.passed_by) == [
            "position_ids is an input that the fast prefill doesn't read",
            "prefill_chunk_size is set",
        ]
        ids, sample = timed_generate(fast, **inputs, **GREEDY, prefill_chunk_size=4)
        assert torch.equal(ids, got)
        assert sample.stages.prefill_ms > 0


def test_a_tower_s_mlp_of_an_odd_width_computes_the_same_filled_up():
    config = VLM_CONFIGS["qwen2_5_vl"]()
    config.vision_config.intermediate_size = 30
    model = built("qwen2_5_vl", config=config)
    inputs = tiny_inputs("qwen2_5_vl", text=9)
    aligned = Aligned(model.model)
    assert aligned.nbytes == 2 * 4 * (3 * 32 * 24 + 2 * 32)  # two blocks of float32: gate, up, down, two biases
    features = [Tower(model.model, inputs, torch.float32, wide)().first for wide in (None, aligned)]
    torch.testing.assert_close(features[0], features[1])
    assert model.model.visual.blocks[0].mlp.down_proj.weight.shape == (24, 30)


def scaled(weight):
    weight.mul_(-3.0)


def merged_into(weight):
    weight.data += torch.linspace(-1, 1, weight.numel()).view_as(weight)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("change", [scaled, merged_into])
@pytest.mark.parametrize("which", ["gate_proj.weight", "gate_proj.bias", "up_proj.weight", "down_proj.weight"])
def test_copies_of_a_tower_s_weights_follow_changes_in_place(which, change, inference):
    """To the memory that graphs read: the copies stay where they are."""
    with torch.inference_mode(inference):
        config = VLM_CONFIGS["qwen2_5_vl"]()
        config.vision_config.intermediate_size = 30
        model = built("qwen2_5_vl", config=config)
        model.model.visual.blocks[1].mlp.gate_proj.bias.fill_(0.3)
    inputs = tiny_inputs("qwen2_5_vl", text=9)
    aligned = Aligned(model.model)
    with aligned.put_in():
        places = [one.data_ptr() for one in model.model.visual.parameters()]
    own, tower = (Tower(model.model, inputs, torch.float32, wide) for wide in (None, aligned))
    before = own().first
    assert not aligned.refresh()
    with torch.inference_mode(inference):
        change(model.model.visual.blocks[1].mlp.get_parameter(which))
    assert aligned.refresh()
    assert not aligned.refresh()
    assert not torch.allclose(own().first, before)
    torch.testing.assert_close(tower().first, own().first)
    with aligned.put_in():
        assert places == [one.data_ptr() for one in model.model.visual.parameters()]


def test_image_tokens_and_features_must_be_as_many():
    model = built("internvl")
    inputs = tiny_inputs("internvl", text=9)
    inputs["pixel_values"] = inputs["pixel_values"].repeat(2, 1, 1, 1)
    with FastModel(model) as fast, pytest.raises(LaptimeError, match="1 image tokens and the images give 2 features"):
        fast.generate(**inputs, **GREEDY)


def test_two_images_in_a_row_and_two_rows_of_one_image_are_told_apart():
    model = built("qwen2_5_vl")
    two = tiny_inputs("qwen2_5_vl", text=9, batch=2)
    row = {name: two[name].reshape(1, -1) for name in ("input_ids", "attention_mask", "mm_token_type_ids")}
    with FastModel(model) as fast:
        for inputs in (two, {**two, **row}, two):  # the same numbers, in other shapes
            assert torch.equal(fast.generate(**inputs, **GREEDY), model.generate(**inputs, **GREEDY))


def test_a_hook_in_the_tower_gets_its_call():
    model = built("internvl")
    inputs = tiny_inputs("internvl", text=9)
    with FastModel(model) as fast:
        fast.generate(**inputs, **GREEDY)
        assert fast.passed_by == {}
        called = []
        handle = model.model.vision_tower.register_forward_hook(lambda *_: called.append(1))
        assert torch.equal(fast.generate(**inputs, **GREEDY), model.generate(**inputs, **GREEDY))
        assert len(called) == 2
        assert list(fast.passed_by) == ["vision_tower has a forward hook, which a replay would pass by"]
        handle.remove()
        fast.generate(**inputs, **GREEDY)
        assert sum(fast.passed_by.values()) == 1


@pytest.mark.parametrize(
    ("ids", "mask", "says"),
    [
        ([[1, 2]], None, "input_ids is a list"),
        (torch.tensor([1, 2]), None, r"shape \(2,\)"),
        (torch.ones(1, 0, dtype=torch.int64), None, r"shape \(1, 0\)"),
        (torch.ones(0, 3, dtype=torch.int64), None, r"shape \(0, 3\)"),
        (torch.ones(1, 3), None, "float32"),
        (torch.tensor([[1, -2]]), None, "hold -2.*0 to 319"),
        (torch.tensor([[1, 320]]), None, "hold 320"),
        (torch.tensor([[1, 2]]), torch.ones(1, 3), r"attention_mask has the shape \(1, 3\)"),
        (torch.tensor([[1, 2]]), torch.ones(1, 1, 2, 2), r"attention_mask has the shape \(1, 1, 2, 2\)"),
        (torch.tensor([[1, 2]]), torch.zeros(1, 2), "last token of a row is masked"),
    ],
)
def test_ids_and_masks_that_are_none_are_refused_in_a_line(ids, mask, says):
    with FastModel(built("llama")) as fast, pytest.raises(LaptimeError, match=says):
        fast.generate(ids, attention_mask=mask, **GREEDY)


def test_a_masked_id_may_be_any_number():
    model = built("llama")
    ids = torch.tensor([[-100, 5, 6, 7]])
    mask = torch.tensor([[0, 1, 1, 1]])
    with FastModel(model) as fast:
        got = fast.generate(ids, attention_mask=mask, **GREEDY)
        assert torch.equal(got[:, 1:], model.generate(ids[:, 1:], **GREEDY))


def test_calls_of_several_threads_follow_one_another_and_none_runs_inside_another():
    model = built("llama")
    inputs, other = tiny_inputs("llama", text=9, seed=1), tiny_inputs("llama", text=12, seed=2)
    own, others = model.generate(**inputs, **GREEDY), model.generate(**other, **GREEDY)
    got = []
    with FastModel(model) as fast:
        thread = threading.Thread(target=lambda: got.append(fast.generate(**other, **GREEDY)))

        def choose(hidden):
            if not thread.is_alive():
                thread.start()
                thread.join(0.3)  # long enough to spoil the buffers, if it were let
            with pytest.raises(LaptimeError, match="a call inside a call"):
                fast.generate(**other, **GREEDY)
            return Setting()

        late = LateSetting(early=0, top_k=None, choose=choose)
        ids, rest = inputs["input_ids"], {"attention_mask": inputs["attention_mask"], **GREEDY}
        assert torch.equal(fast.run(ids, rest, setting=late)[0], own)
        thread.join()
        assert torch.equal(got[0], others)
        assert torch.equal(fast.generate(**inputs, **GREEDY), own)


def test_an_interrupted_call_leaves_nothing_behind():
    model = built("internvl")
    inputs = tiny_inputs("internvl", text=9)
    ids, rest = inputs["input_ids"], {k: v for k, v in inputs.items() if k != "input_ids"}
    own = model.generate(**inputs, **GREEDY)
    with FastModel(model) as fast:
        for stop in ("vision-begin", "vision-end", "prefill-begin", "first-token", "decode-begin"):

            def mark(kind, stop=stop):
                if kind == stop:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                fast.run(ids, {**rest, **GREEDY}, mark=mark)
            assert torch.equal(fast.generate(**inputs, **GREEDY), own)


def test_the_longest_unused_bucket_is_dropped_when_memory_is_bounded():
    model = built("llama", config=LlamaConfig(**{**TEXT, "max_position_embeddings": 4096}))
    with FastModel(model, memory_gib=2 * 40_000 / 2**30) as fast:
        for text in (60, 120, 180, 60):
            inputs = tiny_inputs("llama", text=text, seed=text)
            own = model.generate(**inputs, max_new_tokens=3, do_sample=False)
            assert torch.equal(fast.generate(**inputs, max_new_tokens=3), own)
            assert fast.bucket_bytes <= 40_000
        assert 1 <= len(fast.parts()) < 3
    with pytest.raises(LaptimeError, match="memory_gib"):
        FastModel(model, memory_gib=0)


def test_caches_of_other_sizes_are_dropped_when_they_are_bounded_and_answers_stay_right():
    model = built("internvl")
    with FastModel(model) as fast:
        for limit, most in ((None, 4), (0, 1)):
            fast.decoder.cache_gib = limit
            for batch, text in ((1, 9), (2, 9), (1, 1100), (3, 9), (1, 9), (2, 9)):
                inputs = tiny_inputs("internvl", text=text, batch=batch)
                call = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": 7 + batch}
                assert torch.equal(fast.generate(**inputs, **call), model.generate(**inputs, **call))
                largest = fast.plan.cache_bytes(1536, 1) + fast.plan.cache_bytes(1024, 6)
                assert 0 < fast.decoder.cache_bytes <= (largest if limit is None else fast.plan.cache_bytes(1024, 3))
            assert len({session.state for session in fast.decoder.sessions}) == most
        assert {part.bucket.split(",")[0] for part in fast.parts() if part.part == "prefill"} == {"(2"}


def test_no_room_drops_what_others_left_and_says_so_when_that_is_not_enough(monkeypatch):
    model = built("llama")
    full = [0]

    def scarce(plan, batch, capacity):
        if full[0]:
            full[0] -= 1
            raise torch.OutOfMemoryError
        return new_state(plan, batch, capacity)

    monkeypatch.setattr("laptime.decoder.decoder.new_state", scarce)
    with FastModel(model) as fast:
        for batch in (1, 2):
            fast.generate(**tiny_inputs("llama", batch=batch), **GREEDY)
        full[0] = 1
        inputs = tiny_inputs("llama", batch=3)
        assert torch.equal(fast.generate(**inputs, **GREEDY), model.generate(**inputs, **GREEDY))
        assert {session.state.batch for session in fast.decoder.sessions} == {2, 3}
        full[0] = 9
        with pytest.raises(LaptimeError, match="no room for a cache of 1024 positions for 4 rows"):
            fast.generate(**tiny_inputs("llama", batch=4), **GREEDY)
        full[0] = 0
        assert torch.equal(fast.generate(**inputs, **GREEDY), model.generate(**inputs, **GREEDY))


def test_ever_new_temperatures_are_answered_with_few_sessions(monkeypatch):
    monkeypatch.setattr("laptime.decoder.decoder.MOST_SESSIONS", 3)
    model = built("llama")
    inputs = tiny_inputs("llama")

    def drawn(fast, tenth):
        return fast.generate(**inputs, max_new_tokens=NEW, do_sample=True, temperature=tenth / 10, seed=4)

    with FastModel(model) as fast:
        first = [drawn(fast, tenth) for tenth in range(5, 13)]
        assert len(fast.decoder.sessions) <= 3
        again = [drawn(fast, tenth) for tenth in range(5, 13)]
    assert all(map(torch.equal, first, again))


@pytest.mark.parametrize("family", ["llama", "internvl", "qwen3_vl"])
@pytest.mark.parametrize("per_token", [False, True])
def test_the_stages_of_a_call_close(family, per_token):
    model = build(family).requires_grad_(False)
    inputs = tiny_inputs(family, text=9, batch=2)
    ids = inputs.pop("input_ids")
    with FastModel(model) as fast:
        output, sample = timed_generate(fast, ids, per_token=per_token, max_new_tokens=6, do_sample=False, **inputs)
        assert torch.equal(output, fast.generate(ids, max_new_tokens=6, do_sample=False, **inputs))
    assert sample.stages.closes()
    assert (sample.stages.vision_ms > 0) is (family != "llama")
    assert sample.stages.prefill_ms > 0
    assert (sample.output_tokens, sample.decode_forwards, sample.batch) == (6, 5, 2)
    assert (len(sample.itl_ms) == 5) if per_token else (sample.itl_ms is None)


def test_a_stage_timer_says_why_it_can_t_time_it_and_what_can():
    with FastModel(built("llama")) as fast:
        for replaying in (fast, fast.decoder):
            with pytest.raises(LaptimeError, match=r"is no torch module.*laptime\.decoder\.timed_generate"):
                laptime.StageTimer(replaying)


def test_the_model_is_as_before_afterwards():
    model = built("qwen2_5_vl")
    inputs = tiny_inputs("qwen2_5_vl", text=9)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    attention = model.config.vision_config._attn_implementation
    with laptime.FastModel(model) as fast:
        fast.generate(**inputs, **GREEDY)
    assert model.config.vision_config._attn_implementation == attention
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
    with pytest.raises(LaptimeError, match="closed"):
        fast.generate(**inputs, **GREEDY)


@pytest.mark.parametrize("family", ["qwen3", "olmoe", "qwen2_5_vl", "qwen3_vl_moe"])
def test_a_setting_of_one_call_gives_the_tokens_of_the_model_set_so(family):
    model = built(family)
    inputs = tiny_inputs(family, text=9)
    routed = family in ("olmoe", "qwen3_vl_moe")
    with FastModel(model) as fast:
        for active, top_k in (((0, 2), None), (None, 1 if routed else None), ((0, 2), 3 if routed else None)):
            knobs = ModelKnobs(top_k=top_k, active=active, blocks=None if active is None else len(active))
            with applied(model, knobs):
                own = model.generate(**inputs, **GREEDY)
            ids, rest = inputs["input_ids"], {k: v for k, v in inputs.items() if k != "input_ids"}
            got, steps = fast.run(ids, {**rest, **GREEDY}, setting=Setting(active, top_k))
            assert torch.equal(got, own)
            assert steps == NEW - 1
        assert torch.equal(fast.generate(**inputs, **GREEDY), model.generate(**inputs, **GREEDY)), "settings are undone"


@pytest.mark.parametrize("family", ["olmoe", "qwen3_vl_moe"])
def test_experts_of_each_block_are_those_of_the_model_set_so(family):
    model = built(family)
    inputs = tiny_inputs(family, text=9)
    own_numbers = own_experts(model)
    experts = tuple(min(number, 1 + index % 3) for index, number in enumerate(own_numbers))
    assert len(set(experts) - {0}) > 1
    ids, rest = inputs["input_ids"], {k: v for k, v in inputs.items() if k != "input_ids"}
    with FastModel(model) as fast:
        for active in (None, (0, 2)):
            with applied(
                model, ModelKnobs(experts=experts, active=active, blocks=None if active is None else len(active))
            ):
                own = model.generate(**inputs, **GREEDY)
            got, _ = fast.run(ids, {**rest, **GREEDY}, setting=Setting(active, experts))
            assert torch.equal(got, own)
        for wrong, says in ((experts[:-1], "one each|give one"), ((99, *experts[1:]), "block 0: 99 experts")):
            with pytest.raises(LaptimeError, match=says):
                fast.run(ids, {**rest, **GREEDY}, setting=Setting(None, wrong))
    assert own_experts(model) == own_numbers


def test_crops_may_be_set_afterwards_and_blocks_may_not():
    model = built("llava_onevision")
    inputs = tiny_inputs("llava_onevision", text=9)
    with FastModel(model) as fast:
        with applied(model, ModelKnobs(crops=(2, 2))), pytest.raises(LaptimeError, match=r"applied\(crops") as said:
            fast.generate(**inputs, **GREEDY)  # the inputs were cut for other crops
        assert "\n" not in str(said.value)
        with applied(model, ModelKnobs(crops=(1, 3))):
            assert torch.equal(fast.generate(**inputs, **GREEDY), model.generate(**inputs, **GREEDY))
        with applied(model, ModelKnobs(blocks=2)):
            for replaying in (fast, fast.decoder):
                with pytest.raises(LaptimeError, match="blocks are others"):
                    replaying.generate(**inputs, **GREEDY)
        assert torch.equal(fast.generate(**inputs, **GREEDY), model.generate(**inputs, **GREEDY))


def test_a_late_choice_sees_the_early_block_and_goes_on_as_it_says():
    model = built("olmoe")
    inputs = tiny_inputs("olmoe", text=9)
    ids, rest = inputs["input_ids"], {"attention_mask": inputs["attention_mask"], **GREEDY}
    seen = []

    def choosing(setting):
        def choose(hidden):
            seen.append(hidden.clone())
            return setting

        return LateSetting(early=0, top_k=1, choose=choose)

    blocks = []
    with FastModel(model) as fast:
        for setting in (Setting((0, 2), 2), Setting(None, 1), Setting((0, 1, 2), 3), Setting((0, 2), 2)):
            got, _ = fast.run(ids, rest, setting=choosing(setting))
            switch = KnobSwitch(model, top_ks=[1, 2, 3], blocks=[2, 3], active={2: (0, 2)})
            knobs = LateKnobs(setting.top_k, None if setting.active is None else len(setting.active))
            with switch.late(lambda hidden, knobs=knobs: blocks.append(hidden) or knobs):
                own = model.generate(**inputs, **GREEDY)
            assert torch.equal(got, own)
        two = {name: torch.cat([value, value]) for name, value in inputs.items()}
        with pytest.raises(LaptimeError, match="2 rows"):
            fast.run(two.pop("input_ids"), {**two, **GREEDY}, setting=choosing(Setting()))
        with pytest.raises(LaptimeError, match="prefill_chunk_size"):
            fast.run(ids, {**rest, "prefill_chunk_size": 4}, setting=Setting())
    for mine, own in zip(seen, blocks, strict=True):
        torch.testing.assert_close(mine, own, rtol=1e-4, atol=1e-4)
