"""Comparisons in turns: the odds, and processes that are started until they decide."""

from __future__ import annotations

import json
import os
import shlex
import sys
from functools import partial
from pathlib import Path
from statistics import NormalDist

import msgspec
import numpy as np
import pytest
from benchmarks.compare_power import lognormal, runs
from hypothesis import given, settings
from hypothesis import strategies as st

import laptime
from laptime.cli.main import run as command_line
from laptime.comparisons.launches import TurnsPlan, callable_launch, measure_turns, read_turns, turn_order
from laptime.comparisons.odds import log_odds, odds_words, turns_interval
from laptime.comparisons.turns import standing
from laptime.data.run_folder import RunFolder, new_info
from laptime.errors import LaptimeError
from tests.samples import environment

ROOT = Path(__file__).parents[2]


def write_run(factor: float, out: str | Path, flags: str = "") -> None:
    """What a process does here: a run of five samples, decode `factor` times as long, its noise from the folder."""
    rng = np.random.default_rng(int(Path(out).name.split("-")[0]))
    _, b = runs(rng, lognormal(0.004), samples=5, decode_factor=factor)
    with RunFolder(out, new_info(["test"], {"model": "simulated"}, environment())) as folder:
        folder.begin()
        for one in b:
            folder.append(msgspec.structs.replace(one, flags=[flags] if flags else []))


def fail(out: str) -> None:
    raise SystemExit(7)


def command(factor: float, extra: str = "") -> str:
    code = f"from tests.comparisons.test_turns import write_run; write_run({factor}, {{!r}}{extra})"
    code = code.replace("{!r}", "'{out}'")
    return f"env PYTHONPATH={shlex.quote(os.pathsep.join([str(ROOT), str(ROOT / 'src')]))} " + shlex.join(
        [sys.executable, "-c", code]
    )


def test_the_order_is_abba_or_baab_by_a_coin():
    order = turn_order(4000, seed=3)
    blocks = [order[i : i + 4] for i in range(0, len(order), 4)]
    assert set(blocks) == {"ABBA", "BAAB"}
    assert 420 < blocks.count("ABBA") < 580
    assert len(turn_order(7)) == 6


@given(st.lists(st.floats(0.001, 0.3), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_the_odds_are_fair_over_the_coins(sizes):
    """Over all signs of the pairs, equally likely when nothing differs, the odds are 1 on average: a martingale."""
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(sizes))).reshape(len(sizes), -1).T
    mean = np.mean([np.exp(log_odds(row * np.array(sizes))) for row in signs])
    assert mean == pytest.approx(1.0, rel=1e-9)


def test_odds_are_said_as_one_says_them():
    said = [odds_words(odds) for odds in (0.0, 0.052, 0.4, 1.0, 3.21, 140.0, 1e9)]
    assert said == [
        "over a million to 1 against",
        "about 19 to 1 against",
        "about 2.5 to 1 against",
        "about even",
        "about 3.2 to 1 for",
        "about 140 to 1 for",
        "over a million to 1 for",
    ]


def test_one_disturbed_pair_costs_a_tenth_of_the_odds_at_most():
    steady = np.full(10, 0.05)
    lost = log_odds(np.append(steady, -3.0)) - log_odds(steady)
    assert lost == pytest.approx(np.log(0.1), abs=1e-4)


def test_the_last_look_finds_what_the_odds_leave_open():
    """20 pairs that differ by 4 % around 3.5 %: the odds leave 1 open, the signed-rank test of all pairs doesn't."""
    values = 0.035 + 0.04 * np.array([NormalDist().inv_cdf((i + 0.5) / 20) for i in range(20)])
    before, after = (turns_interval(values, 0.99, last=last) for last in (False, True))
    assert before.low < 1 < after.low < 1.035 < after.high < before.high


@given(st.lists(st.floats(-0.1, 0.1), min_size=3, max_size=20), st.floats(-0.5, 0.5), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_interval_moves_with_the_factor(values, moved, last):
    one = turns_interval(np.array(values), 0.95, last=last)
    other = turns_interval(np.array(values) + moved, 0.95, last=last)
    assert np.log(other.value / one.value) == pytest.approx(moved, abs=1e-6)
    assert (one.low is None) == (other.low is None)
    if one.low is not None and other.low is not None:
        assert np.log(other.low / one.low) == pytest.approx(moved, abs=1e-3)
        assert one.low <= one.value


def test_commands_run_in_turns_until_they_decide(tmp_path, capsys):
    out = tmp_path / "c"
    words = ["compare", "--run", command(1.0), "--against", command(1.2), "--out", str(out), "--json"]
    code = command_line(words)
    said = capsys.readouterr()
    value = json.loads(said.out)
    assert (code, value["verdict"]) == (1, "slower")
    decode = next(s for s in value["stages"] if s["stage"] == "decode")
    assert decode["ratio"]["low"] < 1.2 < decode["ratio"]["high"]
    assert decode["odds"] > 80
    sides = "".join(turn["side"] for turn in value["turns"])
    assert sides.count("A") == sides.count("B") == len(sides) // 2 < 20
    assert all((Path(turn["folder"]) / "run.json").exists() for turn in value["turns"])
    assert "odds" in said.err
    assert "to 1" in said.err
    assert command_line(["compare", str(out)]) == 1  # judged again from the folders
    assert "B is slower than A: decode +" in capsys.readouterr().out


def test_a_command_that_fails_is_one_line_and_what_ran_is_kept(tmp_path, capsys):
    bad = f"{sys.executable} -c 'import sys; sys.exit(\"no such model: {{out}}\")'"
    code = command_line(["compare", "--run", bad, "--against", command(1.0), "--out", str(tmp_path / "c")])
    err = capsys.readouterr().err
    assert code == 2
    assert "--run: exit code 1" in err
    assert "no such model" in err
    assert (tmp_path / "c" / "turns.json").exists()
    again = command_line(["compare", "--run", bad, "--against", bad, "--out", str(tmp_path / "c")])
    assert (again, "already there" in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run", "true {out}"], "belong together"),
        (["--run", "true {out}", "--against", "true"], "write {out}"),
        (["--run", "nosuchprogram {out}", "--against", "true {out}"], "no program"),
        (["--run", "true {out}", "--against", "true {out}"], "wrote no run"),
        (["--run", "'", "--against", "true {out}"], "No closing quotation"),
        ([], "compare what"),
    ],
)
def test_commands_that_cannot_be_used_are_one_line(tmp_path, capsys, words, message):
    code = command_line(["compare", *words, "--out", str(tmp_path / "c")])
    err = capsys.readouterr().err
    assert (code, err.count("\n")) == (2, 1)
    assert message in err


def test_processes_without_clean_samples_are_not_judged(tmp_path):
    flagged = partial(write_run, 1.5, flags="foreign-process")
    result = laptime.compare_runs(partial(write_run, 1.0), flagged, out=tmp_path / "c", processes=4)
    assert (result.verdict, result.stages, len(result.turns)) == ("inconclusive", [], 4)
    (finding,) = [f for f in result.findings if f.code == "all-flagged"]
    assert "--keep foreign-process" in finding.message


def test_no_more_processes_are_started_where_ten_left_no_pair(tmp_path):
    plan = TurnsPlan(a="a", b="b", order=turn_order(40))
    flagged = partial(write_run, 1.0, flags="foreign-process")
    said = []
    result = measure_turns(
        plan, tmp_path / "c", {"A": flagged, "B": flagged}, lambda so_far, most: said.append(standing(so_far, most))
    )
    assert len(result.turns) == 10
    assert "stopped after 10 of at most 40 processes" in result.reason
    (finding,) = [f for f in result.findings if f.code == "all-flagged"]
    assert " and 5 more; --keep foreign-process" in finding.message
    assert said[0] == (
        "2 of at most 40 processes: no pair to judge yet; 2 had no clean sample; "
        "--keep foreign-process (in Python keep) uses them all the same"
    )
    kept = msgspec.structs.replace(plan, keep=["foreign-process"])
    calm = {"A": flagged, "B": partial(write_run, 1.5, flags="foreign-process")}
    assert measure_turns(kept, tmp_path / "d", calm, lambda so_far, most: None).verdict == "slower"


def test_callables_run_in_processes_of_their_own(tmp_path):
    seen = []
    result = laptime.compare_runs(
        partial(write_run, 1.0),
        partial(write_run, 1.0),
        out=tmp_path / "c",
        processes=4,
        progress=lambda so_far, most: seen.append((len(so_far.turns), most)),
    )
    assert result.verdict == "inconclusive"
    assert seen == [(2, 4), (4, 4)]
    assert read_turns(tmp_path / "c").stages == result.stages


def test_a_callable_that_cannot_be_sent_or_fails_is_said(tmp_path):
    with pytest.raises(LaptimeError, match="function of a module"):
        callable_launch(lambda out: None, "a")(tmp_path / "x")
    with pytest.raises(LaptimeError, match="exit code 7"):
        callable_launch(fail, "b")(tmp_path / "x")


def test_ctrl_c_keeps_what_is_finished(tmp_path, capsys):
    stopped = f"{sys.executable} -c 'raise SystemExit(130)' {{out}}"
    code = command_line(["compare", "--run", command(1.0), "--against", stopped, "--out", str(tmp_path / "c")])
    assert code == 130
    assert "Inconclusive: interrupted" in capsys.readouterr().out
    assert (tmp_path / "c" / "turns.json").exists()
