import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptime.data.files import FolderLock
from laptime.data.record import SCHEMA_VERSION, Failure
from laptime.data.run_folder import RunFolder, load_run, new_info, profile_json
from laptime.errors import LaptimeError
from tests.samples import environment, sample


def info():
    return new_info(["laptime"], {"model": "m"}, environment())


def write(path, *numbers, worker="0", resume=False):
    with RunFolder(path, info(), worker, resume=resume) as folder:
        for number in numbers:
            folder.append(sample(number, worker=worker))


def test_what_was_appended_is_loaded_from_all_workers(tmp_path):
    run = tmp_path / "run"
    write(run, 0, 1)
    write(run, 2, worker="1", resume=True)
    failure = Failure(config_id="c", sample_id="9", repeat=0, worker="0", config={}, error="out of memory")
    with RunFolder(run, info(), resume=True) as folder:
        folder.append(failure)
    loaded = load_run(run)
    assert [s.sample_id for s in loaded.samples] == ["0000", "0001", "0002"]
    assert loaded.failures == [failure]
    assert loaded.samples[0] == sample(0)
    assert loaded.summary.used == 3


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_file_cut_anywhere_loses_only_its_unfinished_line(tmp_path_factory, data):
    run = tmp_path_factory.mktemp("cut") / "run"
    write(run, 0, 1, 2)
    file = run / "samples-0.jsonl"
    whole = file.read_bytes()
    cut = data.draw(st.integers(min_value=0, max_value=len(whole)))
    file.write_bytes(whole[:cut])
    finished = whole[:cut].count(b"\n")
    loaded = load_run(run)
    assert loaded.samples == [sample(n) for n in range(finished)]
    assert loaded.dropped_tails == (["samples-0.jsonl"] if whole[:cut] and not whole[:cut].endswith(b"\n") else [])
    write(run, 7, resume=True)
    assert load_run(run).samples == [*[sample(n) for n in range(finished)], sample(7)]
    assert file.read_bytes().startswith(b"".join(whole[:cut].splitlines(keepends=True)[:finished]))


def test_kill_9_in_the_middle_of_writing_keeps_every_finished_sample(tmp_path):
    run = tmp_path / "run"
    program = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from tests.samples import environment, sample
        from laptime.data.run_folder import RunFolder, new_info
        with RunFolder({str(run)!r}, new_info([], {{}}, environment()), resume=True) as folder:
            for number in range(10**6):
                folder.append(sample(number, text="x" * 20000))
                print(number, flush=True)
    """)
    for round_ in range(3):
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        printed = []
        while len(printed) < 3 + 5 * round_:
            printed.append(process.stdout.readline())
        time.sleep(0.002 * round_)
        process.send_signal(signal.SIGKILL)
        printed += process.stdout.read().splitlines()
        process.wait()
        acknowledged = int(printed[-1].strip() or printed[-2])
        ids = [s.sample_id for s in load_run(run).samples]
        last_start = len(ids) - 1 - ids[::-1].index("0000")
        assert len(ids) - last_start >= acknowledged + 1


def test_a_sample_is_on_the_disk_when_append_returns(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(os.fstat(file).st_size), real(file)))
    with RunFolder(tmp_path / "run", info()) as folder:
        for number in range(3):
            folder.append(sample(number))
            assert synced[-1] == (tmp_path / "run" / "samples-0.jsonl").stat().st_size


def test_a_newer_schema_is_refused_with_the_mend(tmp_path):
    write(tmp_path / "run", 0)
    file = tmp_path / "run" / "run.json"
    content = json.loads(file.read_text())
    content["schema_version"] = SCHEMA_VERSION + 1
    content["something_new"] = {"unknown": True}
    file.write_text(json.dumps(content))
    with pytest.raises(LaptimeError, match=r"schema version 2.*upgrade laptime"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema_version": "x"}', b'{"schema_version": 1}', b"\xff"])
def test_a_damaged_description_is_one_clear_line(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(LaptimeError, match=r"run\.json") as caught:
        load_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_line_is_named_by_file_and_number(tmp_path):
    write(tmp_path / "run", 0, 1)
    file = tmp_path / "run" / "samples-0.jsonl"
    lines = file.read_bytes().splitlines()
    file.write_bytes(lines[0] + b"\nnot json\n" + lines[1] + b"\n")
    with pytest.raises(LaptimeError, match=r"samples-0\.jsonl, line 2"):
        load_run(tmp_path / "run")


def test_a_run_is_never_written_over(tmp_path):
    write(tmp_path / "run", 0)
    with pytest.raises(LaptimeError, match="already holds a run"):
        RunFolder(tmp_path / "run", info())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    with pytest.raises(LaptimeError, match="not empty"):
        RunFolder(tmp_path / "other", info())
    with pytest.raises(LaptimeError, match="is a file"):
        RunFolder(tmp_path / "other" / "thesis.tex", info())
    with pytest.raises(LaptimeError, match="not writable"):
        RunFolder(tmp_path / "other" / "thesis.tex" / "run", info())


def test_one_run_at_a_time_is_written_to_a_folder(tmp_path):
    with RunFolder(tmp_path / "run", info()) as first:
        for resume in (False, True):
            with pytest.raises(LaptimeError, match="another run is being written there"):
                RunFolder(tmp_path / "run", info(), resume=resume)
        first.append(sample(0))
        with pytest.raises(LaptimeError, match="another run is being written there"):
            RunFolder(tmp_path / "run", info(), "1", resume=True)
    write(tmp_path / "run", 1, resume=True)
    assert len(load_run(tmp_path / "run").samples) == 2


def test_workers_that_share_a_lock_write_beside_each_other_but_not_the_same_file(tmp_path):
    with (
        FolderLock(tmp_path / "run", shared=True) as lock,
        FolderLock(tmp_path / "run", shared=True) as other,
        RunFolder(tmp_path / "run", info(), "0", lock=lock) as first,
    ):
        first.append(sample(0))
        with RunFolder(tmp_path / "run", info(), "1", resume=True, lock=other) as second:
            second.append(sample(1, worker="1"))
        with (
            RunFolder(tmp_path / "run", info(), "0", resume=True, lock=other) as third,
            pytest.raises(LaptimeError, match="another process is writing it; give each worker a name"),
        ):
            third.append(sample(2))
        with pytest.raises(LaptimeError, match="another run is being written there"):
            FolderLock(tmp_path / "run")
    assert len(load_run(tmp_path / "run").samples) == 2


def test_two_processes_started_at_once_never_write_one_folder(tmp_path):
    """Many races of two processes with different models: one run is whole, the other process leaves nothing."""
    program = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from tests.samples import environment, sample
        from laptime.data.run_folder import RunFolder, new_info
        from laptime.errors import LaptimeError
        model = sys.argv[1]
        for line in sys.stdin:
            try:
                with RunFolder(line.strip(), new_info([], {{"model": model}}, environment())) as folder:
                    for number in range(3):
                        folder.append(sample(number, config={{"model": model}}))
                print("written", flush=True)
            except LaptimeError as error:
                print(error, flush=True)
    """)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", program, model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for model in ("one", "other")
    ]
    for number in range(25):
        folder = tmp_path / f"parent{number}" / "run"
        for writer in writers:
            writer.stdin.write(f"{folder}\n")
            writer.stdin.flush()
        answers = sorted(writer.stdout.readline().strip() for writer in writers)
        assert answers[-1] == "written"
        assert "another run is being written there" in answers[0] or "already holds a run" in answers[0]
        run = load_run(folder)
        assert [s.config for s in run.samples] == [run.info.config] * 3
        assert sorted(file.name for file in folder.iterdir()) == ["run.json", "samples-0.jsonl"]
    for writer in writers:
        writer.stdin.close()
        assert writer.wait() == 0
        writer.stdout.close()


def test_a_run_that_measured_nothing_leaves_nothing(tmp_path):
    with RunFolder(tmp_path / "new" / "run", info()):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    with RunFolder(tmp_path / "empty", info()):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]  # it was there before
    with pytest.raises(LaptimeError, match="holds no run"):
        load_run(tmp_path / "empty")


def test_a_folder_that_is_not_there_is_called_that(tmp_path):
    with pytest.raises(LaptimeError, match=r"run: no such file or folder$"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize("worker", ["", "a/b", "../x", "x" * 65])
def test_a_worker_name_is_no_path(tmp_path, worker):
    with pytest.raises(LaptimeError, match="worker name"):
        RunFolder(tmp_path / "run", info(), worker)


def test_frame_has_a_row_a_sample_and_flat_columns(tmp_path):
    write(tmp_path / "run", 0, 1)
    frame = load_run(tmp_path / "run").frame()
    assert frame.height == 2
    assert frame["decode_per_token_ms"].to_list() == [20.0, 20.0]
    assert frame["config.model"].to_list() == ["m", "m"]
    assert frame["host_decode_ms"].to_list() == [60.0, 60.0]


def test_summary_is_rebuildable_and_json_says_its_schema(tmp_path):
    write(tmp_path / "run", 0, 1)
    with RunFolder(tmp_path / "run", info(), resume=True) as folder:
        summary = folder.write_summary()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["used"] == summary.used == 2
    assert json.loads(profile_json(load_run(tmp_path / "run")))["schema"] == "laptime.profile/1"
