"""Steps and layers: by ranges, by graphs, by the period alone; and silence where there are none."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.trace.analysis import analyse
from laptime.trace.attention_kinds import attention_words
from laptime.trace.layers import find_layers
from laptime.trace.repeats import intervals, levels, longest_run
from laptime.trace.result import SURE, Steps
from tests.trace.build_timeline import build
from tests.trace.engines import LAYER, Kernels, Rows, decoder, host_bound, published_step
from tests.trace.programs import Op, run
from tests.trace.write_traces import ActivityRow, CallRow, RangeRow


def steps_of(rows: Rows) -> Steps:
    return analyse(build(*rows.all)).steps


def named(names: str, duration: int = 3_000) -> list[tuple[str, int]]:
    return [(name, duration) for name in names.split()]


QWEN3_8B = named("norm qkv qk_norm rope store attention merge o add_norm gate_up act down quant copy all_reduce")
HEAD = named("index_select_embedding rms_norm_final lm_head argmax")


@pytest.mark.parametrize(
    ("layers", "layer", "outside"),
    [
        (36, QWEN3_8B, HEAD),
        (36, LAYER, HEAD),
        (28, named("a b c d e f g"), named("embedding head")),
        (12, LAYER, HEAD[:1]),
    ],
)
def test_steps_and_layers_without_annotations(layers: int, layer: Kernels, outside: Kernels) -> None:
    step = decoder(layers, layer, outside[:1], outside[1:])
    steps = steps_of(host_bound([step] * 9, between_ns=30_000))
    assert (steps.method, steps.count, steps.kernels_per_step) == ("period", 9, len(step))
    assert steps.layers is not None
    assert (steps.layers.count, steps.layers.kernels_per_layer) == (layers, len(layer))
    assert steps.layers.outside == len(outside)
    assert steps.layers.identical == layers
    assert steps.confidence > 0.7
    assert steps.wall_ns == sum(d for _, d in step) + 7_000 * len(step) + 30_000
    assert steps.busy_ns == steps.kernel_ns == sum(d for _, d in step)
    assert steps.wall_ns == steps.busy_ns + steps.gap_ns
    assert steps.launches_per_step == len(step)


def test_a_period_of_two_layers_is_two_layers() -> None:
    """A MoE whose neighbouring layers differ in one kernel: period 35, as 17 + 18; and 42 = 2 × 21."""
    base = "norm qkv rope attention o add norm2 router topk sort scatter gemm1 act gemm2 gather combine"
    uneven = named(base + " x") + named(base + " y z")
    even = named(base + " p q r s x") + named(base + " p q r s y")
    for unit, kernels in ((uneven, 17.5), (even, 21.0)):
        layers = steps_of(host_bound([decoder(24, unit, HEAD[:1], HEAD[1:])] * 6, between_ns=30_000)).layers
        assert layers is not None
        assert (layers.count, layers.period_layers, layers.period_kernels) == (48, 2, len(unit))
        assert (layers.kernels_per_layer, layers.outside) == (kernels, 4)


def test_prefill_and_requests_around_do_not_hide_the_steps() -> None:
    decode = decoder(16, LAYER, HEAD[:1], HEAD[1:])
    prefill = decoder(16, named("norm gemm_big rope flash_prefill gemm_big2 add norm act"), HEAD[:1], HEAD[1:])
    request = [prefill, *[decode] * 10]
    steps = steps_of(host_bound(request * 4, between_ns=30_000))
    assert (steps.count, steps.kernels_per_step) == (40, len(decode))
    assert steps.layers is not None
    assert steps.layers.count == 16


def test_details_that_alternate_do_not_hide_the_steps() -> None:
    one = decoder(20, LAYER, HEAD[:1], [*HEAD[1:], ("unrolled_add", 1_000)])
    two = decoder(20, LAYER, HEAD[:1], [*HEAD[1:], ("vectorized_add", 1_000)])
    steps = steps_of(host_bound([one, two] * 6, between_ns=30_000))
    assert (steps.count, steps.kernels_per_step) == (12, len(one))


def test_warm_up_and_edges_are_not_the_modal_step() -> None:
    step = decoder(12, LAYER, HEAD[:1], HEAD[1:])
    slow = [(name, 5 * duration) for name, duration in step]
    rows = host_bound([slow, slow, *[step] * 8, step[:40]], between_ns=30_000)
    steps = steps_of(rows)
    assert steps.count == 10
    assert steps.cut == 3  # two slow ones, and the last whole one, after which a broken one begins
    assert steps.busy_ns == sum(d for _, d in step)


@pytest.mark.parametrize(
    ("format", "annotate", "method"),
    [
        ("kineto", "decode_step {}", "annotation"),
        ("nsys-sqlite", "token {}", "nvtx"),
        ("kineto", "ProfilerStep#{}", "annotation"),
        ("kineto", "execute_32_context_0(sq0sk0)_generation_32(sq32sk{})", "annotation"),  # as vLLM's workers name it
    ],
)
def test_ranges_cut_steps(format: str, annotate: str, method: str) -> None:
    generator = random.Random(0)
    bag = [name for name, _ in LAYER] * 3
    steps_kernels = []
    for _ in range(7):  # no period at all: only the ranges say it
        generator.shuffle(bag)
        steps_kernels.append([(name, 2_000) for name in bag])
    rows = host_bound(steps_kernels, annotate=annotate, between_ns=9_000)
    steps = analyse(build(*rows.all, format=format)).steps
    assert (steps.method, steps.count, steps.kernels_per_step) == (method, 7, len(bag))
    assert steps.confidence == 1.0
    assert steps.wall_ns == len(bag) * 9_000 + 9_000


@pytest.mark.parametrize("same", [True, False])
def test_what_follows_each_range_belongs_to_its_step(same: bool) -> None:
    """vLLM's range holds the forward pass; the token is chosen behind it. Other work each time is no part of a step."""
    generator = random.Random(0)
    forward = [(name, 2_000) for name in [name for name, _ in LAYER] * 3]
    generator.shuffle(forward)
    sampling = [("softmax", 2_000), ("sort", 2_000), ("multinomial", 2_000)]
    steps_kernels = [[*forward, *(sampling if same else sampling[: 1 + number % 3])] for number in range(9)]
    rows = host_bound(steps_kernels, annotate="execute_context_0(0)_generation_{}", between_ns=9_000)
    outside = [9_000 * (len(kernels) - len(forward)) for kernels in steps_kernels]
    ranges = [replace(row, end_ns=row.end_ns - ns) for row, ns in zip(rows.ranges, outside, strict=True)]
    steps = analyse(build(rows.activities, rows.calls, ranges)).steps
    assert (steps.method, steps.count) == ("annotation", 9)
    assert steps.kernels_per_step == len(forward) + (3 if same else 0)
    assert steps.outside_ns == 0 or not same


def test_steps_that_overlap_count_their_time_once() -> None:
    """Work that each step starts on a stream of its own reaches into the next one's kernels."""
    forward = [(name, 2_000) for name in [name for name, _ in LAYER] * 3]
    random.Random(0).shuffle(forward)
    steps_kernels = [[*forward, *[("sort", 2_000)] * (1 + number % 3)] for number in range(9)]
    rows = host_bound(steps_kernels, annotate="execute_context_0(0)_generation_{}", between_ns=9_000)
    outside = [9_000 * (len(kernels) - len(forward)) for kernels in steps_kernels]
    ranges = [replace(row, end_ns=row.end_ns - ns) for row, ns in zip(rows.ranges, outside, strict=True)]
    activities = list(rows.activities)
    for step in ranges:
        at = next(i for i, row in enumerate(activities) if row.end_ns > step.end_ns - 20_000)
        activities[at] = replace(activities[at], end_ns=activities[at].end_ns + 150_000, stream=99)
    analysis = analyse(build(activities, rows.calls, ranges))
    steps, (device,) = analysis.steps, analysis.devices
    assert (steps.method, steps.count) == ("annotation", 9)
    assert steps.outside_ns is not None
    assert steps.outside_idle_ns is not None
    assert 0 <= steps.outside_idle_ns <= steps.outside_ns < device.span_ns


def test_ranges_that_name_no_step_are_left_to_the_period() -> None:
    rows = host_bound([decoder(12, LAYER, HEAD[:1], HEAD[1:])] * 6, annotate="attention", between_ns=30_000)
    assert steps_of(rows).method == "period"


def test_graph_launches_cut_steps() -> None:
    step = decoder(12, LAYER, HEAD[:1], HEAD[1:])
    steps = steps_of(host_bound([step] * 6, graph=True, between_ns=30_000))
    assert (steps.method, steps.count, steps.kernels_per_step, steps.launches_per_step) == ("graph", 6, len(step), 1)
    assert steps.layers is not None
    assert steps.layers.count == 12
    assert steps.causes[0].cause == "queued"


def test_a_kernel_that_begins_with_the_next_step_is_of_its_own_step_in_every_figure() -> None:
    """Coarse clocks let a step's last kernel and the next one's first begin in the same instant."""
    forward = [(name, 2_000) for name in [name for name, _ in LAYER] * 3]
    rows = host_bound([[*forward, ("argmax", 2_000)]] * 8, annotate="decode_step")
    size = len(forward) + 1
    late = list(rows.activities)
    for at in range(size - 1, len(late) - 1, 2 * size):
        late[at] = replace(late[at], start_ns=late[at + 1].start_ns, end_ns=late[at + 1].start_ns)
    analysis = analyse(build(late, rows.calls, rows.ranges))
    assert (analysis.steps.method, analysis.steps.kernels_per_step) == ("annotation", size)
    assert sum(kernel.per_step or 0 for kernel in analysis.kernels) == size
    assert {kernel.name: kernel.per_step for kernel in analysis.kernels}["argmax"] == 1


def replays(starts_ns: list[int], kernels: int, last_ns: int = 90_000) -> list[ActivityRow]:
    """Replays of one graph of equal layers, on two streams in turn: a kernel every 100 µs, the last one later."""
    rows = []
    for at, start in enumerate(starts_ns):
        begins = [start + 100_000 * node for node in range(kernels)]
        begins[-1] += last_ns - 90_000
        rows += [
            ActivityRow(ns, ns + 90_000, f"g{node % 5}", stream=7 + at % 2, correlation=at + 1, graph_node=node)
            for node, ns in enumerate(begins)
        ]
    return rows


def test_replays_side_by_side_are_not_cut_into_their_kernels() -> None:
    starts = [1_000_000 + 500_000 * at + 37_000 * (at * at % 7) for at in range(20)]
    steps = analyse(build(replays(starts, 12))).steps
    assert (steps.method, steps.count) == ("none", 0)
    assert steps.reason == "kernels of one launch run between those of another: where a step would begin is not known"


def test_a_replay_whose_last_kernel_runs_late_is_one_step() -> None:
    starts = [1_000_000 + 2_100_000 * at for at in range(8)]
    steps = analyse(build(replays(starts, 20, last_ns=330_000))).steps
    assert (steps.method, steps.count, steps.kernels_per_step) == (
        "graph",
        6,
        20,
    )  # the first one lacks a kernel, the last has one too many
    assert steps.wall_ns == 2_100_000


def test_whole_graphs_give_steps_without_kernels() -> None:
    rows = [
        ActivityRow(i * 1_000_000, i * 1_000_000 + 900_000, "CUDA graph 1", "graph", correlation=i) for i in range(6)
    ]
    analysis = analyse(build(rows))
    assert (analysis.steps.method, analysis.steps.count, analysis.steps.wall_ns) == ("graph", 6, 1_000_000)
    assert analysis.steps.kernels_per_step is None
    assert analysis.devices[0].kernels is None
    assert analysis.devices[0].kernel_sum_ns is None
    assert "step-hidden-in-graph" in {finding.code for finding in analysis.integrity.findings}


def abstains(rows: Rows) -> bool:
    analysis = analyse(build(*rows.all))
    silent = analysis.steps.method == "none"
    assert silent == ("no-steps" in {finding.code for finding in analysis.integrity.findings})
    assert not (silent and analysis.whatif)
    return silent


def test_one_forward_is_one_step() -> None:
    step = decoder(24, LAYER, HEAD[:1], HEAD[1:])
    analysis = analyse(build(*host_bound([step]).all))
    steps = analysis.steps
    assert (steps.method, steps.count, steps.kernels_per_step) == ("forward", 1, len(step))
    assert steps.layers is not None
    assert (steps.layers.count, steps.layers.outside) == (24, len(HEAD))
    # What stands around the layers is counted in on trust, and this is said.
    assert "one-forward" in {finding.code for finding in analysis.integrity.findings}


@pytest.mark.parametrize("passes", [3, 12])
def test_copies_and_waits_part_passes_of_layers_alone(passes: int) -> None:
    """Features in, eight layers, features out, a wait, and 900 us in Python: no embedding and no token says where."""
    layers = [Op("launch", duration, name=name) for name, duration in LAYER * 8]
    copy = Op("launch", 2_000, memory="pageable", bytes=4_096)
    made = run([copy, *layers, copy, Op("sync"), Op("work", 900_000)], passes)
    steps = analyse(build(made.activities, made.calls)).steps
    assert (steps.method, steps.count, steps.kernels_per_step) == ("period", passes, len(layers))
    assert steps.confidence >= SURE
    assert steps.layers is not None
    assert (steps.layers.count, steps.layers.outside) == (8, 0)


def test_weights_that_are_copied_before_some_layers_part_no_passes() -> None:
    """Every fourth layer waits for the weights of the next four: one forward pass of 24 layers."""
    layers = [Op("launch", 9_000, name=name) for name in ("gemm", "flash_fwd", "rms_norm", "add") * 4]
    weights = Op("launch", 500_000, memory="pageable", bytes=20_000_000)
    made = run([op for _ in range(6) for op in (weights, *layers)], 1)
    steps = analyse(build(made.activities, made.calls)).steps
    assert (steps.method, steps.count) == ("forward", 1)
    assert steps.layers is not None
    assert steps.layers.count == 24


def test_what_a_long_wait_parts_from_the_only_step_is_not_its_idle_time() -> None:
    """A serving trace with one step: hundreds of milliseconds lie between the profiler's start and the step."""
    step = decoder(24, LAYER, HEAD[:1], HEAD[1:])
    rows = host_bound([step], start_ns=1_000_000_000)
    alone = steps_of(rows)
    rows.activities[:0] = [ActivityRow(0, 2_000, "fill", correlation=99_999)]
    rows.activities.append(ActivityRow(2_000_000_000, 2_000_002_000, "copy_back", correlation=99_998))
    analysis = analyse(build(*rows.all))
    assert (analysis.steps.wall_ns, analysis.steps.busy_ns) == (alone.wall_ns, alone.busy_ns)
    assert analysis.devices[0].idle_ns > 1_900_000_000
    assert " of its one forward pass: the host can't launch fast enough" in analysis.headline
    assert "ms of the trace lie outside it" in analysis.headline


def test_two_forwards_are_two_steps() -> None:
    step = decoder(24, LAYER, HEAD[:1], HEAD[1:])
    steps = steps_of(host_bound([step, step], between_ns=30_000))
    assert (steps.method, steps.count, steps.kernels_per_step) == ("period", 2, len(step))
    assert steps.layers is not None
    assert steps.layers.count == 24


def test_steps_of_many_unlike_kernels_are_steps_between_other_work() -> None:
    """A U-Net: no layer repeats in a denoising step, and an encoder and a decoder run around the steps."""
    generator = random.Random(3)
    unet = [(f"k{generator.randrange(60)}", 4_000) for _ in range(700)]
    around = [[(f"{part}{generator.randrange(60)}", 4_000) for _ in range(300)] for part in ("text", "vae")]
    steps = steps_of(host_bound([around[0], *[unet] * 8, around[1]], between_ns=60_000))
    assert (steps.method, steps.count, steps.kernels_per_step, steps.layers) == ("period", 8, 700, None)
    assert steps.confidence > 0.7


def test_a_loss_or_an_optimizer_makes_repetitions_steps_also_behind_a_setup() -> None:
    kernels = [*named(" ".join(f"k{i}" for i in range(20))), ("multi_tensor_apply_adam", 3_000)]
    setup = named("init0 init1 init2 init0 init3 init4 init1 init5")
    steps = steps_of(host_bound([setup, *[kernels] * 6], between_ns=50_000))
    assert (steps.method, steps.count, steps.kernels_per_step) == ("period", 6, len(kernels))


def test_layers_inside_one_graph_are_not_steps() -> None:
    layer = named("index_select norm gemm attention gemm2 act gemm3")
    steps = steps_of(host_bound([decoder(30, layer)], graph=True))
    assert (steps.method, steps.count, steps.kernels_per_step) == ("graph", 1, 30 * len(layer))
    assert steps.layers is not None
    assert steps.layers.count == 30


def test_layers_inside_one_replay_that_marks_no_nodes_are_not_steps() -> None:
    """HIP's graph launches: the kernels share their launch's correlation and nothing else."""
    rows = host_bound([decoder(30, named("index_select norm gemm attention gemm2 act gemm3"))], graph=True)
    rows.activities = [replace(row, graph_node=None) for row in rows.activities]
    assert steps_of(rows).count == 1


def test_programs_that_repeat_something_else_are_not_one_forward() -> None:
    """A simulation's loop: nothing in it multiplies matrices, and a setup stands before it."""
    assert abstains(host_bound([[("setup", 9_000), *named("spread random_state reduce copy") * 22, ("sum", 1_000)]]))


TRAINING = named("conv relu pool conv2 relu2 linear loss loss_back linear_back relu2_back conv2_back conv_back sgd")


def test_an_exact_period_without_layers_or_tokens_is_a_training_step() -> None:
    rows = host_bound([TRAINING * 2] * 12, between_ns=50_000)
    analysis = analyse(build(*rows.all))
    assert (analysis.steps.method, analysis.steps.count, analysis.steps.kernels_per_step) == ("period", 24, 13)
    uneven = named("a b c d e f g h i j k l m n o p q r s t u v w x y z")
    analysis = analyse(build(*host_bound([uneven] * 12).all))
    assert (analysis.steps.count, analysis.steps.kernels_per_step) == (12, 26)
    # Nothing but the period says so: it is hedged.
    assert analysis.steps.confidence < 0.7
    (finding,) = [finding for finding in analysis.integrity.findings if finding.code == "steps-unsure"]
    assert "may be a part of a step" in finding.message


def test_an_optimizers_step_in_each_repetition_makes_it_sure() -> None:
    rows = host_bound([TRAINING] * 5, between_ns=50_000)
    ends = [row.start_ns for row in rows.calls[len(TRAINING) - 1 :: len(TRAINING)]]
    rows.ranges = [RangeRow(end - 500, end + 5_500, "Optimizer.step#SGD.step") for end in ends]
    steps = steps_of(rows)
    assert (steps.count, steps.kernels_per_step) == (5, len(TRAINING))
    assert steps.confidence > 0.7


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_profiler_steps_are_steps(count: int) -> None:
    """`active=1` is the commonest schedule of all."""
    kernels = named("gemm relu") * 10
    steps = steps_of(host_bound([kernels] * count, annotate="ProfilerStep#{}", between_ns=9_000))
    assert (steps.method, steps.count, steps.kernels_per_step) == ("annotation", count, len(kernels))


def test_one_profiler_step_around_many_steps_is_not_the_step() -> None:
    step = decoder(12, LAYER, HEAD[:1], HEAD[1:])
    rows = host_bound([step] * 6, between_ns=30_000)
    rows.ranges = [RangeRow(0, rows.activities[-1].end_ns, "ProfilerStep#7")]
    assert (steps_of(rows).method, steps_of(rows).count) == ("period", 6)


def test_profiler_steps_that_mix_with_a_prefetch_and_a_backward_thread() -> None:
    """The next batch's copy runs on a stream of its own while the step before is still busy; the backward pass is
    launched by autograd's thread."""
    rows = host_bound(
        [[(f"k{i}", 2_000 + 100 * step) for i in range(40)] for step in range(4)], annotate="ProfilerStep#{}"
    )
    for step in range(4):
        for i in range(step * 40 + 20, step * 40 + 40):
            rows.calls[i] = replace(rows.calls[i], thread=777)
    for step in range(3):  # launched in this step, runs in the middle of the next one
        late = rows.activities[(step + 1) * 40 + 10].start_ns
        launch = rows.calls[step * 40 + 5]
        rows.calls.append(CallRow(launch.end_ns, launch.end_ns + 10, "cudaLaunchKernel", 90_000 + step))
        rows.activities.append(ActivityRow(late, late + 500, "unpack", stream=14, correlation=90_000 + step))
    steps = steps_of(rows)
    assert (steps.method, steps.count) == ("annotation", 4)
    assert steps.kernels_per_step in (40, 41)


def test_edge_layers_that_differ_are_counted_by_their_attention() -> None:
    first = named("norm qkv rope2 store2 attention merge o other_norm gate up act down extra quant2 copy2 sum2")
    step = [*HEAD[:1], *first, *QWEN3_8B * 36, *first, *HEAD[1:]]
    layers = steps_of(host_bound([step] * 5, between_ns=30_000)).layers
    assert layers is not None
    assert (layers.count, layers.identical) == (38, 36)
    assert layers.count * layers.kernels_per_layer + layers.outside == len(step)


def test_layers_of_two_kinds_are_not_counted_by_the_longest_run() -> None:
    """A diffusion transformer: 19 double blocks and 38 single ones; 57 attention kernels a step."""
    double = named("norm qkv rope add_norm fmha_fwd out1 out2 mlp1 gelu mlp2 gate")
    single = named("norm2 linear1 fmha_fwd gelu2 linear2 gate2")
    step = [*HEAD[:1], *double * 19, *single * 38, *HEAD[1:]]
    analysis = analyse(build(*host_bound([step] * 4, between_ns=30_000).all))
    steps = analysis.steps
    assert (steps.count, steps.kernels_per_step, steps.layers, steps.attention_kernels) == (4, len(step), None, 57)
    assert analysis.modal_step is not None
    assert set(analysis.modal_step.layer) == {-1}
    assert "57 of them the same attention" in analysis.advice


def test_noise_has_no_steps() -> None:
    generator = random.Random(1)
    assert abstains(host_bound([[(generator.choice("abcdefgh"), 1_000) for _ in range(900)]]))


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 40), st.integers(5, 30), st.integers(1, 9), st.integers(4, 9), st.data())
def test_any_engine_of_layers_is_recognised(
    layers: int, size: int, outside: int, repeats: int, data: st.DataObject
) -> None:
    """A layer of `size` distinct kernels (so that it has no period of its own), `outside` others around."""
    before = data.draw(st.integers(0, outside))
    others = [(f"o{i}", 1_500) for i in range(outside)]
    step = decoder(layers, [(f"k{i}", 2_000) for i in range(size)], others[:before], others[before:])
    result = steps_of(host_bound([step] * repeats, between_ns=30_000))
    assert (result.count, result.kernels_per_step) == (repeats, len(step))
    assert result.layers is not None
    assert (result.layers.count, result.layers.kernels_per_layer, result.layers.outside) == (layers, size, outside)


@pytest.mark.parametrize(("layers", "size", "outside"), [(13, 6, 1), (15, 5, 5), (21, 5, 5), (19, 8, 8), (45, 6, 6)])
def test_a_step_less_some_layers_is_no_period(layers: int, size: int, outside: int) -> None:
    """Shapes in which another lag fits nine kernels in ten."""
    step = decoder(layers, [(f"k{i}", 2_000) for i in range(size)], [], [(f"o{i}", 1_500) for i in range(outside)])
    tokens = np.array([hash(name) % 1_000_003 for name, _ in step] * 5)
    assert [level.period for level in levels(tokens)] == [size, len(step)]
    result = steps_of(host_bound([step] * 5, between_ns=30_000))
    assert (result.count, result.kernels_per_step) == (5, len(step))


def test_units_that_all_differ_are_no_layers() -> None:
    units = [[*range(19), 100 + i] for i in range(12)]
    strings = tuple(f"k{i}" for i in range(200))
    assert find_layers(np.array([50, *(token for unit in units for token in unit)]), strings) is None


def test_counts_prove_layers_or_there_are_none() -> None:
    strings = tuple("abcdefgh")
    rng = np.random.default_rng(0)
    good = np.array([7, *[0, 1, 2, 3, 4] * 10, 6])
    result = find_layers(good, strings)
    assert result is not None
    assert (result[0].count, result[0].outside, result[0].identical) == (10, 2, 10)
    shuffled = rng.permutation(good)
    assert find_layers(shuffled, strings) is None


def test_periods_are_found_in_linear_time_and_long_steps_too() -> None:
    layer = np.arange(60)
    step = np.concatenate([[100, 101], np.tile(layer, 90), [102]])
    assert [level.period for level in levels(np.tile(step, 40))][-1] == len(step)
    run = longest_run(step)  # 5403 kernels: the FFT path
    assert run is not None
    assert (run.period, run.count) == (60, 90)


def test_intervals_need_whole_repeats() -> None:
    tokens = np.array([9, 9, *[1, 2, 3, 4] * 5, 8, 7])
    assert intervals(tokens, 4, repeats=3) == ((2, 22),)
    assert intervals(tokens, 4, repeats=6) == ()


def test_ranges_of_layers_are_left_to_the_period() -> None:
    rows = host_bound([decoder(12, LAYER, HEAD[:1], HEAD[1:])] * 6, between_ns=30_000)
    starts = [call.start_ns for call in rows.calls]
    per_step = 12 * len(LAYER) + len(HEAD)
    for step in range(6):
        for layer in range(12):
            first = step * per_step + 1 + layer * len(LAYER)
            name = f"model.layers.{layer}.forward"
            rows.ranges.append(RangeRow(starts[first], starts[first + len(LAYER)] - 1, name))
    steps = steps_of(rows)
    assert (steps.method, steps.count, steps.kernels_per_step) == ("period", 6, per_step)


def test_one_graph_per_layer_is_not_one_step_per_graph() -> None:
    """Piecewise capture: each layer is a replay of its own, embedding and head are launched one by one."""
    pieces: list[Rows] = []
    now = 1_000_000
    for _ in range(6):
        for part in (HEAD[:1], *[LAYER] * 14, HEAD[1:]):
            rows = host_bound([part], graph=part is LAYER, start_ns=now)
            shift = 100_000 * len(pieces)
            rows.calls = [replace(call, correlation=call.correlation + shift) for call in rows.calls]
            rows.activities = [replace(work, correlation=work.correlation + shift) for work in rows.activities]
            now = rows.activities[-1].end_ns + 4_000
            pieces.append(rows)
    activities = [row for rows in pieces for row in rows.activities]
    calls = [row for rows in pieces for row in rows.calls]
    steps = steps_of(Rows(activities, calls))
    assert (steps.method, steps.count, steps.kernels_per_step) == ("period", 6, 14 * len(LAYER) + len(HEAD))
    assert steps.launches_per_step == 14 + len(HEAD)
    assert steps.layers is not None
    assert steps.layers.count == 14


def test_one_step_of_one_graph_per_layer_is_one_step() -> None:
    pieces: list[Rows] = []
    now = 1_000_000
    for part in (HEAD[:1], *[LAYER] * 14, HEAD[1:]):
        rows = host_bound([part], graph=part is LAYER, start_ns=now)
        shift = 100_000 * len(pieces)
        rows.calls = [replace(call, correlation=call.correlation + shift) for call in rows.calls]
        rows.activities = [replace(work, correlation=work.correlation + shift) for work in rows.activities]
        now = rows.activities[-1].end_ns + 4_000
        pieces.append(rows)
    both = Rows([row for rows in pieces for row in rows.activities], [row for rows in pieces for row in rows.calls])
    steps = steps_of(both)
    assert (steps.method, steps.count, steps.kernels_per_step) == ("forward", 1, 14 * len(LAYER) + len(HEAD))


def test_sampling_after_a_graph_belongs_to_its_step() -> None:
    activities, calls, now = [], [], 1_000_000
    for i in range(6):
        for graph, part in ((True, decoder(14, LAYER)), (False, HEAD)):
            rows = host_bound([part], graph=graph, start_ns=now)
            shift = 100_000 * (2 * i + (not graph))
            calls += [replace(call, correlation=call.correlation + shift) for call in rows.calls]
            activities += [replace(work, correlation=work.correlation + shift) for work in rows.activities]
            now = rows.activities[-1].end_ns + 4_000
    steps = steps_of(Rows(activities, calls))
    assert (steps.method, steps.count) == ("graph", 6)
    assert (steps.kernels_per_step, steps.launches_per_step) == (14 * len(LAYER) + len(HEAD), 1 + len(HEAD))


def test_ranges_on_another_thread_do_not_cut() -> None:
    rows = host_bound([decoder(12, LAYER, HEAD[:1], HEAD[1:])] * 6, between_ns=30_000)
    span = rows.activities[-1].end_ns // 12
    rows.ranges = [RangeRow(i * span, i * span + span - 1, f"step {i}", thread=999) for i in range(12)]
    assert steps_of(rows).method == "period"


def test_published_engine_by_period() -> None:
    steps = steps_of(host_bound([published_step()] * 6))
    assert (steps.method, steps.kernels_per_step) == ("period", 400)


@pytest.mark.filterwarnings("error")
def test_replays_without_any_time_are_no_steps() -> None:
    rows = [ActivityRow(1_000, 1_000, "k", correlation=i + 1, graph_node=1) for i in range(4)]
    calls = [CallRow(10 * i, 10 * i + 5, "cudaGraphLaunch", i + 1) for i in range(4)]
    assert analyse(build(rows, calls)).steps.method == "none"


def test_a_kernel_of_another_stream_between_two_layers_costs_no_layer() -> None:
    step = decoder(36, QWEN3_8B, HEAD[:1], HEAD[1:])
    at = 1 + 6 * len(QWEN3_8B)
    rows = host_bound([[*step[:at], ("neg", 1_000), *step[at:]]])
    rows.ranges = [RangeRow(0, 100_000_000, "ProfilerStep#1")]
    layers = steps_of(rows).layers
    assert layers is not None
    assert (layers.count, layers.kernels_per_layer, layers.outside) == (36, 15, len(HEAD) + 1)


def test_a_wait_before_each_repetition_makes_it_a_step() -> None:
    """26 unlike kernels, twelve times, to both ends: a step where the host pauses once in each, else perhaps a part."""
    unit = named(" ".join(f"kernel_{chr(97 + i)}" for i in range(26)))
    paused = steps_of(host_bound([unit] * 12, between_ns=60_000))
    even = steps_of(host_bound([unit] * 12))
    assert (paused.count, even.count) == (12, 12)
    assert paused.confidence > 0.7 > even.confidence


def test_calls_of_one_compiled_graph_are_the_steps_of_an_image() -> None:
    """One ProfilerStep holds a whole image: text encoders, four unequal denoising passes, a decoder."""
    encode = named(" ".join(f"encode_{chr(97 + i)}" for i in range(20)) + " encode_x" * 200)
    passes = [decoder(16, LAYER, named("timestep" + " cast" * n)) for n in (1, 3, 2, 4)]
    rows = host_bound([encode, *passes, named("vae_conv vae_norm")], between_ns=20_000)
    size, begin = len(encode), []
    for kernels in passes:
        begin.append((size, size + len(kernels)))
        size += len(kernels)
    calls = rows.calls
    rows.ranges = [
        RangeRow(calls[a].start_ns - 1, calls[b - 1].end_ns + 1, "## Call CompiledFxGraph f0 ##") for a, b in begin
    ]
    rows.ranges.append(RangeRow(calls[0].start_ns - 2, calls[-1].end_ns + 2, "ProfilerStep#3"))
    steps = steps_of(rows)
    assert (steps.method, steps.count, steps.name) == ("annotation", 4, "## Call CompiledFxGraph f0 ##")
    assert steps.layers is not None
    assert steps.layers.count == 16


def test_passes_inside_one_step_are_no_layers() -> None:
    """Five tokens in each of the user's steps: 60 layers ran, and what repeats is a pass of twelve."""
    token = decoder(12, LAYER, HEAD[:1], HEAD[1:])
    made = [host_bound([token] * 5, start_ns=1_000_000 + i * 60_000_000) for i in range(3)]
    rows = Rows()
    for i, one in enumerate(made):
        rows.calls += [replace(call, correlation=call.correlation + 10_000 * i) for call in one.calls]
        rows.activities += [replace(work, correlation=(work.correlation or 0) + 10_000 * i) for work in one.activities]
        rows.ranges.append(RangeRow(one.calls[0].start_ns - 100, one.calls[-1].end_ns + 100, f"ProfilerStep#{i}"))
    steps = steps_of(rows)
    assert (steps.count, steps.kernels_per_step) == (3, 5 * len(token))
    assert (steps.layers, steps.attention_kernels) == (None, 60)


def test_one_kernel_again_and_again_is_the_reason_said() -> None:
    rows = [ActivityRow(i * 10_000, i * 10_000 + 2_000, "fill", correlation=i) for i in range(200)]
    calls = [CallRow(i * 10_000 - 3_000, i * 10_000 - 1_000, "cuLaunchKernel", i) for i in range(200)]
    steps = analyse(build(rows, calls)).steps
    assert steps.method == "none"
    assert steps.reason == "one kernel follows itself in 199 of 199 cases: where a step would begin is not known"


@pytest.mark.parametrize("layers", [16, 24])
def test_three_steps_that_fill_a_trace_are_found_whatever_they_begin_with(layers: int) -> None:
    """With few kernels outside the layers nothing says where a step begins but the capture's own beginning."""
    layer = [(name, 2_000) for name in ("gemm", "flash_fwd", "gemm", "add", "gemm", "gemm")]
    step = [*layer * layers, ("rms_norm", 2_000), ("gemm", 2_000)]
    steps = steps_of(host_bound([step] * 3))
    assert (steps.count, steps.kernels_per_step) == (3, 6 * layers + 2)
    assert steps.layers is not None
    assert steps.layers.count == layers


def test_one_pass_of_few_unlike_layers_is_a_forward_pass() -> None:
    """Two kinds of layers in turns: four units are eight layers."""
    local = [(name, 2_000) for name in ("rms_norm", "gemm", "flash_fwd", "gemm", "rms_norm", "gemm")]
    whole = [(name if name != "flash_fwd" else "flash_fwd_whole", ns) for name, ns in local]
    steps = steps_of(host_bound([[("embedding", 2_000), *[*local, *whole] * 4, ("argmax", 2_000)]]))
    assert (steps.method, steps.count) == ("forward", 1)
    assert steps.layers is not None
    assert steps.layers.count == 8


def test_blocks_of_one_pass_are_no_steps() -> None:
    """ResNet's forward: a block comes five times, each with three convolutions. No step of the trace is that short."""
    part = [(name, 2_000) for name in ("offsets", "conv", "to_nhwc", "winograd_fprop", "count", "bn_fw", "relu")]
    block = [*part * 3, ("add", 1_000)]
    others = [(f"conv_{i % 9}_{i // 9}", 5_000) for i in range(140)]
    steps = steps_of(host_bound([[*others[:60], *block * 5, *others[60:], ("gemm", 3_000)]]))
    assert steps.method == "none"
    assert steps.reason is not None
    assert steps.reason.startswith("the longest repetition is of")


def test_a_loop_of_sums_and_copies_has_no_layers() -> None:
    """A simulation sorts and then sums a hundred times: its steps are steps, and their parts are no layers."""
    part = [(name, 2_000) for name in ("DeviceReduceKernel", "copy", "DeviceScanInitKernel", "DeviceScanKernel")]
    step = [("foldFast", 5_000), ("DeviceMergeSortKernel", 5_000), *part * 30, ("residuals", 9_000)]
    steps = steps_of(host_bound([step] * 8, between_ns=30_000))
    assert (steps.count, steps.kernels_per_step) == (8, len(step))
    assert steps.layers is None


def test_layers_that_backward_runs_otherwise_are_not_counted_beyond_their_number() -> None:
    """A sharded training step: 24 layers forward and 24 backward that differ in one kernel of five."""
    forward = [(name, 2_000) for name in ("ncclDevKernel_AllGather", "gemm", "flash_fwd", "gemm", "rms_norm")]
    backward = [(name if name != "flash_fwd" else "flash_bwd", ns) for name, ns in forward]
    step = [*forward * 24, *backward * 24, ("multi_tensor_apply", 5_000)]
    steps = steps_of(host_bound([step] * 4, annotate="ProfilerStep#{}", between_ns=30_000))
    assert steps.layers is not None
    assert (steps.layers.count, steps.layers.kernels_per_layer) == (24, 5)


@pytest.mark.parametrize("batches", [2, 12])
def test_a_data_loader_begins_steps_where_nothing_else_says_so(batches: int) -> None:
    """An evaluation asks its loader for each batch, which the profiler marks; its convolutions alone say no step."""
    batch = [(name, 60_000) for name in ("implicit_convolve_sgemm", "bn_fw_inf", "relu_elementwise") * 16]
    rows = host_bound([batch] * batches, annotate="enumerate(DataLoader)#_Iter.__next__", between_ns=30_000_000)
    ranges = [replace(row, start_ns=row.start_ns - 29_000_000, end_ns=row.start_ns - 1_000) for row in rows.ranges]
    lost = [replace(row, correlation=row.correlation + 1_000_000) for row in rows.calls]  # of another run, or damaged
    assert analyse(build(rows.activities, lost, ranges)).steps.name is None
    analysis = analyse(build(rows.activities, rows.calls, ranges))
    if batches < 3:
        assert analysis.steps.name is None
        return
    steps = analysis.steps
    assert (steps.method, steps.count, steps.kernels_per_step) == ("annotation", batches, len(batch))
    assert "it was in enumerate(DataLoader)" in analysis.headline
    assert "the host loads data" in analysis.advice


def test_passes_of_a_convolutional_net_are_steps_and_its_blocks_no_layers() -> None:
    """ResNet-50, eight times, with one kernel before the first: stages of 3, 4, 6 and 3 blocks in each pass."""
    stages = [named(f"conv_a{i} bn_fw_a conv_b{i} bn_fw_b conv_c{i} bn_fw_c elementwise_add") for i in range(4)]
    blocks = [kernel for stage, times in zip(stages, (3, 4, 6, 3), strict=True) for kernel in stage * times]
    one = [*named("conv_stem bn_fw max_pool"), *blocks, *named("mean_kernel sgemm")]
    rows = host_bound([[*named("computeOffsets"), *one], *[one] * 7], between_ns=30_000)
    steps = steps_of(rows)
    assert (steps.method, steps.kernels_per_step, steps.layers) == ("period", len(one), None)
    assert steps.confidence >= SURE
    single = analyse(build(*host_bound([one], between_ns=30_000).all))
    assert "layers" not in single.advice


def test_a_kernel_that_follows_itself_has_no_period() -> None:
    """A loop that runs one kernel 2,000, 250, 75 and 20 times: any period fits that."""
    kernels = [kernel for times in (2_000, 250, 75, 20) for kernel in [*named("first"), *named("again") * times]]
    steps = steps_of(host_bound([kernels], between_ns=30_000))
    assert steps.count == 0
    assert (steps.reason or "").startswith("one kernel follows itself in 2341 of 2348 cases")


def test_layers_of_a_hybrid_are_told_apart() -> None:
    """Three layers of the delta rule, one of attention, and a second kernel of each attention that is no other kind."""
    linear = named("norm qkv causal_conv fused_recurrent_gated_delta_rule out up down")
    full = named("norm qkv2 rope BatchDecodeWithPagedKVCache BatchDecodeMergeAttention out up down")
    analysis = analyse(
        build(*host_bound([[*HEAD[:1], *[*linear * 3, *full] * 8, *HEAD[1:]]] * 4, between_ns=30_000).all)
    )
    kinds = [(kind.kernels, kind.linear) for kind in analysis.steps.attention_kinds]
    assert kinds == [(24, True), (8, False)]
    assert analysis.steps.attention_kernels == 24
    assert attention_words(analysis.steps.attention_kinds) == "24 of them the same linear attention, 8 another"
    assert attention_words(analysis.steps.attention_kinds[:0]) is None


def test_steps_of_another_kind_between_ranges_are_no_part_of_them() -> None:
    """SGLang names EXTEND and DECODE steps: five decode steps after each prefill don't make its step longer."""
    kernels = decoder(12, LAYER, HEAD[:1], HEAD[1:])
    rows = host_bound([kernels] * 24, annotate="{}", between_ns=30_000)
    ranges = [replace(row, name=f"step[{'DECODE' if i % 6 else 'EXTEND'} bs={i}]") for i, row in enumerate(rows.ranges)]
    steps = analyse(build(rows.activities, rows.calls, ranges)).steps
    assert (steps.name, steps.count, steps.kernels_per_step) == ("step[DECODE bs=N]", 20, len(kernels))


@pytest.mark.parametrize(("kernel", "said"), [("kernel", "4 equal parts"), ("gemm", "4 layers")])
def test_equal_parts_of_unknown_kernels_are_not_called_layers(kernel: str, said: str) -> None:
    """Four micro-batches and an optimizer: kernels of no known kind don't say whether what repeats is a layer."""
    step = [*[(f"{kernel}_{i}", 20_000) for i in range(26)] * 4, *[(f"update_{i}", 20_000) for i in range(10)]]
    analysis = analyse(build(*host_bound([step] * 5).all))
    assert f"in 114 kernels ({said})" in analysis.advice
    assert analysis.steps.layers is not None
    assert analysis.steps.layers.known == (kernel == "gemm")


def test_several_batches_in_one_step_are_no_layers() -> None:
    """Gradients of four batches, then the optimizer: what repeats in a step is a batch, whatever it is divisible by."""
    forward = [(name, 2_000) for name in ("gemm", "flash_fwd", "gemm", "layer_norm")]
    backward = [(name, 2_000) for name in ("gemm", "flash_bwd", "gemm", "layer_norm_bw")]
    batch = [("embedding", 2_000), *forward * 12, ("nll_loss", 2_000), *backward * 12, ("embedding_bw", 2_000)]
    steps = steps_of(host_bound([[*batch * 4, ("multi_tensor_adam", 9_000)]] * 6, between_ns=30_000))
    assert (steps.count, steps.kernels_per_step) == (6, 4 * len(batch) + 1)
    assert (steps.layers, steps.attention_kernels) == (None, 48)


def test_ranges_that_are_written_twice_are_steps_once() -> None:
    rows = host_bound([published_step()] * 6, between_ns=30_000, annotate="ProfilerStep#{}")
    twice = [replace(row, kind=kind) for row in rows.ranges for kind in ("nvtx", "cpu_op")]
    steps = analyse(build(rows.activities, rows.calls, twice)).steps
    assert (steps.method, steps.count, steps.confidence) == ("annotation", 6, 1.0)


def test_two_kinds_of_ranges_in_turns_are_half_alike() -> None:
    """As the steps of a generator and of its judge."""
    kinds = [[(f"{name}{i}", 9_000) for i in range(many)] for name, many in (("gen", 40), ("disc", 60))]
    steps = analyse(build(*host_bound(kinds * 5, annotate="ProfilerStep#{}", between_ns=30_000).all)).steps
    assert (steps.count, steps.confidence) == (10, 0.5)


def test_one_kernel_that_names_a_token_is_no_sure_step() -> None:
    steps = steps_of(host_bound([named("argmax")] * 40, between_ns=30_000))
    assert steps.confidence < SURE


def test_a_draft_models_graphs_are_parts_of_the_step_that_verifies() -> None:
    """Three replays of a draft of 4 layers, then one of 16 that verifies: the step holds all four."""
    rows, now = Rows([], []), 1_000_000
    for turn in range(6):
        for part in range(4):
            kernels = decoder(4 if part < 3 else 16, LAYER, HEAD[:1], HEAD[1:])
            one = host_bound([kernels], graph=True, start_ns=now)
            shift = 100_000 * (4 * turn + part)
            rows.calls += [replace(call, correlation=call.correlation + shift) for call in one.calls]
            rows.activities += [replace(work, correlation=work.correlation + shift) for work in one.activities]
            now = one.activities[-1].end_ns + (90_000 if part == 3 else 4_000)
    steps = steps_of(rows)
    assert (steps.method, steps.count, steps.launches_per_step) == ("graph", 6, 4)
    assert steps.kernels_per_step == (3 * 4 + 16) * len(LAYER) + 4 * len(HEAD)
    assert steps.gap_ns is not None
    assert steps.gap_ns >= 90_000  # the wait behind what verifies belongs to the step


def test_prefills_between_ranges_of_decoding_take_no_sampling_from_them() -> None:
    """An engine names prefills otherwise. Behind each range it samples, and schedules before the next one."""
    forward, sampling = decoder(12, LAYER, HEAD[:1]), [("softmax", 2_000), ("argmax", 2_000)]
    rows = host_bound([[*forward, *sampling]] * 12, annotate="{}", between_ns=90_000)
    ranges = [
        replace(row, name="execute_new_1" if i in (3, 8) else f"execute_cached_{i}", end_ns=row.end_ns - 2 * 9_000)
        for i, row in enumerate(rows.ranges)
    ]
    steps = analyse(build(rows.activities, rows.calls, ranges)).steps
    assert (steps.name, steps.count) == ("execute_cached_N", 10)
    assert steps.kernels_per_step == len(forward) + len(sampling)
    assert steps.gap_ns is not None
    assert steps.gap_ns > 90_000


@pytest.mark.parametrize("word", ["rotary_embedding", "upsample_nearest", "grid_sampler_2d"])
def test_what_layers_run_too_marks_no_token(word: str) -> None:
    """A layer that turns its queries by rotary_embedding is no step by that."""
    unit = named(f"gemm_a norm gemm_b {word} gemm_c relu gemm_d add gemm_e")
    tail = [(f"head_{i}", 2_000) for i in range(40)]
    steps = steps_of(host_bound([[*unit * 10, *tail]]))
    assert steps.count <= 1


@pytest.mark.parametrize("loads", [False, True])
def test_gradients_of_several_batches_are_one_step(loads: bool) -> None:
    """Four batches, each asked of a loader or not, and then the optimizer: the step is all of it."""
    batch = [Op("load", 3_000_000)] * loads + [Op("launch", 40_000, name=f"gemm_{i}") for i in range(30)]
    program = [*batch * 4, Op("launch", 90_000, name="multi_tensor_apply_kernel<FusedAdam>"), Op("sync")]
    made = run(program, 6)
    made.ranges = [row for row in made.ranges if not row.name.startswith("ProfilerStep")]
    steps = analyse(build(*made.all)).steps
    assert (steps.count, steps.kernels_per_step) == (6, 4 * 30 + 1)
    assert steps.wall_ns == pytest.approx(made.step_ns, rel=0.01)


def test_denoising_steps_of_a_small_unet_that_attends_are_steps_and_no_layers() -> None:
    """Blocks of convolutions, every second one with four layers of attention, and two places that enlarge again."""
    convolutions = named("fprop_conv group_norm silu_elementwise") * 3
    unet = []
    for block in range(12):
        unet += [*convolutions, *(LAYER * 4 if block % 2 else ())]
        unet += named("upsample_nearest2d") if block in (3, 7) else []
    unet += named("scheduler_add scheduler_mul")
    decoding = [("vae_fprop_conv", 90_000), ("vae_group_norm", 9_000)] * 30
    rows = host_bound([*[unet] * 20, decoding])
    analysis = analyse(build(*rows.all))
    assert (analysis.steps.method, analysis.steps.count) == ("period", 20)
    assert (analysis.steps.kernels_per_step, analysis.steps.layers) == (len(unet), None)
    assert "forward pass" not in analysis.advice


def test_an_optimizers_kernel_makes_a_training_step_sure() -> None:
    """Gradients, then one fused optimizer's kernel; one kernel before the first step."""
    kernels = [*named(" ".join(f"gemm_{i} add_{i}" for i in range(20))), ("FusedAdamMathFunctor", 3_000)]
    steps = steps_of(host_bound([named("fill"), *[kernels] * 8], between_ns=9_000))
    assert (steps.method, steps.count, steps.kernels_per_step) == ("period", 8, len(kernels))
    assert steps.confidence >= SURE


def test_a_range_that_names_no_step_is_hedged_by_its_true_reason() -> None:
    generator, bag = random.Random(0), [name for name, _ in LAYER] * 3
    steps_kernels = []
    for _ in range(7):
        generator.shuffle(bag)
        steps_kernels.append([(name, 2_000) for name in bag])
    analysis = analyse(build(*host_bound(steps_kernels, annotate="work", between_ns=9_000).all))
    messages = [finding.message for finding in analysis.integrity.findings if finding.code == "steps-unsure"]
    assert messages == [
        "the ranges of work hold most kernels, but the name doesn't say that each is a step",
    ]
    assert "unlike" not in " ".join(assumed for row in analysis.whatif for assumed in row.assumptions)


def test_passes_with_long_waits_between_them_are_no_layers() -> None:
    """A rollout: the environment works for 1 ms after each of 16 small forward passes, then the policy is trained."""
    rollout = [Op("launch", 9_000, name=name) for name in ("gemm_a", "tanh_a", "gemm_b", "tanh_b", "multinomial")]
    rollout += [Op("sync"), Op("work", 1_000_000)]
    training = [Op("launch", 30_000, name=f"gemm_{i}") for i in range(30)] + [Op("launch", 40_000, name="FusedAdam")]
    analysis = analyse(build(*run([*rollout * 16, *training, Op("sync")], 5).all))
    assert (analysis.steps.count, analysis.steps.kernels_per_step) == (5, 16 * 5 + 31)
    assert analysis.steps.layers is None
    assert "layers" not in analysis.advice
    close = [op for op in rollout if op.kind == "launch"] * 16
    assert analyse(build(*run([*close, *training, Op("sync")], 5).all)).steps.layers is not None


def test_steps_whose_layers_run_other_experts_each_time_go_from_embedding_to_token() -> None:
    """A loop over the experts that were hit: no two steps have the same number of kernels."""
    generator, steps_kernels = random.Random(3), []
    for _ in range(12):
        kernels = named("indexSelect_embedding")
        for _ in range(8):
            kernels += named("rms_norm gemm_qkv flash_fwd gemm_o rms_norm gemm_router topk_softmax")
            kernels += named("index_expert gemm_up silu_mul gemm_down index_add") * generator.randint(3, 8)
        steps_kernels.append([*kernels, *named("gemm_head argmax")])
    steps = steps_of(host_bound(steps_kernels, between_ns=30_000))
    assert (steps.method, steps.count) == ("period", 12)
    assert steps.kernels_per_step in {len(kernels) for kernels in steps_kernels}
    assert steps.attention_kernels == 8


def test_tokens_that_come_oftener_than_chunks_of_a_prefill_are_the_steps() -> None:
    chunk = decoder(8, named("norm gemm_qkv flash_prefill gemm_o norm gemm_up silu gemm_down"), HEAD[:1])
    token = decoder(
        8, named("norm gemv_qkv splitkv_attn combine_attn gemv_o norm gemv_up silu gemv_down"), HEAD[:1], HEAD[1:]
    )
    steps = steps_of(host_bound([*[chunk] * 6, *[token] * 20], between_ns=9_000))
    assert (steps.count, steps.kernels_per_step) == (20, len(token))


def test_single_steps_between_prefills_are_counted() -> None:
    """One token, a prefill, two tokens, a prefill, and then tokens alone: fewer than three in a row are steps too."""
    token = decoder(12, LAYER, HEAD[:1], HEAD[1:])
    prefill = decoder(12, named("norm gemm_qkv flash_prefill gemm_o norm gemm_up silu gemm_down"), HEAD[:1], HEAD[1:])
    steps = steps_of(host_bound([token, prefill, token, token, prefill, *[token] * 6], between_ns=9_000))
    assert (steps.method, steps.count, steps.kernels_per_step) == ("period", 9, len(token))


def test_few_tokens_of_each_of_three_requests_are_steps() -> None:
    """A tower, a prefill and six tokens, three times: prefill and token have some kernels in common."""
    tower = decoder(24, named("vit_norm gemm_vq fmha_vit gemm_vo vit_norm gemm_v1 gelu gemm_v2"), named("conv_patch"))
    prefill = decoder(28, named("norm gemm_q rope flash_fwd gemm_o norm gemm_g silu gemm_d"), HEAD[:1])
    token = decoder(28, named("norm gemv_q rope splitkv_attn gemv_o norm gemv_g silu gemv_d"), HEAD[:1])
    request = [*tower, *prefill, *named("gemm_head argmax"), *[*token, *named("gemv_head argmax")] * 6]
    steps = steps_of(host_bound([request] * 3, between_ns=9_000))
    assert (steps.method, steps.count, steps.kernels_per_step) == ("period", 18, len(token) + 2)
    assert steps.layers is not None
    assert steps.layers.count == 28
