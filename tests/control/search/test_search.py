"""The search on a tiny model: what it names is what ran, others judge, and a sweep runs what its file names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from laptime.control.search.beam import Beam
from laptime.control.search.scored_set import ScoredSet, SetSettings
from laptime.control.search.search import search_knob
from laptime.control.tables.decision_table import half_of
from laptime.errors import LaptimeError
from laptime.models.anatomy import find_anatomy
from laptime.models.block_importance import read_active
from laptime.models.knobs import ModelKnobs, applied
from laptime.models.loading import Loaded, load_model
from laptime.report.results import report, to_json
from laptime.sweeps.block_choice import choice_by_file
from laptime.workload.datasets import answer_text, inputs_from_example
from laptime.workload.example import Example
from tests.cli.estimates import ask

QUESTIONS = ("a", "bb", "cc dd", "what", "red", "ten", "who is it", "where")


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    """An 8-block model of which block 3 and 5 do nothing."""
    loaded = load_model("preset:tiny-llm", device="cpu")
    for index in (3, 5):
        block = find_anatomy(loaded.model).layers[index]
        torch.nn.init.zeros_(block.self_attn.o_proj.weight)  # type: ignore[union-attr, arg-type]
        torch.nn.init.zeros_(block.mlp.down_proj.weight)  # type: ignore[union-attr, arg-type]
    return loaded


@pytest.fixture(scope="module")
def examples(loaded: Loaded) -> list[Example]:
    """Questions whose right answer is what the whole model says."""
    asked = []
    for number, question in enumerate(QUESTIONS):
        one = Example(f"q-{number}", question, None, (), "here")
        kwargs = inputs_from_example(loaded, one).kwargs
        out = loaded.model.generate(**kwargs, max_new_tokens=3, do_sample=False)
        said = answer_text(loaded, out[0, kwargs["input_ids"].shape[1] :].tolist())
        asked.append(Example(one.id, question, None, (said,), "here"))
    assert {half_of(one.id) for one in asked} == {"train", "held-out"}
    return asked


def test_it_leaves_out_what_does_nothing(loaded: Loaded, examples: list[Example]) -> None:
    result = search_knob(
        loaded, examples, SetSettings(kind="exact", new_tokens=3), "blocks", [7, 6], Beam(width=2, tries=3)
    )
    best = result.row("beam", 6)
    assert best is not None
    assert best.levels == [1, 1, 1, 0, 1, 0, 1, 1]
    assert best.right.value == best.found == result.whole.value == 1.0
    assert result.active == {7: "0-4,6-7", 6: "0-2,4,6-7"}
    assert result.ways == ["beam", "importance", "prefix", "random"]
    assert result.searched + result.judged == len(QUESTIONS)
    assert all((row.less is None) == (row.way == "beam") for row in result.rows)
    assert json.loads(to_json(result))["schema"] == "laptime.search/1"
    report(result)


def test_exactly_the_named_blocks_run(loaded: Loaded, examples: list[Example]) -> None:
    """Seen from inside, by hooks on every block."""
    ran: set[int] = set()
    hooks = [
        layer.register_forward_hook(lambda *_, index=index: ran.add(index))
        for index, layer in enumerate(find_anatomy(loaded.model).layers)
    ]
    asked = ScoredSet(loaded, examples, SetSettings(kind="exact", new_tokens=2))
    for setting in ((1, 0, 1, 0, 0, 1, 1, 1), (1, 1, 1, 1, 0, 0, 0, 1)):
        for look in (asked.right, asked.close):
            ran.clear()
            look(setting)
            assert ran <= {index for index, level in enumerate(setting) if level} | (
                set(range(8)) if look == asked.close else set()
            )
            assert {index for index, level in enumerate(setting) if level} <= ran
    for hook in hooks:
        hook.remove()


def test_experts_are_searched_and_counted_inside() -> None:
    loaded = load_model("preset:tiny-vlm", device="cpu")
    own = find_anatomy(loaded.model).experts
    assert own is not None
    count = len(find_anatomy(loaded.model).layers)
    questions = [Example(f"q-{number}", text, None, ("no",), "here") for number, text in enumerate(QUESTIONS)]
    seen: dict[int, set[int]] = {}

    def look(_: Any, args: Any, index: int) -> None:
        seen.setdefault(index, set()).update(len(set(row)) for row in args[1].tolist())

    for index, layer in enumerate(find_anatomy(loaded.model).layers):
        for name, module in layer.named_modules():
            if name.endswith("experts"):
                module.register_forward_pre_hook(lambda one, args, index=index: look(one, args, index))
    setting = tuple(1 + index % own.top_k for index in range(count))
    ScoredSet(loaded, questions[:2], SetSettings(kind="exact", new_tokens=2), "experts").right(setting)
    assert seen == {index: {level} for index, level in enumerate(setting)}
    total = own.top_k * count - 1
    result = search_knob(
        loaded, questions, SetSettings(kind="exact", new_tokens=1), "experts", [total], Beam(width=1, tries=1)
    )
    row = result.row("beam", total)
    assert row is not None
    assert sum(row.levels) == total
    assert result.active == {}
    assert result.experts == {total: ",".join(map(str, row.levels))}


def test_too_few_questions_and_a_model_without_experts(loaded: Loaded, examples: list[Example]) -> None:
    settings = SetSettings(kind="exact")
    with pytest.raises(LaptimeError, match="at least 2 of each"):
        search_knob(loaded, examples[:1], settings)
    with pytest.raises(LaptimeError, match="has no experts"):
        search_knob(loaded, examples, settings, "experts")
    with pytest.raises(LaptimeError, match="the model can take 2 to 8"):
        search_knob(loaded, examples, settings, totals=[1])


def test_the_command_writes_what_a_sweep_runs(capsys: Any, tmp_path: Path, loaded: Loaded) -> None:
    data, file = tmp_path / "q.jsonl", tmp_path / "found.json"
    data.write_text(
        "".join(json.dumps({"id": f"q-{n}", "question": q, "answer": "x"}) + "\n" for n, q in enumerate(QUESTIONS))
    )
    words = ["importance", "preset:tiny-llm", "--data", data, "--search", "blocks", "--totals", "7", "--width", "1"]
    code, out, _ = ask(capsys, *words, "--tries", "1", "--new-tokens", "1", "--out", file, "--json")
    assert code == 0
    said = json.loads(out)
    active = read_active(file)
    row = next(row for row in said["rows"] if row["way"] == "beam")
    assert active == {7: tuple(index for index, level in enumerate(row["levels"]) if level)}
    assert choice_by_file(loaded.model, str(file), [7, 6]).active[7] == active[7]
    assert len(choice_by_file(loaded.model, str(file), [7, 6]).active[6]) == 6


@pytest.mark.parametrize(
    ("active", "says"),
    [
        ('{"7": "0-5"}', "6 active blocks stand under 7"),
        ('{"7": "0-x"}', "numbers and ranges"),
        ('{"7": 3}', "write {"),
        ('{"seven": "0-6"}', "write {"),
        ("[1]", "are no object"),
        ('{"7": "1-7"}', "block 0 of this model always runs"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, loaded: Loaded, active: str, says: str) -> None:
    file = tmp_path / "found.json"
    file.write_text(f'{{"importance": {[1.0] * 8}, "active": {active}}}')
    with pytest.raises(LaptimeError) as raised:
        choice_by_file(loaded.model, str(file), [7])
    assert str(raised.value).startswith(f"{file}: ")
    assert says in str(raised.value)


def test_bad_words_are_one_line(capsys: Any, tmp_path: Path) -> None:
    data = tmp_path / "q.jsonl"
    data.write_text('{"id": "q-1", "question": "a"}\n')
    for words, says in (
        (["--search", "blocks"], "needs questions with their answers"),
        (["--totals", "7", "--width", "2"], "--totals, --width: goes with --search"),
        (["--search", "blocks", "--data", data, "--totals", ","], "whole numbers above 0"),
        (["--search", "blocks", "--data", data, "--totals", "7.5"], "whole numbers above 0"),
        (["--search", "blocks", "--data", data, "--totals", "nan"], "whole numbers above 0"),
        (["--search", "blocks", "--data", data], "needs an answer"),
    ):
        code, out, err = ask(capsys, "importance", "preset:tiny-llm", *words)
        assert (code, out, err.count("\n"), says in err) == (2, "", 1, True), err


def test_likelihood_is_one_over_the_perplexity_of_the_right_answer(loaded: Loaded, examples: list[Example]) -> None:
    """Against a forward over each prompt with its answer, by itself."""
    asked = ScoredSet(loaded, examples, SetSettings(kind="likelihood"))
    setting = (1, 1, 1, 0, 1, 1, 1, 1)
    expected = []
    with applied(loaded.model, ModelKnobs(blocks=7, active=(0, 1, 2, 4, 5, 6, 7))), torch.no_grad():
        for one in examples:
            prompt = inputs_from_example(loaded, one).kwargs["input_ids"]
            answer = torch.tensor([loaded.tokenizer.encode(one.answers[0], add_special_tokens=False)])
            whole = torch.cat([prompt, answer], dim=1)
            loss = torch.nn.functional.cross_entropy(
                loaded.model(whole, use_cache=False).logits[0, prompt.shape[1] - 1 : -1].double(), answer[0]
            )
            expected.append(float(torch.exp(-loss)))
    assert asked.scores(setting) == pytest.approx(expected, rel=1e-4)


def test_a_likelihood_needs_an_answer(loaded: Loaded) -> None:
    with pytest.raises(LaptimeError, match="here: score 'likelihood' needs an answer"):
        ScoredSet(loaded, [Example("q-1", "a", None, (), "here")], SetSettings(kind="likelihood"))
    with pytest.raises(LaptimeError, match="score 'likelyhood' is unknown: use likelihood, vqa"):
        ScoredSet(loaded, [Example("q-1", "a", None, ("b",), "here")], SetSettings(kind="likelyhood"))
