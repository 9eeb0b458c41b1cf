"""`laptime importance`: the table, the file that a sweep reads, and bad input in one line."""

from __future__ import annotations

import json

from laptime.models.block_importance import read_importance
from tests.cli.estimates import ask


def test_the_file_is_what_a_sweep_reads(capsys, tmp_path):
    file = tmp_path / "importance.json"
    code, out, _ = ask(capsys, "importance", "preset:tiny-llm", "--samples", "2", "--out", file, "--json")
    assert code == 0
    said = json.loads(out)
    assert said["schema"] == "laptime.importance/1"
    assert read_importance(file, blocks=8) == said["importance"]
    assert sorted(map(int, said["active"])) == [2, 3, 4, 5, 6, 7]
    assert all(0 <= share <= 1 for share in said["agreement"].values())


def test_it_says_how_far_it_is(capsys):
    code, out, err = ask(capsys, "importance", "preset:tiny-llm", "--samples", "1", "--json")
    forwards = 2 + len(json.loads(out)["active"])  # importance, the whole model, each number of blocks
    assert code == 0
    assert f"forwards {forwards}/{forwards}" in err


def test_bad_input_is_one_line_before_anything_is_loaded(capsys, tmp_path):
    file = tmp_path / "importance.json"
    file.write_text("[]")
    for words, says in (
        (["--out", file], "is already there"),
        (["--data", tmp_path / "none.jsonl"], "none.jsonl: no such file"),
    ):
        code, out, err = ask(capsys, "importance", "preset:tiny-llm", *words)
        assert (code, out, err.count("\n"), says in err) == (2, "", 1, True), err
    assert file.read_text() == "[]"


def test_a_search_by_likelihood_has_a_page(capsys, tmp_path):
    data = tmp_path / "questions.jsonl"
    rows = [{"id": f"q-{number}", "question": f"ask {number}", "answer": "red"} for number in range(8)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--data", data, "--search", "blocks", "--score", "likelihood", "--totals", "7", "--tries", "1"]
    code, out, _ = ask(capsys, "importance", "preset:tiny-llm", *words, "--html", tmp_path / "page.html", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["score"], found["settings"]) == ("likelihood", 2)
    assert 0 < found["whole"]["value"] < 1
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
