"""Where the traces of ranks come from: no trace twice, and an archive's file by its own name in messages."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from laptime.errors import LaptimeError
from laptime.trace.read.rank_files import trace_files

TRACE = Path(__file__).parents[1] / "data" / "decode-eager.json.gz"


@pytest.mark.parametrize("make", [shutil.copy, os.symlink])
def test_one_trace_given_twice_is_no_two_ranks(tmp_path: Path, make: object) -> None:
    again = tmp_path / "rank1.json.gz"
    make(TRACE, again)  # type: ignore[operator]
    same = r"rank1\.json\.gz: the same trace as .*decode-eager\.json\.gz"
    with pytest.raises(LaptimeError, match=same), trace_files([TRACE, again]):
        pass


def test_an_error_names_the_archives_file_and_no_temporary_one(tmp_path: Path) -> None:
    one, other = tmp_path / "rank0.json.gz", tmp_path / "rank1.json.gz"
    shutil.copy(TRACE, one)
    other.write_bytes(TRACE.read_bytes()[:-1] + b"\\0")
    archive = tmp_path / "ranks.tar"
    with tarfile.open(archive, "w") as packed:
        for file in (one, other):
            packed.add(file, file.name)
    with pytest.raises(LaptimeError) as raised, trace_files([archive]) as files:
        assert [file.name for file in files] == [one.name, other.name]
        raise LaptimeError(f"{files[1]}: damaged")
    assert str(raised.value) == f"{archive}!rank1.json.gz: damaged"


def test_an_archive_without_a_whole_trace_says_so(tmp_path: Path) -> None:
    archive = tmp_path / "none.tar"
    with tarfile.open(archive, "w") as packed:
        packed.add(__file__, "notes.txt")
    with pytest.raises(LaptimeError, match="no trace in it, or it is cut short"), trace_files([archive]):
        pass


@pytest.mark.parametrize("name", ["ranks.zip", "ranks.bin", "ranks.tar", "ranks.tar.bz2"])
def test_an_archive_that_was_cut_short_is_called_that(tmp_path: Path, name: str) -> None:
    archive = tmp_path / name
    if name.endswith((".zip", ".bin")):
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.write(TRACE, "rank0.json.gz")
    else:
        with tarfile.open(archive, "w:bz2" if name.endswith("bz2") else "w", format=tarfile.USTAR_FORMAT) as packed:
            packed.add(TRACE, "rank0.json.gz")
    whole = archive.read_bytes()
    member = 512 + -(-TRACE.stat().st_size // 512) * 512  # a tar that ends between two of its files
    archive.write_bytes(whole[: member if name == "ranks.tar" else len(whole) // 2])
    with pytest.raises(LaptimeError, match=rf"{name}: the archive .*it is cut short"), trace_files([archive]):
        pass
