"""`laptime remedy`: the table, the JSON, the page; usage errors in one line."""

import json
import subprocess
import sys

import msgspec
import pytest

from laptime.cli.main import run
from laptime.remedy.result import RemedyReport

CALL = ["remedy", "preset:tiny-llm", "--device", "cpu", "--prompt-tokens", "16", "--new-tokens", "8", "--rounds", "1"]


def test_table_json_and_page(tmp_path, capsys):
    out = tmp_path / "remedies"
    assert run([*CALL, "--only", "buffers,graph,fast", "--out", str(out), "--json"]) == 0
    said = capsys.readouterr()
    report = msgspec.json.decode(said.out, type=RemedyReport)
    assert report.schema == "laptime.remedy/1"
    assert [row.name for row in report.rows] == ["eager", "buffers", "graph", "fast"]
    assert report.rows[3].tokens_same is True
    assert json.loads((out / "remedy.json").read_text()) == json.loads(said.out)
    assert "Promised and measured" in (out / "remedy.html").read_text()
    assert "round 1 of 1" in said.err


def test_the_table_names_what_needs_a_gpu(capsys, tmp_path):
    assert run([*CALL, "--only", "graph", "--html", str(tmp_path / "a" / "page.html")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "needs a CUDA GPU" in shown
    assert (tmp_path / "a" / "page.html").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--only", "magic"], "magic: no such remedy"),
        (["--only", "bufers"], "did you mean buffers?"),
        (["--new-tokens", "3"], "--new-tokens 3"),
        (["--rounds", "0"], "--rounds 0"),
        (["--prompt-tokens", "9000"], "don't fit its context"),
    ],
)
def test_usage_errors_are_one_line(words, reason, capsys):
    at = CALL.index(words[0]) if words[0] in CALL else len(CALL)
    assert run([*CALL[:at], *words, *CALL[at + 2 :]]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert reason in said[-1]
    assert "Traceback" not in "".join(said)


def test_a_page_can_t_replace_a_folder(tmp_path, capsys):
    assert run([*CALL, "--html", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_nothing_is_replaced_without_force_and_that_is_known_before_the_model_is_loaded(tmp_path, capsys):
    out, page = tmp_path / "out", tmp_path / "page.html"
    call = [*CALL, "--only", "buffers"]
    assert run([*call, "--out", str(out), "--html", str(page)]) == 0
    first = (out / "remedy.json").read_bytes()
    capsys.readouterr()
    for words in (["--out", str(out)], ["--html", str(page)]):
        assert run([*call, *words]) == 2
        said = capsys.readouterr().err
        assert "--force" in said
        assert "baseline" not in said, "work had begun"
    assert (out / "remedy.json").read_bytes() == first
    assert run([*call, "--out", str(out), "--html", str(page), "--force"]) == 0
    assert (out / "remedy.json").read_bytes() != first


def test_a_folder_of_something_else_is_never_replaced(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("x")
    assert run([*CALL, "--out", str(tmp_path), "--force"]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").exists()


def test_reading_a_report_imports_no_torch():
    modules = "laptime.report.remedy.page, laptime.report.remedy.terminal"
    code = f"import sys; import {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
