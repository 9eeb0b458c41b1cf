"""`laptime env`: facts, costs, and no secret."""

import json
import subprocess
import sys

from tests.cli.test_profile import laptime


def test_the_environment_is_shown_and_secrets_are_not(capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret_token")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code, out, _ = laptime(capsys, "env", "--json")
    value = json.loads(out)
    assert code == 0
    assert value["schema"] == "laptime.env/1"
    assert value["environment"]["variables"]["OMP_NUM_THREADS"] == "1"
    assert "hf_secret_token" not in out
    assert value["overhead"] is None


def test_overhead_is_measured_on_this_machine(capsys):
    code, out, _ = laptime(capsys, "env", "--overhead", "--json", "--device", "cpu")
    overhead = json.loads(out)["overhead"]
    assert code == 0
    assert overhead["device"] == "cpu"
    assert 0 < overhead["host_clock_us"]["value"] <= overhead["mark_us"]["value"]
    assert overhead["synchronize_idle_us"] is None
    assert {(row["strategy"], row["tokens"]) for row in overhead["strategies"]} == {
        (strategy, tokens)
        for strategy in ("total", "total, EOS possible", "per token, events")
        for tokens in (16, 128, 1024)
    }
    code, out, _ = laptime(capsys, "env", "--overhead", "--device", "cpu")
    assert code == 0
    assert "1\u202f024 tokens" in out


def test_reading_and_helping_never_import_torch():
    program = (
        "import sys, laptime, laptime.data.run_folder, laptime.report.profile.page, laptime.report.profile.terminal\n"
        "from laptime.cli.typer_line import application; application()\n"
        "print(sorted({'torch', 'transformers', 'polars'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_torch_measuring_says_what_to_install():
    program = (
        "import sys, importlib.util as u\n"
        "real = u.find_spec\n"
        "import laptime.errors as extra\n"
        "extra.find_spec = lambda name: None if name == 'torch' else real(name)\n"
        "from laptime.cli.main import main\n"
        "main(['profile', 'preset:tiny-llm'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == "laptime: torch is not installed but needed to measure: pip install 'laptime[torch]'"


def test_without_torch_the_environment_is_shown_all_the_same(tmp_path):
    """What an issue asks for must be there on a machine that only reads runs."""
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import laptime.measure.host as host\n"
        "host.PACKAGES = tuple(name for name in host.PACKAGES if name != 'torch')\n"
        "from laptime.cli.main import main\n"
        "main(sys.argv[1:])"
    )
    done = subprocess.run([sys.executable, "-c", program, "env", "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["packages"]["polars"] and value["environment"]["torch"] is None
