"""Lines that were finished stay, and nobody can lead them elsewhere."""

import os
from pathlib import Path

import pytest

from laptime.data.line_file import LineFile
from laptime.data.run_folder import RunFolder, new_info
from laptime.engines.vllm.writer import LineWriter
from laptime.errors import LaptimeError
from tests.samples import environment, sample


def test_what_is_finished_stays_and_half_a_line_goes(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b"one\ntwo\nthr")
    lines = LineFile(file)
    lines.append(b"three")
    lines.close()
    assert file.read_bytes() == b"one\ntwo\nthree\n"


@pytest.mark.parametrize("victim", ["there", "not there"])
def test_no_line_goes_through_a_link(tmp_path: Path, victim: str) -> None:
    """In a shared folder another user may have put one where the next worker's lines go."""
    (tmp_path / "run").mkdir()
    (tmp_path / "there").write_bytes(b"not a whole line")
    (tmp_path / "run" / "samples-0.jsonl").symlink_to(tmp_path / victim)
    with pytest.raises(LaptimeError, match=r"samples-0.jsonl: is a link or no ordinary file"):
        LineFile(tmp_path / "run" / "samples-0.jsonl")
    assert (tmp_path / "there").read_bytes() == b"not a whole line"
    assert not (tmp_path / "not there").exists()


def test_a_run_that_goes_on_does_not_go_on_through_a_link(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", new_info([], {}, environment())) as run:
        run.append(sample(0))
    (tmp_path / "run" / "samples-0.jsonl").rename(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    (tmp_path / "run" / "samples-0.jsonl").symlink_to(tmp_path / "elsewhere")
    with (
        RunFolder(tmp_path / "run", new_info([], {}, environment()), resume=True) as run,
        pytest.raises(LaptimeError, match="is a link"),
    ):
        run.append(sample(1))
    assert (tmp_path / "elsewhere").read_bytes() == before


def test_a_pipe_is_no_place_for_lines(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lines.jsonl")
    with pytest.raises(LaptimeError, match="no ordinary file"):
        LineFile(tmp_path / "lines.jsonl")


def test_an_engines_lines_go_through_no_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "steps.jsonl").symlink_to(tmp_path / "victim")
    writer: LineWriter[int] = LineWriter(tmp_path, lambda: "steps", lambda items: items)
    writer.put(1)
    writer.flush()
    assert not (tmp_path / "victim").exists()
    assert "is a link" in capsys.readouterr().err
