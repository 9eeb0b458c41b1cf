"""Public latency tables as frames, and the questions that are asked of them. The tables are not part of laptime.

Splitwise's measurements (Mutinifni/splitwise-sim, MIT) and Vidur's profiles of an A100 (microsoft/vidur, MIT), in one
folder named by --tables or $LAPTIME_TABLES: splitwise_perf_model.csv, vidur_a100_attention.csv, mlp_a100_*.csv.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

# What is known of them: parameters, layers, KV heads; memory bandwidth (GB/s), dense FLOP/s (10^12), power cap (W).
MODELS = {"llama2-70b": (70e9, 80, 8), "bloom-176b": (176e9, 70, 112)}
HARDWARE = {"a100-80gb": (2039, 312, 400), "h100-80gb": (3352, 989, 700), "h100-80gb-pcap": (3352, 989, 350)}
CONFIGURATION = ["model", "hardware", "tensor_parallel", "prompt_size", "batch_size", "token_size"]
SPLITWISE = ["prompt_size", "batch_size", "token_size", "tensor_parallel"]
FACTS = ["parameters", "layers", "kv_heads", "bandwidth", "flops", "power_cap"]
MLP = ["num_tokens", "n_embd", "n_expanded_embd", "use_gated_mlp", "num_tensor_parallel_workers"]
UP = "time_stats.mlp_up_proj.median"
ATTENTION = "time_stats.attn_decode.median"


@dataclass(frozen=True)
class Split:
    """One table, one target, one way of holding rows out."""

    task: str
    kind: str
    """"random", "new configurations", "largest sizes" or "held-out group"."""
    name: str
    frame: pl.DataFrame
    held: npt.NDArray[np.bool_]
    target: str
    features: list[str]
    categorical: list[str]
    group: list[str]
    seed: int

    @property
    def train(self) -> pl.DataFrame:
        """What may be learnt from."""
        return self.frame.filter(pl.Series(~self.held))

    @property
    def test(self) -> pl.DataFrame:
        """What is asked."""
        return self.frame.filter(pl.Series(self.held))


def splitwise(folder: Path) -> pl.DataFrame:
    """Splitwise's table with what is known of its models and GPUs as columns."""
    frame = pl.read_csv(folder / "splitwise_perf_model.csv")
    facts = [(*MODELS[m], *HARDWARE[h]) for m, h in zip(frame["model"], frame["hardware"], strict=True)]
    return frame.with_columns(
        pl.Series(name, [row[i] for row in facts], dtype=pl.Float64) for i, name in enumerate(FACTS)
    )


def attention(folder: Path) -> pl.DataFrame:
    """Vidur's attention decode rows."""
    return pl.read_csv(folder / "vidur_a100_attention.csv").filter(~pl.col("is_prefill"))


def mlp(folder: Path) -> pl.DataFrame:
    """Vidur's MLP rows of all models, times above 0."""
    parts = [
        pl.read_csv(file, infer_schema_length=None)
        .select(*MLP, pl.col(UP).cast(pl.Float64))
        .with_columns(pl.lit(file.stem.removeprefix("mlp_a100_")).alias("model"))
        for file in sorted(folder.glob("mlp_a100_*.csv"))
    ]
    return pl.concat(parts).filter(pl.col(UP) > 0)


def splits(folder: Path, *, configurations: int, random: int, only: str = "") -> Iterator[Split]:
    """All splits: so many seeds for new configurations (Splitwise) and for random rows (Vidur)."""
    for task, target in (("splitwise decode", "token_time"), ("splitwise prefill", "prompt_time")):
        if only in task:
            yield from _splitwise(splitwise(folder), task, target, configurations)
    if only in "vidur attention decode":
        yield from _attention(attention(folder), random)
    if only in "vidur mlp":
        yield from _mlp(mlp(folder), random)


def _splitwise(frame: pl.DataFrame, task: str, target: str, seeds: int) -> Iterator[Split]:
    labels = frame.select(pl.concat_str(CONFIGURATION, separator="|")).to_series().to_numpy()
    names, codes = np.unique(labels, return_inverse=True)
    columns = {"features": [*SPLITWISE, *FACTS], "categorical": ["model", "hardware"]}
    for seed in range(seeds):
        held = np.isin(codes, np.random.default_rng(seed).permutation(len(names))[: len(names) // 5])
        yield Split(task, "new configurations", "20 %", frame, held, target, group=CONFIGURATION, seed=seed, **columns)
    large = ((frame["batch_size"] >= 32) | (frame["prompt_size"] >= 4096)).to_numpy()
    name = "batch >= 32 or prompt >= 4096"
    yield Split(task, "largest sizes", name, frame, large, target, group=CONFIGURATION, seed=0, **columns)
    for gpu in sorted(HARDWARE):
        held = (frame["hardware"] == gpu).to_numpy()
        yield Split(task, "held-out group", gpu, frame, held, target, group=["hardware"], seed=0, **columns)


def _attention(frame: pl.DataFrame, seeds: int) -> Iterator[Split]:
    task, columns = "vidur attention decode", ["batch_size", "kv_cache_size"]
    for seed in range(seeds):
        held = np.random.default_rng(seed).random(len(frame)) < 0.2
        yield Split(task, "random", "20 %", frame, held, ATTENTION, columns, [], [], seed)
    work = (frame["batch_size"] * frame["kv_cache_size"]).to_numpy()
    for seed in range(seeds):
        held = work > np.quantile(work, 0.8)
        yield Split(task, "largest sizes", "top 20 % of batch x KV", frame, held, ATTENTION, columns, [], [], seed)


def _mlp(frame: pl.DataFrame, seeds: int) -> Iterator[Split]:
    for seed in range(seeds):
        held = np.random.default_rng(seed).random(len(frame)) < 0.2
        yield Split("vidur mlp", "random", "20 %", frame, held, UP, MLP, [], ["model"], seed)
    for seed in range(seeds):
        held = (frame["num_tokens"] > 2048).to_numpy()
        yield Split("vidur mlp", "largest sizes", "tokens > 2048", frame, held, UP, MLP, [], ["model"], seed)
    for model in sorted(frame["model"].unique()):
        held = (frame["model"] == model).to_numpy()
        yield Split("vidur mlp", "held-out group", model, frame, held, UP, MLP, [], ["model"], 0)
