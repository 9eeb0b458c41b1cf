"""Whole or not at all: errors, kills and links leave what was there before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from laptime.data.files import PAGE_MARK, check_new_file, check_new_folder, whole_folder, write_new_file, write_whole
from laptime.errors import LaptimeError

MARKS = ("estimator.json",)


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    write_whole(file, b"old")
    write_whole(file, b"new")
    assert contents(tmp_path) == {"page.html": "new"}


def test_a_link_under_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".page.html.{os.getpid()}.tmp").symlink_to(victim)
    with pytest.raises(OSError):
        write_whole(tmp_path / "page.html", b"new")
    assert victim.read_text() == "precious"


def test_a_file_that_is_there_needs_force(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    one, two = (PAGE_MARK + text for text in (b"one", b"two"))
    write_new_file(file, one, "--html", force=False)
    with pytest.raises(LaptimeError, match=r"--html .*page.html: is already there; .* `force`"):
        write_new_file(file, two, "--html", force=False)
    assert file.read_bytes() == one
    write_new_file(file, two, "--html", force=True)
    assert file.read_bytes() == two
    file.write_bytes(b"my notes")
    with pytest.raises(LaptimeError, match="is no page of laptime"):
        write_new_file(file, two, "--html", force=True)
    with pytest.raises(LaptimeError, match="is a folder"):
        check_new_file(tmp_path, "--html", force=True)


@pytest.mark.parametrize("links", [True, False])
def test_of_two_writers_of_a_new_file_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Both found no file there; file systems without links are held to it too."""

    def without_links(*_: object) -> None:
        raise PermissionError

    if not links:
        monkeypatch.setattr(os, "link", without_links)
    file = tmp_path / "page.html"
    write_whole(file, b"first", replace=False)
    with pytest.raises(FileExistsError):
        write_whole(file, b"second", replace=False)
    assert (file.read_bytes(), list(tmp_path.iterdir())) == (b"first", [file])


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "est"
    with pytest.raises(ZeroDivisionError), whole_folder(place, MARKS, force=False) as new:
        (new / "estimator.json").write_text("half")
        1 / 0  # noqa: B018
    assert contents(tmp_path) == {}
    with whole_folder(place, MARKS, force=False) as new:
        (new / "estimator.json").write_text("one")
    assert contents(place) == {"estimator.json": "one"}


def test_a_folder_that_is_there_needs_force_and_goes_whole(tmp_path: Path) -> None:
    place = tmp_path / "est"
    with whole_folder(place, MARKS, force=False) as new:
        (new / "estimator.json").write_text("one")
        (new / "older.json").write_text("gone later")
    with pytest.raises(LaptimeError, match=r"is already there; .* `force`"), whole_folder(place, MARKS, force=False):
        pass
    with whole_folder(place, MARKS, force=True) as new:
        (new / "estimator.json").write_text("two")
    assert contents(tmp_path) == {"est/estimator.json": "two"}


def test_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to-grandmother.txt").write_text("dear")
    with pytest.raises(LaptimeError, match="holds something else"):
        check_new_folder(tmp_path / "letters", MARKS, force=True)
    (tmp_path / "file").touch()
    with pytest.raises(LaptimeError, match="is a file"):
        check_new_folder(tmp_path / "file", MARKS, force=True)
    check_new_folder(tmp_path / "new", MARKS, force=False)


def test_what_lies_beside_is_never_replaced(tmp_path: Path) -> None:
    place = tmp_path / "work"
    (place / "est").mkdir(parents=True)
    (place / "est" / "estimator.json").touch()
    check_new_folder(place, MARKS, force=True)
    (place / "thesis").mkdir()
    (place / "thesis" / "chapter-1.tex").touch()
    with pytest.raises(LaptimeError, match="holds thesis too"), whole_folder(place, MARKS, force=True):
        pass
    (place / "est" / "notes.md").touch()
    with pytest.raises(LaptimeError, match=r"holds notes\.md too"):
        check_new_folder(place / "est", MARKS, force=True)


def test_a_folder_of_stages_is_known_by_what_its_folders_hold(tmp_path: Path) -> None:
    (tmp_path / "est" / "decode").mkdir(parents=True)
    (tmp_path / "est" / "decode" / "estimator.json").touch()
    check_new_folder(tmp_path / "est", MARKS, force=True)


def test_a_kill_leaves_the_old_folder(tmp_path: Path) -> None:
    place = tmp_path / "est"
    with whole_folder(place, MARKS, force=False) as new:
        (new / "estimator.json").write_text("old")
    program = (
        "import os, signal; from pathlib import Path; from laptime.data.files import whole_folder\n"
        f"with whole_folder(Path({str(place)!r}), ('estimator.json',), force=True) as new:\n"
        "    (new / 'estimator.json').write_text('new'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert contents(place) == {"estimator.json": "old"}


def test_an_error_inside_names_the_folder_that_was_asked_for(tmp_path):
    with pytest.raises(LaptimeError) as refused, whole_folder(tmp_path / "out", ("run.json",), force=False) as new:
        raise LaptimeError(f"{new / 'features.json'}: can't be written (the disk is full)")
    assert str(refused.value) == f"{tmp_path / 'out' / 'features.json'}: can't be written (the disk is full)"
    assert not list(tmp_path.iterdir())
