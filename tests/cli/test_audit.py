"""`laptime audit`: three faces, exit codes, one line for what can't be read."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import polars
import pytest

from laptime.audits import audit
from laptime.cli.main import run as laptime
from laptime.data.record import Failure, StageTimes, WorkerStart
from laptime.data.run_folder import RunFolder, RunInfo, new_info
from tests.samples import environment, sample


def ask(capsys, *words):
    code = laptime(["audit", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def samples(count=20, **changes):
    """Alike calls a second apart, none the slowest by being first."""
    for number in range(count):
        total = 100_000_000 + (number * 7919 % 1000) * 1000
        stages = StageTimes.from_ns(vision=10_000_000, prefill=20_000_000, decode=60_000_000, total=total)
        times = {"stages": stages, "host_stages": stages, "started_unix_ms": 1.8e12 + number * 1000}
        yield sample(number, **{**times, **changes})


def write(folder, rows, worker="0", starts=(), failures=()):
    with RunFolder(folder, new_info([], {}, environment()), worker, resume=(folder / "run.json").exists()) as run:
        run.begin()
        for row in (*starts, *rows, *failures):
            run.append(row)
    return folder


def start(worker, **facts):
    around = msgspec.structs.replace(environment(), **facts)
    return WorkerStart(worker=worker, started_unix_ms=1.8e12, host="h", environment=around)


def finding_of(out, code):
    return next((f for f in json.loads(out)["findings"] if f["code"] == code), None)


def test_sound_measurements_are_clean(tmp_path, capsys):
    code, out, err = ask(capsys, write(tmp_path / "run", samples()))
    assert (code, err) == (0, "")
    assert out.startswith("No rule of ")
    assert "20 samples, 1 configuration" in " ".join(out.split())
    code, out, _ = ask(capsys, tmp_path / "run", "--json")
    report = json.loads(out)
    assert (report["schema"], report["clean"], report["samples"], report["findings"]) == (
        "laptime.audit/1",
        True,
        20,
        [],
    )
    judged = {rule["code"] for rule in report["rules"] if rule["could_not_judge"] is None}
    assert {"zero-decode", "clock-drift", "mixed-environment", "missing-samples"} <= judged


def test_a_severe_finding_is_exit_code_1_with_example_reason_and_mend(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    rows = [*samples(), *samples(1)]
    code, out, _ = ask(capsys, write(tmp_path / "run", rows), "--html", tmp_path / "audit.html")
    assert code == 1
    assert "can't be used as they are: 1 severe" in out
    assert "severe duplicate-sample  1 of 21 samples" in out.replace("\xa0", " ")
    assert f"{rows[0].config_id}/0000/0: 2 times" in out
    assert "Mend: " in out
    assert "duplicate-sample" in (tmp_path / "audit.html").read_text()


def test_a_warning_alone_is_exit_code_0(tmp_path, capsys):
    code, out, _ = ask(capsys, write(tmp_path / "run", samples(4)))
    assert code == 0
    assert "can be used, with care: 1 warning" in out


def test_workers_in_unlike_environments(tmp_path, capsys):
    run = tmp_path / "run"
    write(run, samples(10), starts=[start("0", gpu="H200", device="cuda:0")])
    write(run, samples(10, repeat=1, worker="1"), worker="1", starts=[start("1", gpu="H200", device="cuda:1")])
    assert (
        finding_of(ask(capsys, run, "--json")[1], "mixed-environment") is None
    )  # another of equal GPUs is no difference
    write(
        run,
        samples(10, repeat=2, worker="2"),
        worker="2",
        starts=[start("2", gpu="A100", driver="570", device="cuda:0")],
    )
    code, out, _ = ask(capsys, run, "--json")
    finding = finding_of(out, "mixed-environment")
    assert (code, finding["severity"], finding["count"], finding["of"]) == (1, "severe", 1, 3)
    assert "driver, gpu differ" in finding["reason"]
    assert finding["examples"] == ["workers 0, 1: driver None, gpu H200", "worker 2: driver 570, gpu A100"]


def test_a_resumed_worker_with_newer_software(tmp_path, capsys):
    starts = [start("0", torch="2.11"), start("0", torch="2.13")]
    assert ask(capsys, write(tmp_path / "run", samples(), starts=starts), "--json")[0] == 1


def test_missing_samples_are_told_from_failed_ones_by_the_plan(tmp_path, capsys):
    rows = list(samples())
    name = rows[0].config_id
    failure = Failure(config_id=name, sample_id="0003", repeat=1, worker="0", config={}, error="out of memory")
    repeated = [r for r in samples(repeat=1) if r.sample_id not in {"0003", "0004"}]
    run = write(tmp_path / "run", [*rows, *repeated], failures=[failure])
    plan = {"schema": "laptime.plan/1", "configs": [{"config_id": name, "config": {"model": "m"}}],
            "samples": [f"{n:04d}" for n in range(20)], "repeats": 2}  # fmt: skip
    (run / "plan.json").write_text(json.dumps(plan))
    finding = finding_of(ask(capsys, run, "--json")[1], "missing-samples")
    assert (finding["count"], finding["of"], finding["severity"]) == (2, 40, "warning")
    assert "planned" in finding["reason"]
    assert "1 of them failed" in finding["reason"]
    assert finding["examples"] == [f"{name}: 2 missing, first 0003/1"]
    (run / "plan.json").write_text("{")
    assert "not a sweep's plan" in ask(capsys, run)[2]


def test_a_table_and_the_older_files_are_audited_too(tmp_path, capsys):
    for format_ in ("csv", "parquet", "legacy-json"):
        write(tmp_path / format_, samples())
        assert laptime(["export", str(tmp_path / format_), "--format", format_]) == 0
        place = capsys.readouterr().out.strip()
        code, out, _ = ask(capsys, place, "--json")
        assert (code, json.loads(out)["samples"], json.loads(out)["findings"]) == (0, 20, [])


def test_what_is_no_measurements_is_one_line(tmp_path, capsys):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    for path in (tmp_path, tmp_path / "x.csv", tmp_path / "nothing"):
        code, out, err = ask(capsys, path)
        assert (code, out, err.count("\n")) == (2, "", 1)
    run = write(tmp_path / "run", samples(1))
    info = msgspec.json.decode((run / "run.json").read_bytes(), type=RunInfo)
    (run / "run.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(info, schema_version=9)))
    assert "upgrade laptime" in ask(capsys, run)[2]
    assert ask(capsys, write(tmp_path / "ok", samples()), "--html", "/proc/x/y.html")[0] == 2


MARK = '<meta name="generator" content="laptime">'
"""What a page of laptime has in its head."""


def test_a_page_is_replaced_only_when_asked(tmp_path, capsys):
    run, page = write(tmp_path / "run", samples()), tmp_path / "audit.html"
    page.write_text(MARK)
    code, out, err = ask(capsys, run, "--html", page)
    assert (code, out, err.count("\n"), page.read_text()) == (2, "", 1, MARK)
    assert "--force" in err
    code, _, err = ask(capsys, run, "--html", page, "--force")
    assert (code, err) == (0, f"page: {page}\n")
    assert "No rule of" in page.read_text()


def test_warm_up_calls_alone_are_nothing_to_judge(tmp_path, capsys):
    code, out, err = ask(capsys, write(tmp_path / "run", samples(2, repeat=-1)))
    assert (code, err.count("\n")) == (2, 1)
    assert out.startswith("Nothing could be judged: only warm-up calls (repeat below 0).")


def test_a_whole_table_without_configurations_misses_nothing(tmp_path, capsys):
    rows = [f"s{sample},{repeat},{100 + sample + repeat / 10}" for sample in range(20) for repeat in range(3)]
    (tmp_path / "t.csv").write_text("sample_id,repeat,total_ms\n" + "\n".join(rows) + "\n")
    code, out, _ = ask(capsys, tmp_path / "t.csv")
    assert code == 0
    assert "No rule of" in out
    (tmp_path / "less.csv").write_text("sample_id,repeat,total_ms\n" + "\n".join(rows[:-3] + rows[-2:]) + "\n")
    code, out, _ = ask(capsys, tmp_path / "less.csv")
    assert code == 0
    assert "1 of 60 expected samples" in out


def test_what_holds_no_samples_says_so_and_passes_no_gate(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("sample_id,repeat,total_ms\n")
    for place in (write(tmp_path / "run", []), tmp_path / "t.csv"):
        code, out, err = ask(capsys, place)
        assert code == 2
        assert "no samples to judge" in out
        assert f"{place}: nothing could be judged: no samples; measure again" in err


def test_columns_that_no_rule_knows_are_named(tmp_path, capsys):
    """A table whose TTFT has another name than laptime's: its rules can't judge, and the report says why."""
    rows = [f"s{n},{100 + n % 7},{40 + n % 5},x,4" for n in range(30)]
    (tmp_path / "t.csv").write_text("sample_id,total_ms,ttft,note,config.crops\n" + "\n".join(rows) + "\n")
    code, out, _ = ask(capsys, tmp_path / "t.csv")
    assert code == 0
    assert "No rule knows the columns ttft, note. Rename ttft to ttft_ms, if that is what it holds." in " ".join(
        out.split()
    )
    page = tmp_path / "audit.html"
    ask(capsys, tmp_path / "t.csv", "--html", page)
    assert "No rule knows the columns ttft, note" in page.read_text()
    assert audit(write(tmp_path / "run", samples())).columns_not_read == []


def test_no_torch_is_imported(tmp_path):
    run = write(tmp_path / "run", samples())
    call = f"laptime(['audit', {str(run)!r}])"
    code = f"import sys; from laptime.cli.main import run as laptime; {call}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("column", ["sample_id", "worker"])
def test_strings_of_a_table_do_nothing_in_a_terminal(tmp_path, capsys, column):
    rows = [{"total_ms": 5.0, "prefill_ms": -1.0, "sample_id": "s", "worker": "w"} | {column: "[red]\x1b[31mx\n"}] * 2
    polars.DataFrame(rows).write_parquet(tmp_path / "t.parquet")
    code, out, _ = ask(capsys, tmp_path / "t.parquet")
    assert code == 1
    assert "\x1b[31m" not in out


def test_a_missing_total_is_said_up_front(tmp_path, capsys):
    rows = [f"s{n},{40 + n % 5},{100 + n % 7}" for n in range(30)]
    (tmp_path / "t.csv").write_text("sample,prefill_ms,decode_ms\n" + "\n".join(rows) + "\n")
    _, out, _ = ask(capsys, tmp_path / "t.csv")
    before = out.partition("Could not judge")[0]
    assert "Add total_ms, the time of the whole call: without it" in before
    assert "Rename sample to sample_id" in before
    (tmp_path / "t.csv").write_text("sample_id,total_ms\n" + "\n".join(f"s{n},{100 + n % 7}" for n in range(30)))
    assert "Add total_ms" not in ask(capsys, tmp_path / "t.csv")[1]


def test_every_time_in_another_unit_is_in_the_mend(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("vision_s,audio_s,prefill_s,decode_s,other_s,total_s\n0.1,0.1,0.1,0.1,0.1,0.5\n")
    code, _, err = ask(capsys, tmp_path / "t.csv")
    assert code == 2
    for name in ("vision", "audio", "prefill", "decode", "other", "total"):
        assert f"{name}_ms = {name}_s * 1000" in err


def test_more_in_stages_than_in_the_call_is_not_said_to_be_in_no_stage(tmp_path):
    rows = [f"s{n},40,50,{9 + n % 3},{100 + n % 7}" for n in range(30)]
    rows[3] = "s3,40,50,9,1"
    (tmp_path / "t.csv").write_text("sample_id,prefill_ms,decode_ms,other_ms,total_ms\n" + "\n".join(rows) + "\n")
    found = {finding.code: finding.examples for finding in audit(tmp_path / "t.csv").findings}
    assert any("s3" in example for example in found["stage-sum-exceeds-total"])
    assert not any("s3" in example for example in found.get("residual-too-large", []))
