"""The loop learns, every block and expert has a gradient, what is saved answers through generate() as in training."""

import dataclasses
import json
import math
import signal
import threading

import pytest
import torch
from examples.glyphs.batches import (
    FULL,
    LOWEST,
    TRAINED_FROM,
    Knobs,
    Steps,
    draw_knobs,
    make_batch,
    trained_at,
)
from examples.glyphs.losses import PatchReader
from examples.glyphs.master_weights import MasterWeights
from examples.glyphs.model import DEPTHS, TILINGS, TOP_KS, make_model, save
from examples.glyphs.model_card import grid, measure
from examples.glyphs.pages import draw_page
from examples.glyphs.questions import TYPES, ask
from examples.glyphs.train import Trainer, knobs_set, parser, rate_at, train
from PIL import Image
from safetensors.torch import load_file

from laptime.models.anatomy import find_anatomy
from laptime.models.knobs import ModelKnobs, applied
from laptime.models.loading import load_model
from laptime.workload.datasets import inputs_from_example
from laptime.workload.example import Example

LOW = Knobs("low", 4, 8)
READING = [kind for kind in TYPES if kind not in TRAINED_FROM]


@pytest.fixture(scope="module")
def trained():
    trainer = Trainer(make_model("tiny"), device="cpu", dtype=torch.float32, decay=0.0)
    batch = make_batch("overfit", 0, 2)
    for step in range(130):
        knobs = Knobs("low", TOP_KS[step % 3], (8, 6, 8, 2, 8)[step % 5])
        rate = 4e-3 * min(1, (step + 1) / 20) * (1 if step < 95 else 0.25)
        losses = trainer.step(knobs, batch, rate=rate, reading=0.1)
    return trainer, batch, losses


def test_a_few_pages_are_learnt_under_all_knobs(trained):
    trainer, batch, losses = trained
    assert losses["answers"] < 0.5
    full, lowest = (trainer.accuracy(knobs, batch) for knobs in (LOW, LOWEST))
    assert set(full) == set(TYPES)
    assert sum(full.values()) / len(full) > 0.9
    assert sum(lowest[kind] for kind in READING) / len(READING) > 0.7


def test_what_is_saved_answers_as_in_training(trained, tmp_path):
    trainer, _, _ = trained
    save(trainer.model, tmp_path)
    loaded = load_model(str(tmp_path), device="cpu")
    assert loaded.dtype == torch.bfloat16 and loaded.model.generation_config.suppress_tokens == [2]
    asked = []
    for number in range(2):
        page = draw_page("overfit", number)
        for place, kind in enumerate(TYPES):
            asked.append((Image.fromarray(page.image), ask(kind, page.truth, "overfit", number, place)))
    settings = [LOW, LOWEST]
    by_generate = dict(measure(load_model(str(tmp_path), device="cpu", dtype="float32"), asked, settings, 9))
    halves = Trainer(load_model(str(tmp_path), device="cpu", dtype="float32").model, device="cpu", dtype=torch.float32)
    firsts = make_batch("overfit", 0, 2)
    once = firsts["owners"][firsts["rows"], firsts["positions"]] <= len(TYPES)  # measure() asks each type once
    firsts |= {name: firsts[name][once] for name in ("rows", "positions")}
    for knobs in settings:
        assert by_generate[knobs] == pytest.approx(halves.accuracy(knobs, firsts), abs=1e-3)
    assert sum(by_generate[LOW].values()) > 0.85 * len(TYPES)


def test_laptime_asks_it_one_question(trained, tmp_path):
    trainer, _, _ = trained
    save(trainer.model, tmp_path)
    loaded = load_model(str(tmp_path), device="cpu", dtype="float32")
    page = draw_page("overfit", 1)
    Image.fromarray(page.image).save(tmp_path / "page.png")
    asked = ask("colour", page.truth, "overfit", 1, 0)
    example = Example("colour-1", asked.text, tmp_path / "page.png", (asked.answer,), "here")
    with applied(loaded.model, ModelKnobs(crops=(1, 3), blocks=8)):
        inputs = inputs_from_example(loaded, example, crops=(1, 3))
        ids = loaded.model.generate(**inputs.kwargs, max_new_tokens=20)
    new = ids[0, inputs.prompt_tokens :].tolist()
    assert inputs.image_tokens == 144 + 12 * 13
    assert loaded.tokenizer.decode(new, skip_special_tokens=True) == asked.answer
    assert new[-1] == 0 and len(new) == 2  # a colour's name is one token, and the end token stops it


@pytest.mark.parametrize("blocks", DEPTHS)
def test_gradients_reach_the_active_blocks_and_no_others(blocks):
    model = make_model("tiny")
    trainer = Trainer(model, device="cpu", dtype=torch.float32)
    before = [block.self_attn.q_proj.weight.clone() for block in trainer.anatomy.layers]
    experts = [block.mlp.experts.down_proj.clone() for block in trainer.anatomy.layers]
    trainer.step(Knobs("low", 2, blocks), make_batch("train", 0, 1), rate=1e-3, reading=0.5)
    with applied(model, ModelKnobs(blocks=blocks)) as now:
        active = now.active_blocks
    for index, block in enumerate(trainer.anatomy.layers):
        assert (block.self_attn.q_proj.weight != before[index]).any() == (index in active)
        moved = (block.mlp.experts.down_proj != experts[index]).flatten(1).any(1)
        assert moved.all() == (index in active)


def test_knobs_are_set_as_laptime_sets_them():
    model = make_model("tiny")
    anatomy = find_anatomy(model)

    def state():
        layers = model.model.language_model.layers
        config = model.config.text_config
        return (
            [id(layer) for layer in layers],
            [layer.self_attn.layer_idx for layer in layers],
            [layer.mlp.gate.top_k for layer in layers],
            config.num_hidden_layers,
            config.num_experts_per_tok,
        )

    for knobs in grid():
        with knobs_set(model, anatomy, knobs):
            ours = state()
        with applied(model, ModelKnobs(top_k=knobs.top_k, blocks=knobs.blocks)):
            assert ours == state()
    assert state()[3:] == (8, 4)


def test_a_bfloat16_model_keeps_updates_too_small_for_it():
    weight = torch.nn.Linear(2, 2, bias=False, dtype=torch.bfloat16)
    weight.weight.data.fill_(1.0)
    optimiser = MasterWeights(weight, decay=0.0)
    for _ in range(20):
        weight.weight.grad = torch.ones_like(weight.weight)
        optimiser.step(1e-3, clip=10.0)  # 0.001 is a quarter of bfloat16's step below 1
    assert weight.weight.max().item() == pytest.approx(0.98, abs=0.003)


def test_the_patch_reader_learns_what_is_shown():
    torch.manual_seed(0)
    shown = make_batch("train", 0, 2)["shown"]
    reader = PatchReader(8)
    for side in (12, 24, 36):
        features = torch.randn(2, side, side, 8)
        assert torch.isfinite(reader.loss(features, shown))
    wrong = shown.clone()
    wrong[:, 3] = 0
    with torch.no_grad():
        reader.read.weight.zero_()
        reader.read.bias.zero_()
        reader.read.bias[-1] = 9.0  # "a centre, everywhere"
        assert reader.loss(features, wrong) > reader.loss(features, shown)


def test_steps_are_drawn_from_their_number_alone():
    steps = Steps("train", 2, seed=5)
    (knobs, batch), (_, same) = steps[3], steps[3]
    assert all(batch[name].equal(same[name]) for name in batch)
    assert len(batch["pages"]) == {"low": 6, "medium": 3, "high": 2}[knobs.tier]
    drawn = [draw_knobs(0, step) for step in range(600)]
    assert {one.tier for one in drawn} == set(TILINGS)
    assert {one.blocks for one in drawn} == set(DEPTHS) and {one.top_k for one in drawn} == set(TOP_KS)
    assert sum(one.blocks == FULL.blocks for one in drawn) / 600 == pytest.approx(0.42, abs=0.07)


@pytest.mark.parametrize("blocks", DEPTHS)
def test_a_type_is_trained_from_its_number_of_blocks_on(blocks):
    batch = make_batch("train", 0, 2)
    kept = trained_at(batch, blocks)
    taught = {kind for kind in TYPES if TRAINED_FROM.get(kind, 0) <= blocks}
    assert {TYPES[kind] for kind in kept["kinds"][kept["rows"], kept["positions"]].unique()} == taught
    whole = batch["kinds"][batch["rows"], batch["positions"]]
    assert len(kept["rows"]) == sum(int((whole == TYPES.index(kind)).sum()) for kind in taught)


def test_a_frozen_vision_tower_stays_as_it_is():
    model = make_model("tiny")
    before = [weight.clone() for weight in model.model.vision_tower.parameters()]
    blocks = [weight.clone() for weight in model.model.language_model.parameters()]
    trainer = Trainer(model, device="cpu", dtype=torch.float32, frozen_vision=True)
    trainer.step(Knobs("low", 4, 8), make_batch("train", 0, 1), rate=1e-2, reading=0.0)
    assert all(a.equal(b) for a, b in zip(before, model.model.vision_tower.parameters(), strict=True))
    assert any(not a.equal(b) for a, b in zip(blocks, model.model.language_model.parameters(), strict=True))


def test_the_rate_rises_and_falls():
    rates = [rate_at(share / 100, 1.0) for share in range(101)]
    assert max(rates) > 0.99 and rates[-1] == pytest.approx(0.01) and rates[0] < 0.05
    assert all(math.isfinite(rate) for rate in rates)


def test_the_command_trains_stops_and_goes_on(tmp_path):
    common = ["--size", "tiny", "--device", "cpu", "--workers", "0", "--batch", "1", "--watched", "1", "--every", "0"]
    args = parser().parse_args(["--out", str(tmp_path / "a"), *common, "--steps", "2"])
    train(args)
    first = json.loads((tmp_path / "a" / "training.json").read_text())
    assert [entry["step"] for entry in first["curve"]] == [0, 1, 2]
    assert first["curve"][-1]["pages"] >= 2 and set(first["curve"][0]["losses"]) == {"reading", "norm"}
    assert set(first["curve"][1]["losses"]) >= {"answers", "reading"}  # the vision tower alone comes first
    args = parser().parse_args(
        ["--out", str(tmp_path / "b"), *common, "--minutes", "9", "--resume", str(tmp_path / "a")]
    )
    threading.Timer(2.0, signal.raise_signal, [signal.SIGTERM]).start()
    train(args)  # long before its time
    assert json.loads((tmp_path / "b" / "training.json").read_text())["resumed"]
    assert (tmp_path / "b" / "model.safetensors").stat().st_size < 15e6


def test_a_training_in_several_calls_is_the_same_training(tmp_path, capsys):
    """Weights to the bit: the optimiser's moments, the pages and the schedule go on where the last call ended."""
    common = ["--size", "tiny", "--device", "cpu", "--workers", "0", "--batch", "1", "--watched", "1", "--steps", "4"]
    train(parser().parse_args(["--out", str(tmp_path / "one"), *common]))
    several = ["--out", str(tmp_path / "several"), *common, "--call-steps"]
    train(parser().parse_args([*several, "2"]))
    assert "50% done" in capsys.readouterr().out
    assert not (tmp_path / "several" / "model.safetensors").exists()
    with pytest.raises(SystemExit, match="begun with another batch"):
        train(parser().parse_args([*several, "2", "--batch", "2"]))
    train(parser().parse_args([*several, "9"]))
    train(parser().parse_args([*several, "9"]))
    assert "is over, after 4 steps" in capsys.readouterr().out
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "several"))
    assert all(one[name].equal(other[name]) for name in one)
    curves = [json.loads((tmp_path / name / "training.json").read_text())["curve"] for name in ("one", "several")]
    assert curves[0][-1]["pages"] == curves[1][-1]["pages"]
    assert not (tmp_path / "several" / "checkpoint" / "state.safetensors").exists()


def test_a_step_draws_its_experts_from_the_models_own_number():
    usual, twice = Steps("train", 1, seed=5), Steps("train", 1, seed=5, most_experts=2 * TOP_KS[-1])
    for step in range(6):
        assert twice[step][0] == dataclasses.replace(usual[step][0], top_k=2 * usual[step][0].top_k)
    assert {knobs.top_k for knobs in grid(8)} == {2, 4, 8}
