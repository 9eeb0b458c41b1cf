"""No text from outside reaches a terminal as an instruction, and every encoding gets something that it can show."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from laptime.cli.main import run as laptime
from laptime.data.run_folder import RunFolder, new_info
from tests.samples import environment, sample

HOSTILE = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202eevil\u2066\rback"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def folder(tmp_path):
    config = {"model": HOSTILE, HOSTILE: 1}
    rows = [sample(n, config=config | {"top_k": n % 2}, sample_id=HOSTILE + str(n), text=HOSTILE) for n in range(12)]
    with RunFolder(tmp_path / HOSTILE, new_info([HOSTILE], {"model": HOSTILE}, environment())) as run:
        run.append_all(rows)
    return tmp_path / HOSTILE


@pytest.mark.parametrize(
    "verb",
    [
        ("audit",), ("report",), ("fit", "--out", "OUT"), ("export", "--to", "OUT"), ("evaluate",), ("compare", "RUN"),
        ("merge", "--out", "OUT"), ("predict", "top_k=1"), ("trace",),
    ],
    ids=lambda verb: verb[0],
)  # fmt: skip
def test_names_values_and_paths_are_shown_escaped(folder, tmp_path, capsys, verb):
    known = {"RUN": str(folder), "OUT": str(tmp_path / f"{HOSTILE}.out")}
    laptime([verb[0], str(folder), *(known.get(word, word) for word in verb[1:])])
    said = capsys.readouterr()
    assert said.out + said.err
    assert not RAW.search(said.out)
    assert not RAW.search(said.err)


def test_a_wrong_option_is_shown_escaped(capsys):
    assert laptime(["audit", f"--{HOSTILE}"]) == 2
    assert not RAW.search(capsys.readouterr().err)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_old_encoding_gets_plain_letters(folder, encoding):
    shown = subprocess.run(
        [sys.executable, "-m", "laptime", "audit", str(folder)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert shown.returncode in (0, 1)
    assert b"Traceback" not in shown.stderr
    assert shown.stdout.decode(encoding)


CLOSED = "laptime: stdout: is closed, so that the answer can't be printed\n"
FULL = "laptime: writing: No space left on device\n"


def shell(line, **variables):
    """What a line of sh ended with, where $L is laptime."""
    known = os.environ | {"L": f"{sys.executable} -m laptime"} | variables
    return subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, env=known, check=False)


HAS_FULL = Path("/dev/full").exists()
needs_full = pytest.mark.skipif(not HAS_FULL, reason="this system has no device that is full")


@pytest.mark.parametrize(
    "verb", ["--version", "--help", 'audit "$RUN"', 'audit "$RUN" --json', 'report "$RUN" --force']
)
def test_an_answer_that_nobody_can_get_is_none(folder, verb):
    """Neither 0 nor 1, the answers, and no crash; the page of report is written, but its name isn't said."""
    for stdout, said in ((">&-", CLOSED), (">/dev/full", FULL)):
        if stdout == ">&-" or HAS_FULL:
            ended = shell(f"$L {verb} {stdout}", RUN=str(folder))
            assert (ended.returncode, ended.stdout, ended.stderr.splitlines()[-1:]) == (2, "", said.splitlines())


@needs_full
@pytest.mark.parametrize(
    ("verb", "code"),
    [("trace nothing-is-here", 2), ("trace --devcie 1", 2), ('audit "$RUN" --html "$PAGE"', 1), ("--version", 0)],
)
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-"])
def test_what_stderr_can_not_take_changes_no_exit_code(folder, tmp_path, verb, code, stderr):
    known = {"RUN": str(folder), "PAGE": str(tmp_path / "page.html")}
    assert shell(f"$L {verb}", **known).returncode == code
    assert shell(f"$L {verb}{' --force' * (code == 1)} {stderr}", **known).returncode == code
    assert shell(f"$L {verb}{' --force' * (code == 1)} >/dev/full {stderr}", **known).returncode == 2


@pytest.mark.parametrize("closed", [(1,), (0, 1, 2)], ids=str)
def test_a_page_is_whole_with_streams_closed_and_no_file_of_a_verb_gets_its_number(folder, tmp_path, closed):
    """A page whose file had the number of stdout would hold what the verb prints."""
    page = tmp_path / "page.html"
    words = f'{sys.executable} -m laptime report "$RUN" --html {page} {" ".join(f"{one}>&-" for one in closed)}'
    ended = subprocess.run(["/bin/sh", "-c", words], capture_output=True, env={**os.environ, "RUN": str(folder)})
    assert ended.returncode == 2, ended.stderr  # where it is could not be said
    assert page.read_text().startswith("<!doctype html>")
    assert page.read_text().rstrip().endswith("</html>")


def test_help_has_plain_letters_on_an_old_encoding_and_twenty_columns():
    shown = subprocess.run(
        [sys.executable, "-m", "laptime", "--help"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "20"},
    )
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"..." in shown.stdout


@pytest.mark.parametrize("verb", ["audit", "report", "compare"])
def test_json_of_a_place_whose_name_is_no_utf_8(folder, tmp_path, capsys, verb):
    place = tmp_path / os.fsdecode(b"caf\xe9")
    place.mkdir()
    run = str(folder.rename(place / "run"))
    assert laptime([verb, run, *([run] if verb == "compare" else []), "--json"]) in (0, 1)
    json.loads(capsys.readouterr().out.encode())
