"""A sweep over two GPUs: each worker has one alone, and the answers are those of one worker on one GPU."""

import os
import subprocess
import sys

import pytest
import torch

from laptime.audits.audit import audit
from laptime.data.run_folder import load_run
from laptime.sweeps.config_reading import read_sweep_config
from laptime.sweeps.plan import read_plan
from laptime.sweeps.run import Execution, Reporting, sweep

TEXT = """
model: preset:tiny-vlm
device: cuda
workload: {samples: 4}
knobs: {blocks: [2, 4], top_k: [1, 4], dtype: float32, new_tokens: 6, prompt_tokens: 16, image_size: 336x336}
measure: {repeats: 10, rounds: 10, warmups: 2, energy: false}
"""
PLANNED = 2 * 2 * 4 * 10

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.device_count() < 2, reason="needs two GPUs of one host"
)


def run_apart(folder, *arguments, launcher=("-m",)):
    """`laptime sweep` in a process of its own, as a user starts it; its folder."""
    (folder / "sweep.yaml").write_text(TEXT)
    out = folder / "run"
    words = [sys.executable, *launcher, "laptime", "sweep", str(folder / "sweep.yaml"), "--out", str(out), *arguments]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return out


def answers(out):
    """What the model answered at each key of a complete run."""
    run, plan = load_run(out), read_plan(out)
    measured = [sample for sample in run.samples if sample.repeat >= 0]
    assert run.failures == []
    assert len({s.key for s in measured}) == len(measured) == PLANNED
    assert {s.key for s in measured} == plan.keys()
    return {s.key: (s.output_ids, s.output_tokens, s.prompt_tokens, s.image_tokens, s.config) for s in measured}


def shares(out):
    """How many samples each worker measured."""
    workers = [sample.worker for sample in load_run(out).samples if sample.repeat >= 0]
    return {worker: workers.count(worker) for worker in workers}


def assert_one_environment(out):
    assert "mixed-environment" not in {finding.code for finding in audit(out).findings}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The answers of one worker on one GPU."""
    return answers(run_apart(tmp_path_factory.mktemp("alone")))


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_each_worker_sees_one_gpu_and_the_answers_are_those_of_one(tmp_path, alone, executor):
    if executor == "ray":
        pytest.importorskip("ray")
    out = run_apart(tmp_path, "--executor", executor, "--workers", "2")
    assert answers(out) == alone
    starts = [start.environment for start in load_run(out).workers]
    assert [environment.gpu_count for environment in starts] == [1, 1]
    assert {environment.variables["CUDA_VISIBLE_DEVICES"] for environment in starts} == {"0", "1"}
    assert min(shares(out).values()) > PLANNED / 10
    assert len(shares(out)) == 2
    assert_one_environment(out)


def test_under_torchrun_each_rank_has_a_gpu_and_the_answers_are_those_of_one(tmp_path, alone):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    out = run_apart(tmp_path, "--executor", "torchrun", launcher=launcher)
    assert answers(out) == alone
    assert {start.environment.device for start in load_run(out).workers} == {"cuda:0", "cuda:1"}
    assert shares(out) == {"rank-0": PLANNED // 2, "rank-1": PLANNED // 2}
    assert_one_environment(out)


def test_more_workers_than_gpus_are_refused(tmp_path):
    pytest.importorskip("ray")
    (tmp_path / "sweep.yaml").write_text(TEXT)
    for executor in ("local", "ray"):
        words = ["sweep", "sweep.yaml", "--out", "run", "--executor", executor, "--workers", "99"]
        ended = subprocess.run(
            [sys.executable, "-m", "laptime", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 2
        assert f"{torch.cuda.device_count()} GPUs, and a worker takes one" in ended.stderr
        assert not (tmp_path / "run").exists()


def test_a_node_that_is_lost_with_its_gpu_loses_nothing_else(tmp_path, alone):
    """Two Ray nodes on this machine, a GPU each; one is killed in mid-run, and the other GPU does its work."""
    pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    (tmp_path / "sweep.yaml").write_text(TEXT)
    out, said, killed = tmp_path / "run", [], []
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0, "include_dashboard": False})
    try:
        with_gpu = [nodes.add_node(num_cpus=2, num_gpus=1, env_vars={"CUDA_VISIBLE_DEVICES": gpu}) for gpu in "01"]

        def show(standing):
            if standing.measured >= PLANNED // 4 and len(list(out.glob("samples-*.jsonl"))) == 2 and not killed:
                import ray

                own = ray.get_runtime_context().get_node_id()  # the driver's: losing that is losing the driver
                killed.append(next(node for node in with_gpu if node.node_id != own))
                nodes.remove_node(killed[0], allow_graceful=False)

        outcome = sweep(
            read_sweep_config(tmp_path / "sweep.yaml"),
            out,
            Execution(executor="ray", workers=2, ray_address=nodes.address),
            Reporting(show=show, say=said.append),
        )
    finally:
        nodes.shutdown()
    assert killed
    assert (outcome.measured, outcome.failed, outcome.missing) == (PLANNED, 0, 0)
    assert answers(out) == alone
    assert any("its visit goes to another" in line for line in said), said
