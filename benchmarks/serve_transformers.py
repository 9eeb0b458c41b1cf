"""`transformers serve` under serve-bench, and transformers' continuous batching by its public fields.

    make test-engines        # or: python -m benchmarks.serve_transformers, where transformers[serving] is installed

SmolLM2-135M on CPU cores. The server: every request ends and is counted, and the first event (a role) comes before the
first content. Continuous batching in this process: each output's public instants (created_time, lifespan, timestamps)
become a request whose stages sum to its total. Writes benchmarks/results/serve_transformers.json.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from statistics import median

import msgspec
from benchmarks.smollm2_folder import made

from laptime.engines.bench import ServeRequest, serve_bench
from laptime.engines.joined import sample_of
from laptime.engines.life import lives_of
from laptime.engines.loads import concurrency
from laptime.engines.questions import Asking
from laptime.engines.request import between_ms, read_requests
from laptime.engines.request_logs import requests_of_batching
from laptime.measure.host import describe_host

RESULT = Path(__file__).parent / "results" / "serve_transformers.json"
MODEL = Path(os.environ.get("SMOLLM2", "runs/engines/smollm2"))
PORT = int(os.environ.get("PORT", "8178"))


def served() -> list[dict]:
    """The server under one and four requests at once."""
    folder = made(MODEL)
    command = [str(Path(sys.executable).with_name("transformers")), "serve", folder.name, "--port", str(PORT),
               "--device", "cpu"]  # fmt: skip
    process = subprocess.Popen(command, cwd=folder.resolve().parent, env={**os.environ, "HF_HUB_OFFLINE": "1"},
                               stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip
    try:
        until = time.monotonic() + 300
        while time.monotonic() < until:
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=2).close()
                break
            time.sleep(1)
        rows = []
        for users in (1, 4):
            asking = Asking(api="chat", model=folder.name, prompt_tokens=64, new_tokens=16)
            with tempfile.TemporaryDirectory() as name:
                request = ServeRequest(url=f"http://127.0.0.1:{PORT}", asking=asking, loads=[concurrency(users, 6)],
                                       warmup=1, timeout_s=300)  # fmt: skip
                (level,) = serve_bench(request, Path(name) / "run").levels
                requests = [one for one in read_requests(Path(name) / "run") if one.repeat >= 0]
            for one in requests:
                assert one.outcome == "finished", one.error
                assert one.output_tokens and one.prompt_tokens
                assert one.first_event.ns <= one.first_content.ns <= one.last_content.ns <= one.done.ns
            rows.append(
                {
                    "load": level.name,
                    "finished": level.finished,
                    "first_event_ms": median(between_ms(one.due, one.first_event) for one in requests),
                    "ttft_ms": msgspec.to_builtins(level.ttft_ms.median),
                    "tpot_ms": msgspec.to_builtins(level.tpot_ms.median),
                    "tokens_per_chunk": level.tokens_per_chunk,
                }
            )
        return rows
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def batched() -> dict:
    """Continuous batching in this process: eight requests of different lengths."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    prompts = [tokenizer(" ".join(["river"] * length))["input_ids"] for length in (8, 16, 32, 64, 8, 16, 32, 64)]
    settings = GenerationConfig(max_new_tokens=16, do_sample=False, eos_token_id=tokenizer.eos_token_id,
                                pad_token_id=tokenizer.pad_token_id)  # fmt: skip
    began = time.perf_counter_ns()
    outputs = model.generate_batch(inputs=prompts, generation_config=settings, record_timestamps=True,
                                   progress_bar=False)  # fmt: skip
    ended = time.perf_counter_ns()
    requests = requests_of_batching(outputs)
    lives, missing = lives_of(requests, [])
    assert len(lives) == len(prompts) and not missing, (len(lives), len(missing))
    for life in lives:
        assert sum(life.stages.values()) == life.total_ns
        assert life.out_of_order_ns <= 100_000, life.out_of_order_ns
        assert began <= life.request.due.ns and life.request.done.ns <= ended  # the same clock as ours
        assert sample_of(life, {}, "batching").stages.closes()
    return {
        "requests": len(lives),
        "largest_out_of_order_ms": max(life.out_of_order_ns for life in lives) / 1e6,
        "stages_ms": {
            name: sum(life.stages.get(name, 0) for life in lives) / len(lives) / 1e6
            for name in ("queue", "prefill", "decode", "other")
        },
        "total_ms": sum(life.total_ns for life in lives) / len(lives) / 1e6,
    }


def main() -> None:
    result = {
        "transformers": version("transformers"),
        "served": served(),
        "batched": batched(),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "environment": msgspec.to_builtins(describe_host()),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
