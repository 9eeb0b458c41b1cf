"""What a user names to be written never takes the place of what was measured, nor a page of anything but a page."""

from __future__ import annotations

import os

import pytest

from laptime.cli.main import run as laptime
from laptime.data.files import write_new_file
from laptime.data.run_folder import RunFolder, new_info
from laptime.errors import LaptimeError
from tests.samples import environment, sample


@pytest.fixture
def folder(tmp_path):
    with RunFolder(tmp_path / "run", new_info([], {}, environment())) as run:
        run.append_all([sample(number) for number in range(8)])
        run.write_summary()
    return tmp_path / "run"


@pytest.mark.parametrize("name", ["samples-0.jsonl", "run.json", "summary.json"])
@pytest.mark.parametrize("option", ["--html", "--to", "--junit"])
def test_parts_of_a_run_are_never_replaced(folder, name, option):
    before = (folder / name).read_bytes()
    with pytest.raises(LaptimeError, match="belongs to what laptime measured"):
        write_new_file(folder / name, b"page", option, force=True)
    assert (folder / name).read_bytes() == before


@pytest.mark.parametrize("verb", ["report", "audit"])
def test_a_page_replaces_a_page_and_nothing_else(folder, tmp_path, capsys, verb):
    notes, page = tmp_path / "notes.txt", tmp_path / "page.html"
    notes.write_text("mine")
    words = [verb, str(folder), "--force", "--html"]
    assert laptime([*words, str(notes)]) == 2
    assert "is no page of laptime" in capsys.readouterr().err
    assert notes.read_text() == "mine"
    for _ in range(2):
        assert laptime([*words, str(page)]) in (0, 1)
    assert laptime([*words, str(folder / "samples-0.jsonl")]) == 2


def test_junit_replaces_a_file_of_laptime_and_nothing_else(folder, tmp_path, capsys):
    theirs, own = tmp_path / "theirs.xml", tmp_path / "own.xml"
    theirs.write_text('<?xml version="1.0"?><testsuites><testsuite name="pytest"/></testsuites>')
    before = theirs.read_bytes()
    assert laptime(["audit", str(folder), "--junit", str(theirs)]) == 2
    assert "is no JUnit file of laptime" in capsys.readouterr().err
    assert theirs.read_bytes() == before
    for _ in range(2):
        assert laptime(["audit", str(folder), "--junit", str(own)]) in (0, 1)
    assert b'<testsuite name="laptime audit"' in own.read_bytes()


def test_a_pipe_and_a_device_stay(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path / "null"):
        if place.name == "null":
            place.symlink_to("/dev/null")
        with pytest.raises(LaptimeError, match="no ordinary file"):
            write_new_file(place, b"x", "--to", force=True)
