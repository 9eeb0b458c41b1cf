"""The same sweep under torchrun and on a Ray cluster: the same keys, whoever measured them."""

import os
import subprocess
import sys

import pytest

from laptime.data.run_folder import load_run
from laptime.errors import LaptimeError
from laptime.sweeps.config_reading import read_sweep_config
from laptime.sweeps.executors.torchrun import this_rank
from laptime.sweeps.plan import read_plan
from laptime.sweeps.run import Execution, Reporting, sweep

TEXT = """
model: preset:tiny-llm
device: cpu
workload: {samples: 3}
knobs: {blocks: [2, 3], new_tokens: 2, prompt_tokens: 8}
measure: {repeats: REPEATS, rounds: ROUNDS, warmups: 2}
"""


def config(folder, repeats=2, rounds=2):
    file = folder / "sweep.yaml"
    file.write_text(TEXT.replace("REPEATS", str(repeats)).replace("ROUNDS", str(rounds)))
    return file


def assert_complete(out):
    run, plan = load_run(out), read_plan(out)
    keys = [s.key for s in run.samples]
    assert len(keys) == len(set(keys))
    assert {key for key in keys if key[2] >= 0} == plan.keys()
    assert run.failures == []
    return run


def torchrun(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "laptime",
         "sweep", *map(str, arguments), "--executor", "torchrun"],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip


def test_under_torchrun_ranks_share_the_work_and_take_turns_at_each_configuration(tmp_path):
    out = tmp_path / "run"
    ended = torchrun(config(tmp_path), "--out", out)
    assert ended.returncode == 0, ended.stderr[-2000:]
    run = assert_complete(out)
    assert {w.worker for w in run.workers} == {"rank-0", "rank-1"}
    assert {w.environment.torch_threads for w in run.workers} == {1}
    by_config = {(s.config_id, s.worker) for s in run.samples}
    assert len(by_config) == 4, "each of two configurations was measured by each of two ranks"
    assert run.info.session["workers"] == 2
    assert (out / "report.html").exists()
    assert "page:" in ended.stdout


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "RANK is not set"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "numbers"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "range"),
    ],
)
def test_torchrun_without_its_variables_is_said(monkeypatch, variables, said):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LaptimeError, match=said):
        this_rank()


@pytest.fixture(scope="module")
def cluster():
    """Three Ray nodes of one core each, on this machine."""
    pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    ray_nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [ray_nodes.add_node(num_cpus=1) for _ in range(3)]
    yield ray_nodes, nodes
    ray_nodes.shutdown()


def test_a_ray_cluster_that_loses_a_node_loses_nothing_else(tmp_path, cluster):
    ray_nodes, nodes = cluster
    out = tmp_path / "run"
    said, killed = [], []

    def show(standing):
        busy = len(list(out.glob("samples-*.jsonl"))) == 3  # a worker that hasn't started yet has no visit to lose
        if busy and standing.measured >= 5 and not killed:
            import ray

            own = ray.get_runtime_context().get_node_id()  # the driver's: losing that is losing the driver
            killed.append(next(node for node in nodes if node.node_id != own))
            ray_nodes.remove_node(killed[0], allow_graceful=False)

    outcome = sweep(
        read_sweep_config(config(tmp_path, repeats=60, rounds=20)),  # visits enough for a worker that starts late
        out,
        Execution(executor="ray", workers=3, ray_address=ray_nodes.address),
        Reporting(show=show, say=said.append),
    )
    assert killed
    assert (outcome.measured, outcome.failed, outcome.missing) == (360, 0, 0)
    run = assert_complete(out)
    assert len({w.worker for w in run.workers}) == 3
    assert any("its visit goes to another" in line for line in said), said
    assert sum("RAY_worker_niceness=0" in line for line in said) == 1, "Ray's own default lets others go first"


def test_more_workers_than_the_cluster_has_room_for_is_said(tmp_path, cluster):
    ray_nodes, _ = cluster
    with pytest.raises(LaptimeError, match=r"`workers` 9: the cluster has \d cores"):
        sweep(
            read_sweep_config(config(tmp_path)),
            tmp_path / "run",
            Execution(executor="ray", workers=9, ray_address=ray_nodes.address),
            Reporting(),
        )
    assert not (tmp_path / "run").exists()


def test_no_cluster_at_the_address_is_said(tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(LaptimeError, match="no Ray cluster there"):
        sweep(
            read_sweep_config(config(tmp_path)),
            tmp_path / "run",
            Execution(executor="ray", workers=1, ray_address="127.0.0.1:1"),
            Reporting(),
        )
