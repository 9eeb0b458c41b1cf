"""`laptime`: help that imports no verb, near names for typing mistakes, completion in a shell."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import pytest

from laptime.cli.main import run as laptime
from laptime.cli.typer_line import imported_verb
from laptime.cli.verbs import VERBS, Group

NAMES = [name for verbs in VERBS.values() for name in verbs]
CONTROL_NAMES = ["features", "ask", "train", "bounds", "evaluate", "run"]


def first_paragraph(text: str) -> str:
    return " ".join(inspect.cleandoc(text).split("\n\n")[0].split())


@pytest.mark.parametrize("name", NAMES)
def test_the_line_in_the_root_help_is_that_of_the_verb(name):
    verb = next(verbs[name] for verbs in VERBS.values() if name in verbs)
    module, _, attribute = verb.place.partition(":")
    function = getattr(__import__(module, fromlist=[attribute]), attribute)
    line = function.summary if isinstance(function, Group) else first_paragraph(function.__doc__)
    assert verb.summary == line
    assert "Example" not in line


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_is_on_stdout_and_names_every_verb(capsys, words):
    assert laptime(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for verbs in VERBS.values():
        for name, verb in verbs.items():
            assert f"│ {name} " in out
            assert verb.summary.split()[0] in out


def test_a_group_of_verbs_alone_prints_its_help(capsys):
    assert laptime(["control"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(f"│ {name} " in out for name in CONTROL_NAMES)


def test_the_root_help_imports_no_verb():
    program = (
        "import sys; from laptime.cli.main import run; run(['--help'])\n"
        "print(sorted(name for name in sys.modules if name.startswith('laptime.')), file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "budget" in shown.stdout
    few = [
        "cli",
        "cli.collector",
        "cli.declared",
        "cli.main",
        "cli.plain_line",
        "cli.stop",
        "cli.streams",
        "cli.typer_line",
        "cli.verbs",
        "cli.wrong_line",
    ]
    few += ["data", "data.printable", "errors"]
    assert shown.stderr.strip() == str([f"laptime.{name}" for name in few])


@pytest.mark.parametrize("words", [[name] for name in NAMES] + [["control", name] for name in CONTROL_NAMES])
def test_every_verb_has_the_short_help_with_an_example(capsys, words):
    assert laptime([*words, "-h"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"Usage: laptime {' '.join(words)} " in out
    if words != ["control"]:
        assert f"Example: laptime {' '.join(words)}" in out


def test_a_paragraph_of_help_has_no_line_breaks_of_its_source(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert laptime(["report", "-h"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert any(line.startswith("A run of one") and line.endswith("no page is written.") for line in lines)


@pytest.mark.parametrize(
    ("words", "near"), [(["comparr"], "compare"), (["compare", "--stge", "decode", "a", "b"], "--stage")]
)
def test_a_near_name_is_offered(capsys, words, near):
    assert laptime(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert near in err


def complete(words: str) -> list[str]:
    """What bash would offer after these words."""
    variables = {"_LAPTIME_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [sys.executable, "-c", "from laptime.cli.main import main; main()"]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **variables}, check=False
    ).stdout.split()


def test_a_shell_completes_verbs_options_and_choices():
    assert complete("laptime co") == ["compare", "control"]
    assert complete("laptime compare --st") == ["--stage"]
    assert complete("laptime control tr") == ["train"]
    assert "--budget-ms" in complete("laptime control run --")


def test_a_shell_completes_the_choices_of_an_option():
    assert complete("laptime export --format p") == ["parquet", "perfetto", "prometheus"]


def test_the_completion_script_is_shown():
    variables = {"_LAPTIME_COMPLETE": "source_bash"}
    command = [sys.executable, "-c", "from laptime.cli.main import main; main()"]
    shown = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables}, check=False)
    assert "complete -o default -F _laptime_completion laptime" in shown.stdout


@pytest.mark.parametrize("word", ["--version", "-V", "version"])
def test_the_version_is_printed(capsys, word):
    from laptime import __version__

    assert laptime([word]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_a_verb_is_imported_with_its_options():
    assert {"--stage", "--json"} <= {option for one in imported_verb("compare").params for option in one.opts}


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_inside_laptime_is_no_answer(capsys, monkeypatch, tmp_path, debug):
    (tmp_path / "broken_verb.py").write_text('def env() -> None:\n    """Break."""\n    [].index("x\\ny")\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(VERBS["Measure"], "env", VERBS["Measure"]["env"]._replace(place="broken_verb:env"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert laptime([*(["--debug"] if debug else []), "env"]) == 70
    out, err = capsys.readouterr()
    *traceback, line = err.splitlines()
    assert out == ""
    assert bool(traceback) is debug
    assert line.startswith("laptime: an error inside laptime: ValueError: ")
    (kept,) = tmp_path.glob("laptime-error-*.txt")
    assert str(kept) in line
    assert "broken_verb.py" in kept.read_text()


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["export", "x", "--format", "parqet"], "Did you mean parquet?"),
        (["compare", "a", "b", "--stage", "decod"], "Did you mean decode"),
        (["env", "--devce", "cpu"], "No such option: --devce. Did you mean --device? (see laptime env --help)"),
        (["export", "x", "--formt", "csv"], "No such option: --formt. Did you mean --format? (see"),
        (["export", "x", "--frmat", "csv"], "Did you mean --format?"),
        (["control", "ask", "x", "--kep", "cold"], "Did you mean --keep? (see laptime control ask --help)"),
        (["profile", "x", "--batch-size", "4"], "Did you mean --batch?"),
        (["profile", "x", "--hlp"], "Did you mean --help?"),
        (["profile", "x", "--formt", "csv"], "No such option: --formt (see laptime profile --help)"),
        (["audti", "x"], "Did you mean audit?"),
        (["compare", "--run", "x", "--against", "y", "--keep", "colld"], "did you mean cold?"),
    ],
)
def test_a_typo_gets_near_names(words, near, capsys):
    assert laptime(words) == 2
    assert near in capsys.readouterr().err


def test_a_path_that_is_not_there_gets_the_names_beside_it(tmp_path, capsys):
    (tmp_path / "demo").mkdir()
    assert laptime(["audit", str(tmp_path / "dmeo")]) == 2
    assert f"no such file or folder; did you mean {tmp_path / 'demo'}?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("written", "there", "near"),
    [
        ("nofile.yaml", "e.yaml", False), ("run.json", "est.json", False), ("dmeo.csv", "demo.csv", True),
        ("demo.jsn", "demo.json", True), ("steps2.csv", "steps.csv", True), ("a.parquet", "b.parquet", False),
    ],
)  # fmt: skip
def test_a_name_is_near_by_more_than_its_ending(tmp_path, capsys, written, there, near):
    (tmp_path / there).touch()
    for verb in ("audit", "sweep", "trace"):
        assert laptime([verb, str(tmp_path / written)]) == 2
        assert (f"; did you mean {tmp_path / there}?" in capsys.readouterr().err) is near


def test_a_message_about_one_path_offers_no_name_for_another(tmp_path, monkeypatch, capsys):
    """Of the two arguments only the first is at fault; the second stands in the message's words too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    (tmp_path / "tables").touch()
    assert laptime(["evaluate", "t.csv", "table"]) == 2
    assert "did you mean" not in capsys.readouterr().err


def test_the_verb_is_no_path_that_is_not_there(tmp_path, monkeypatch, capsys):
    """A file beside it is called nearly as the verb is, which the message names too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trace1").touch()
    (tmp_path / "cpp_trace_0.json").write_text('{"seed": 0}')
    assert laptime(["trace", "cpp_trace_0.json"]) == 2
    assert "did you mean" not in capsys.readouterr().err


def test_an_answer_that_nobody_reads_is_neither_yes_nor_no():
    """`laptime compare A B | true` with pipefail: 1 would mean slower, 0 not slower."""
    reading, writing = os.pipe()
    os.close(reading)
    program = [sys.executable, "-c", "from laptime.cli.main import main; main()", "--help"]
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run(program, stdout=closed, stderr=subprocess.PIPE, check=False, text=True)
    assert (done.returncode, done.stderr) == (141, "")


def test_what_is_to_be_written_needs_no_name_beside_it(tmp_path, capsys):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo.html").touch()
    assert laptime(["audit", str(tmp_path / "demo"), "--html", str(tmp_path / "demo.html" / "dem.html")]) == 2
    assert laptime(["audit", str(tmp_path / "demo"), "--html", "/proc/x.html"]) == 2
    assert "did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["audit", "no such folder"], 2), (["--help"], 0)])
def test_the_process_ends_with_its_code_and_all_that_it_printed(words, code):
    program = (
        "import atexit, sys; atexit.register(lambda: print('at the end'))\n"
        "from laptime.cli.main import main; print('before', end=' ')\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout.startswith("before ") and done.stdout.endswith("at the end\n")


def test_a_thread_is_waited_for():
    program = (
        "import threading, time; from laptime.cli.main import main\n"
        "threading.Thread(target=lambda: (time.sleep(0.5), print('done'))).start()\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[-1]) == (0, "done")
