"""`laptime trace`: three faces, exit codes, errors in one line."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from laptime.cli.trace import trace
from laptime.cli.typer_line import with_typers_declarations
from laptime.errors import LaptimeError
from tests.trace import engines
from tests.trace.write_traces import RangeRow, write_kineto, write_nsys

app = typer.Typer()
app.command("trace")(with_typers_declarations(trace))
app.command("other")(lambda: None)


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and stdout of `laptime trace ARGUMENTS`; errors are raised, as main() sees them."""
    result = CliRunner().invoke(app, ["trace", *map(str, arguments)], standalone_mode=False)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return int(result.return_value or 0), result.stdout


@pytest.fixture
def kineto(tmp_path: Path) -> Path:
    return write_kineto(tmp_path / "trace.json.gz", *engines.published_engine(6).all)


def test_the_terminal_shows_the_point(kineto: Path) -> None:
    code, out = run(kineto)
    assert code == 0
    assert "GPU idle 21 %" in out
    assert "36 × 11 + 4" in out


def test_json_is_alone_on_stdout(kineto: Path, tmp_path: Path) -> None:
    code, out = run(kineto, "--json", "--html", tmp_path / "p.html", "--tpot", 14.63)
    value = json.loads(out)
    assert (code, value["schema"]) == (0, "laptime.trace/1")
    remedies = [row["remedy"] for row in value["whatif"]]
    assert remedies == ["untraced", "buffers", "fusion", "graph", "graph+fusion", "compile"]
    assert (tmp_path / "p.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_name_that_is_no_utf_8_is_shown_with_a_mark(kineto: Path, tmp_path: Path) -> None:
    try:
        odd = kineto.rename(tmp_path / os.fsdecode(b"odd\xff.json.gz"))
    except OSError as error:
        if error.errno != errno.EILSEQ:
            raise
        pytest.skip("this file system takes no such name")
    code, out = run(odd, "--json")
    assert code == 0
    assert json.loads(out)["source"]["file"].endswith("odd\ufffd.json.gz")


def test_both_formats_are_recognised(tmp_path: Path) -> None:
    code, out = run(write_nsys(tmp_path / "t.sqlite", *engines.published_engine(6).all), "--json")
    assert (code, json.loads(out)["source"]["format"]) == (0, "nsys-sqlite")


def test_two_traces_are_compared(kineto: Path, tmp_path: Path) -> None:
    other = write_kineto(tmp_path / "other.json", *engines.host_bound([engines.published_step()] * 6).all)
    code, out = run(kineto, "--compare", other, "--json")
    value = json.loads(out)
    assert (code, value["schema"], value["per"]) == (0, "laptime.trace-compare/1", "step")
    code, out = run(kineto, "--compare", other)
    assert out.index("Kernel sums") < out.index("Gaps per step") < out.index("Counts")
    empty = write_kineto(tmp_path / "empty.json", ranges=[RangeRow(0, 9_000, "host", "cpu_op")])
    assert [run(*pair)[0] for pair in ((kineto, "--compare", empty), (empty, "--compare", kineto))] == [1, 1]
    run(kineto, "--compare", other, "--html", tmp_path / "c.html")
    assert "Kernel sums" in (tmp_path / "c.html").read_text(encoding="utf-8")


def test_a_page_is_not_overwritten_unasked(kineto: Path, tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    mark = '<meta name="generator" content="laptime">'
    page.write_text(mark, encoding="utf-8")
    with pytest.raises(LaptimeError, match="`force`"):
        run(kineto, "--html", page)
    assert page.read_text(encoding="utf-8") == mark
    code, out = run(kineto, "--html", page, "--force")
    assert (code, "GPU idle 21 %" in out) == (0, True)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tpot", "0"], "--tpot 0: write a time above 0"),
        (["--tpot", "1e-300"], "--tpot 1e-300: is shorter than 1 ns"),
        (["--tpot", "1"], "the given time of a token, 1 ms, is shorter than"),
        (["--device", "5"], "no activity on device 5"),
        (["--html", "/dev/null/x.html"], "--html /dev/null/x.html: can't be written there (Not a directory)"),
    ],
)
def test_what_can_not_be_done_is_one_line(kineto: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(LaptimeError, match=re.escape(message)) as caught:
        run(kineto, *arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b garbage", b"{"])
def test_an_unreadable_file_is_one_line_or_a_verdict(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    try:
        code, _ = run(path, "--json")
    except LaptimeError as error:
        assert "broken.json" in str(error)
        assert "\n" not in str(error)
    else:
        assert code == 1


def test_no_gpu_activity_is_exit_code_1(tmp_path: Path) -> None:
    path = write_kineto(tmp_path / "empty.json", [], [engines.published_engine(1).calls[0]])
    code, out = run(path, "--json")
    assert (code, json.loads(out)["integrity"]["verdict"]) == (1, "unsupported")


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LaptimeError, match=r"missing\.json"):
        run(tmp_path / "missing.json")
