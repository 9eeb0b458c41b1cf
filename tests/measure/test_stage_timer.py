"""StageTimer on real transformers models with random weights. Every way of generating is measured or refused."""

import gc
import statistics
import time

import pytest
import torch
from transformers import CompileConfig, GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria
from transformers.generation.streamers import BaseStreamer

import laptime
from laptime.data.usable import usable
from laptime.errors import LaptimeError
from tests.models.tiny import FAMILIES, VLM_FAMILIES, build, tiny_inputs

GREEDY = {"do_sample": False, "max_new_tokens": 6}


@pytest.fixture(scope="module")
def llama():
    return build("llama")


@pytest.fixture(scope="module")
def vlm():
    return build("llava_next")


def timed(model, inputs, **settings):
    timer_settings = {name: settings.pop(name) for name in ("per_token",) if name in settings}
    with laptime.StageTimer(model, **timer_settings) as timer:
        output = model.generate(**inputs, **{**GREEDY, **settings})
    return timer.last, output


def assert_sound(sample):
    """What holds for every sample, whatever was generated."""
    assert sample.stages.closes()
    assert sample.host_stages.closes()
    assert 0 < sample.ttft_ms <= sample.stages.total_ms
    assert sample.stages.prefill_ms > 0


def state(model):
    """What a timer could leave behind: attributes of the instance and hooks anywhere (transformers has its own)."""
    hooks = {
        name: (list(m._forward_hooks.values()), list(m._forward_pre_hooks.values()))
        for name, m in model.named_modules()
    }
    return set(model.__dict__), hooks


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_partitioned(family):
    model, inputs = build(family), tiny_inputs(family)
    bare = model.generate(**inputs, **GREEDY)
    before = state(model)
    sample, output = timed(model, inputs)
    assert_sound(sample)
    assert sample.output_tokens == 6
    assert sample.decode_forwards == 5
    assert sample.stages.decode_ms > 0
    assert (sample.stages.vision_ms > 0) is (family in VLM_FAMILIES)
    assert (sample.image_tokens > 0) is (family in VLM_FAMILIES)
    assert sample.prompt_tokens == inputs["input_ids"].shape[1]
    assert "forwards-mismatch" not in sample.flags
    assert state(model) == before
    torch.testing.assert_close(output, bare)


def test_stages_follow_what_is_made_slow(vlm):
    """A stage that is slowed by PAUSE_S grows by that, and the other stages don't."""
    inputs = tiny_inputs("llava_next")
    timed(vlm, inputs)  # the first call of a model is slower in every stage
    base, _ = timed(vlm, inputs)

    def pause(*_):
        time.sleep(PAUSE_S)

    places = {
        "vision": next(m for name, m in vlm.model.vision_tower.named_modules() if name.endswith("layers.0")),
        "prefill": vlm.model.language_model.layers[0],
        "other": None,
    }
    for stage, module in places.items():
        calls = []

        def once(*_, calls=calls):
            if not calls:
                calls.append(pause())

        if module is None:
            sample, _ = timed(vlm, inputs, stopping_criteria=[_PauseAtFirstToken()])
        else:
            handle = module.register_forward_pre_hook(once)
            sample, _ = timed(vlm, inputs)
            handle.remove()
        for name in ("vision", "prefill", "decode", "other"):
            grown = sample.stages.stage(name) - base.stages.stage(name)
            if name == stage:
                assert grown > 0.8e3 * PAUSE_S
            else:
                assert grown < 0.6e3 * PAUSE_S


PAUSE_S = 0.2


class _PauseAtFirstToken(StoppingCriteria):
    def __init__(self):
        self.calls = 0

    def __call__(self, input_ids, scores, **_):
        self.calls += 1
        if self.calls == 1:
            time.sleep(PAUSE_S)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


def test_a_slow_decode_step_is_decode_and_its_own_gap(llama):
    seen = []

    def slow_third(*_):
        seen.append(1)
        if len(seen) == 3:
            time.sleep(0.5)

    handle = llama.model.layers[1].register_forward_pre_hook(slow_third)
    sample, _ = timed(llama, tiny_inputs("llama"), per_token=True)
    handle.remove()
    assert sample.stages.decode_ms > 495
    assert len(sample.itl_ms) == 5
    assert sample.ttft_ms < sample.stages.total_ms - 495
    assert sample.itl_ms.index(max(sample.itl_ms)) == 1  # forwards: prefill, step 1, step 2 = the gap after token 2


def test_the_first_block_and_the_embedding_belong_to_prefill(llama):
    for module in (llama.model.embed_tokens, llama.model.layers[0]):
        calls = []
        handle = module.register_forward_hook(lambda *_, calls=calls: calls.append(calls or time.sleep(0.6)))
        sample, _ = timed(llama, tiny_inputs("llama"))
        handle.remove()
        assert sample.stages.prefill_ms > 595  # far above what the prefill itself takes, also on a busy machine
        assert sample.stages.other_ms < sample.stages.total_ms - 595


def test_per_token_and_total_mode_give_the_same_stages_of_the_same_call(llama):
    """Both modes mark one call at once: an outer total timer's marks and the per-token ones are the same instants."""
    from laptime.measure.clock import HostClock
    from laptime.measure.probes import Probes
    from laptime.measure.timeline import partition
    from laptime.models.anatomy import find_anatomy

    anatomy = find_anatomy(llama)
    every, last = HostClock(), HostClock()
    inputs = tiny_inputs("llama")
    outer = Probes(llama, anatomy, every, per_token=True, last_step=None)
    inner = Probes(llama, anatomy, last, per_token=False, last_step=None)
    with outer, inner:
        every.start(), last.start()
        llama.generate(**inputs, **GREEDY, logits_processor=LogitsProcessorList([outer, inner]))
        every.mark("end"), last.mark("end")
    one, other = partition(every.resolve()).stages, partition(last.resolve()).stages
    for stage in ("vision", "prefill", "decode", "other", "total"):
        assert one.stage(stage) == pytest.approx(other.stage(stage), abs=0.2)


def test_total_mode_takes_no_more_marks_for_more_tokens(llama):
    few, _ = timed(llama, tiny_inputs("llama"), max_new_tokens=3)
    many, _ = timed(llama, tiny_inputs("llama"), max_new_tokens=40)
    assert [m.kind for m in few.marks] == [m.kind for m in many.marks]
    every, _ = timed(llama, tiny_inputs("llama"), max_new_tokens=40, per_token=True)
    assert len(every.itl_ms) == 39
    assert sum(every.itl_ms) <= every.stages.total_ms


def test_one_token_has_no_decode(llama):
    before = state(llama)
    sample, _ = timed(llama, tiny_inputs("llama"), max_new_tokens=1)
    assert state(llama) == before
    assert_sound(sample)
    assert (sample.output_tokens, sample.decode_forwards) == (1, 0)
    assert (sample.stages.decode_ms, sample.tpot_ms, sample.decode_per_token_ms) == (None, None, None)
    assert sample.ttft_ms == sample.stages.total_ms


def test_eos_before_the_limit_is_counted_from_the_ids(llama):
    free = llama.generate(**tiny_inputs("llama"), **GREEDY)[0, -6:].tolist()
    stop = free[2]
    first = free.index(stop) + 1
    sample, _ = timed(llama, tiny_inputs("llama"), eos_token_id=stop)
    assert_sound(sample)
    assert (sample.output_tokens, sample.decode_forwards) == (first, first - 1)
    assert sample.output_ids == [free[:first]]
    if first > 1:
        assert 0 < sample.tpot_ms * (first - 1) <= sample.stages.total_ms - sample.ttft_ms


def test_a_left_padded_batch_counts_each_row_to_its_end(llama):
    inputs = tiny_inputs("llama", batch=3)
    inputs["attention_mask"][0, :4] = 0
    inputs["input_ids"][0, :4] = 0
    rows = llama.generate(**inputs, **GREEDY)[:, -6:].tolist()
    stop = rows[1][1]
    sample, output = timed(llama, inputs, eos_token_id=stop)
    assert_sound(sample)
    lengths = [row.index(stop) + 1 if stop in row else 6 for row in rows]
    assert [len(row) for row in sample.output_ids] == lengths
    assert sample.generated_tokens == sum(lengths)
    assert sample.output_tokens == max(lengths) == output.shape[1] - 8
    assert (sample.batch, sample.decode_forwards) == (3, max(lengths) - 1)


def test_chunked_prefill_is_one_prefill(llama):
    sample, output = timed(llama, tiny_inputs("llama", text=20), prefill_chunk_size=6)
    assert_sound(sample)
    assert (sample.output_tokens, sample.decode_forwards) == (6, 5)
    entries = []
    handle = llama.model.layers[0].register_forward_pre_hook(lambda *_: entries.append(time.sleep(0.02)))
    slow, _ = timed(llama, tiny_inputs("llama", text=20), prefill_chunk_size=6)
    handle.remove()
    assert len(entries) == 4 + 5
    assert slow.stages.prefill_ms > 80
    torch.testing.assert_close(output, llama.generate(**tiny_inputs("llama", text=20), **GREEDY))


@pytest.mark.parametrize("settings", [{"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}])
def test_beam_search_is_measured_and_its_forwards_counted(llama, settings):
    sample, _ = timed(llama, tiny_inputs("llama"), **settings)
    assert_sound(sample)
    assert sample.decode_forwards == 5
    assert (sample.output_tokens == 6) or ("forwards-mismatch" in sample.flags and sample.decode_per_token_ms is None)


def test_a_forward_whose_token_is_not_returned_is_a_finding(llama):
    def drops_the_last_token(*args, **kwargs):
        return type(llama).generate(llama, *args, **kwargs)[:, :-1]

    llama.generate = drops_the_last_token
    try:
        sample, _ = timed(llama, tiny_inputs("llama"))
    finally:
        del llama.generate
    assert (sample.output_tokens, sample.decode_forwards) == (5, 5)
    assert "forwards-mismatch" in sample.flags
    assert sample.decode_per_token_ms is None
    assert sample.stages.closes()


def test_nothing_of_ours_is_on_the_modules_in_a_decode_step(vlm):
    """Hooks that were left would be traced into a compiled decode step."""
    inputs = tiny_inputs("llava_next")
    vlm.generate(**inputs, **GREEDY)
    _, bare = state(vlm)
    seen = []

    def look(ids, scores):
        seen.append(state(vlm))
        return scores

    timed(vlm, inputs, logits_processor=[look])
    for attributes, hooks in seen[1:]:
        assert hooks == bare
        assert "prepare_inputs_for_generation" not in attributes
    assert len(seen) == 6


def test_sampling_streaming_and_structured_output_are_measured(llama):
    class Collect(BaseStreamer):
        def __init__(self):
            self.pieces = 0

        def put(self, value):
            self.pieces += 1

        def end(self):
            self.pieces += 100

    streamer = Collect()
    sample, output = timed(
        llama, tiny_inputs("llama"), do_sample=True, streamer=streamer, return_dict_in_generate=True, output_scores=True
    )
    assert_sound(sample)
    assert (sample.output_tokens, streamer.pieces) == (6, 107)
    assert len(output.scores) == 6


def test_embeddings_as_the_prompt_are_measured(llama):
    embeds = llama.get_input_embeddings()(tiny_inputs("llama")["input_ids"])
    sample, _ = timed(llama, {"inputs_embeds": embeds})
    assert_sound(sample)
    assert (sample.prompt_tokens, sample.output_tokens) == (8, 6)


@pytest.mark.parametrize(
    "settings", [{"prompt_lookup_num_tokens": 3}, {"assistant_model": "itself"}, {"custom_generate": "somewhere/else"}]
)
def test_what_has_no_such_stages_is_refused_by_name(llama, settings):
    if settings.get("assistant_model") == "itself":
        settings = {"assistant_model": build("llama")}
    with laptime.StageTimer(llama) as timer, pytest.raises(LaptimeError, match=r"assisted|custom_generate"):
        llama.generate(**tiny_inputs("llama"), **GREEDY, **settings)
    assert timer.samples == []


def test_a_static_cache_and_a_compiled_decode_are_measured(llama):
    """The compile itself is flagged; afterwards the timer adds no compile and no stage is lost."""
    compiled = CompileConfig(backend="eager", mode=None)
    compiled._compile_all_devices = True
    inputs = tiny_inputs("llama")
    settings = {"cache_implementation": "static", "compile_config": compiled}
    bare = llama.generate(**inputs, **GREEDY, **settings)
    samples = []
    for _ in range(3):
        sample, output = timed(llama, inputs, **settings)
        assert_sound(sample)
        assert (sample.output_tokens, sample.decode_forwards) == (6, 5)
        assert sample.stages.decode_ms > 0
        torch.testing.assert_close(output, bare)
        samples.append(sample)
    assert "recompiled" not in samples[-1].flags
    fresh = build("llama")
    torch.compiler.reset()  # else torch takes the equal model's code
    first, _ = timed(fresh, inputs, **settings)
    assert "recompiled" in first.flags
    again, _ = timed(fresh, inputs, **settings)
    assert "recompiled" not in again.flags
    del llama._compiled_call


def test_a_forward_compiled_by_the_user_is_measured(llama):
    model = build("llama")
    model.forward = torch.compile(model.forward, backend="eager")
    for _ in range(2):
        sample, _ = timed(model, tiny_inputs("llama"))
        assert_sound(sample)
        assert sample.decode_forwards == 5


def test_a_wholly_compiled_model_is_measured_through_its_wrapper(llama):
    wrapper = torch.compile(llama, backend="eager")
    with laptime.StageTimer(wrapper) as timer:
        wrapper.generate(**tiny_inputs("llama"), **GREEDY)
    assert_sound(timer.last)
    assert timer.last.decode_forwards == 5
    assert "generate" not in llama.__dict__


def test_an_exception_in_the_middle_leaves_the_model_as_it_was(vlm):
    inputs = tiny_inputs("llava_next")
    vlm.generate(**inputs, **GREEDY)
    before = state(vlm)

    class Boom(LogitsProcessor):
        def __init__(self, at):
            self.at = at

        def __call__(self, input_ids, scores):
            self.at -= 1
            if self.at < 0:
                raise RuntimeError("boom")
            return scores

    for at in range(3):
        with laptime.StageTimer(vlm) as timer, pytest.raises(RuntimeError, match="boom"):
            vlm.generate(**inputs, **GREEDY, logits_processor=LogitsProcessorList([Boom(at)]))
        assert timer.samples == []
        assert state(vlm) == before
    with laptime.StageTimer(vlm) as timer:
        with pytest.raises(RuntimeError):
            vlm.generate(**inputs, **GREEDY, logits_processor=LogitsProcessorList([Boom(1)]))
        vlm.generate(**inputs, **GREEDY)
    assert len(timer.samples) == 1
    assert_sound(timer.last)
    assert state(vlm) == before


def test_a_generate_of_the_users_own_is_called_and_put_back(llama):
    calls = []

    def own(*args, **kwargs):
        calls.append(1)
        return type(llama).generate(llama, *args, **kwargs)

    llama.generate = own
    try:
        timed(llama, tiny_inputs("llama"))
        assert calls == [1]
        assert llama.generate is own
    finally:
        del llama.generate


def test_a_prepare_inputs_of_the_users_own_is_called_every_step_and_kept(llama):
    calls = []

    def own(*args, **kwargs):
        calls.append(1)
        return type(llama).prepare_inputs_for_generation(llama, *args, **kwargs)

    llama.prepare_inputs_for_generation = own
    try:
        sample, _ = timed(llama, tiny_inputs("llama"))
        assert len(calls) == 6
        assert llama.prepare_inputs_for_generation is own
    finally:
        del llama.prepare_inputs_for_generation
    assert_sound(sample)


def test_nested_timers_are_refused_and_repeated_ones_work(llama):
    with laptime.StageTimer(llama), pytest.raises(LaptimeError, match="timed already"), laptime.StageTimer(llama):
        pass
    for _ in range(2):
        sample, _ = timed(llama, tiny_inputs("llama"))
        assert_sound(sample)


def test_two_models_in_one_process_keep_their_own_marks(llama, vlm):
    with laptime.StageTimer(llama) as text, laptime.StageTimer(vlm) as images:
        vlm.generate(**tiny_inputs("llava_next"), **GREEDY)
        llama.generate(**tiny_inputs("llama"), **GREEDY)
        vlm.generate(**tiny_inputs("llava_next"), **GREEDY)
    assert [s.stages.vision_ms > 0 for s in images.samples] == [True, True]
    assert [s.stages.vision_ms > 0 for s in text.samples] == [False]
    assert [s.sample_id for s in images.samples] == ["0", "1"]


def test_positional_arguments_and_a_generation_config_are_understood(llama):
    ids = tiny_inputs("llama")["input_ids"]
    settings = GenerationConfig(max_new_tokens=4, do_sample=False, pad_token_id=0)
    with laptime.StageTimer(llama) as timer:
        llama.generate(ids, settings)
    assert (timer.last.output_tokens, timer.last.prompt_tokens) == (4, 8)
    assert_sound(timer.last)


def test_a_collection_during_the_call_is_flagged(llama):
    class Collects(LogitsProcessor):
        def __call__(self, input_ids, scores):
            if input_ids.shape[1] == 9:
                gc.collect()
            return scores

    sample, _ = timed(llama, tiny_inputs("llama"), logits_processor=[Collects()])
    assert "gc-pause" in sample.flags
    assert sample.gc_pause_ms > 0


def test_what_is_no_model_to_time_is_said(llama):
    with pytest.raises(LaptimeError, match=r"no generate"):
        laptime.StageTimer(torch.nn.Linear(1, 1))
    with torch.device("meta"):
        empty = type(llama)(llama.config)
    with pytest.raises(LaptimeError, match="no weights"):
        laptime.StageTimer(empty)
    with pytest.raises(LaptimeError, match=r"call was timed"), laptime.StageTimer(llama) as timer:
        _ = timer.last


def test_a_timer_says_in_a_line_what_it_holds(llama):
    with laptime.StageTimer(llama) as timer:
        assert repr(timer) == "<StageTimer: no samples yet>"
        llama.generate(**tiny_inputs("llama"), **GREEDY)
        assert repr(timer) == f"<StageTimer: 1 sample, {timer.last.stages.total_ms:.1f} ms median>"
        for _ in range(2):
            llama.generate(**tiny_inputs("llama"), **GREEDY)
    median = timer.summary().stages["total"].median.value  # of those that no other process disturbed
    assert median == statistics.median(sample.stages.total_ms for sample in usable(timer.samples)[0])
    assert repr(timer) == f"<StageTimer: 3 samples, {median:.1f} ms median>"


def test_no_two_samples_of_a_timer_share_their_name_and_repeat(llama):
    inputs = tiny_inputs("llama")
    with laptime.StageTimer(llama) as timer:
        timer.label("question", -1, ("cold",))
        for _ in range(2):
            llama.generate(**inputs, **GREEDY)
        for name in ("question", "other", "question"):
            timer.label(name)
            llama.generate(**inputs, **GREEDY)
    assert [(sample.sample_id, sample.repeat) for sample in timer.samples] == [
        ("question", -1), ("question", -2), ("question", 0), ("other", 0), ("question", 1)
    ]  # fmt: skip


def test_a_saved_timer_is_a_run_that_the_verbs_read(vlm, tmp_path, capsys):
    from laptime.cli.main import run as command

    folder = tmp_path / "mine"
    timer = laptime.StageTimer(vlm)
    with pytest.raises(LaptimeError, match="nothing to save"):
        timer.save(folder)
    assert not folder.exists()
    with timer:
        for _ in range(6):
            vlm.generate(**tiny_inputs("llava_next"), **GREEDY)
    timer.save(folder)
    run = laptime.load_run(folder)
    assert run.samples == timer.samples
    assert run.summary == timer.summary()
    assert run.info.config == run.samples[0].config
    assert run.info.config["dtype"] == "float32"
    assert run.info.environment.torch == str(torch.__version__)
    with pytest.raises(LaptimeError, match="already holds a run"):
        timer.save(folder)
    for verb, *options in (
        ["report"],
        ["audit"],
        ["compare", folder],
        ["export", "--format", "csv", "--to", tmp_path / "table.csv"],
        ["export", "--format", "perfetto", "--to", tmp_path / "timeline.json"],
    ):
        assert command([str(word) for word in (verb, folder, *options)]) in (0, 1), capsys.readouterr().err
    assert "LlavaNextForConditionalGeneration" in (folder / "report.html").read_text()
