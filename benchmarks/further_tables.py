"""More latency tables that nobody here wrote, each with every way of holding rows out. They are not part of laptime.

In the folder of benchmarks/latency_tables.py: aic_gemm_h200_vllm.parquet (ai-dynamo/aiconfigurator, Apache-2.0),
lss_attn_A6000_tp1.csv (casys-kaist/LLMServingSim, MIT), mle_lmarena.json (ml-energy/leaderboard, Apache-2.0) and
argonne_all.csv (argonne-lcf/LLM-Inference-Bench).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from latency_tables import ATTENTION, FACTS, MLP, SPLITWISE, UP, Split, attention, mlp, splitwise

MOST_GROUPS = 3
"""Held-out groups a table: those with the most rows."""


@dataclass(frozen=True)
class LatencyTable:
    """A table with its target, what the target depends on, the sizes among that, and the column of its groups."""

    name: str
    frame: pl.DataFrame
    target: str
    features: list[str]
    categorical: list[str]
    sizes: list[str]
    work: list[str]
    """The sizes whose product is the work."""
    group: str | None


def latency_tables(folder: Path, *, most_rows: int, seed: int = 0) -> Iterator[LatencyTable]:
    """Every table, cut down to a number of rows at random: what a user measures, not what a laboratory does."""
    return cut_down(_whole_tables(folder), most_rows, seed)


def cut_down(tables: Iterable[LatencyTable], most_rows: int, seed: int) -> Iterator[LatencyTable]:
    """The tables with so many rows each at most, taken at random."""
    for table in tables:
        rows = np.random.default_rng(seed).permutation(len(table.frame))[:most_rows]
        yield replace(table, frame=table.frame[np.sort(rows)])


def _whole_tables(folder: Path) -> Iterator[LatencyTable]:
    gemm = pl.read_parquet(folder / "aic_gemm_h200_vllm.parquet").rename({"gemm_dtype": "dtype"})
    sizes = ["m", "n", "k"]
    yield LatencyTable("gemm", gemm, "latency", [*sizes, "dtype"], ["dtype"], sizes, sizes, "dtype")
    served = pl.read_csv(folder / "lss_attn_A6000_tp1.csv", infer_schema_length=None).filter(~pl.col("is_prefill"))
    sizes = ["batch_size", "kv_cache_size"]
    yield LatencyTable("lss attention", served, ATTENTION, sizes, [], sizes, sizes, None)
    yield LatencyTable("vidur attention", attention(folder), ATTENTION, sizes, [], sizes, sizes, None)
    yield LatencyTable("vidur mlp", mlp(folder), UP, MLP, [], ["num_tokens"], ["num_tokens", "n_embd"], "model")
    split = splitwise(folder)
    sizes = ["batch_size", "prompt_size"]
    columns = ([*SPLITWISE, *FACTS], ["model", "hardware"], sizes, sizes, "hardware")
    yield LatencyTable("splitwise decode", split, "token_time", *columns)
    yield LatencyTable("splitwise prefill", split, "prompt_time", *columns)
    yield _argonne(folder)
    yield _leaderboard(folder)


def _argonne(folder: Path) -> LatencyTable:
    frame = pl.read_csv(folder / "argonne_all.csv", infer_schema_length=None).drop_nulls()
    frame = frame.rename({"Num of Hardware": "devices", "Input Output Length": "length", "Batch Size": "batch"})
    frame = frame.filter(pl.col("Latency") > 0).with_columns(pl.col("Latency") * 1000)
    names, sizes = ["Hardware", "Framework", "Model"], ["batch", "length"]
    return LatencyTable("argonne", frame, "Latency", [*sizes, "devices"], names, sizes, sizes, "Hardware")


def _leaderboard(folder: Path) -> LatencyTable:
    rows = json.loads((folder / "mle_lmarena.json").read_text(encoding="utf-8"))["configurations"]
    sizes = ["max_num_seqs", "activated_params_billions"]
    numbers = [*sizes, "total_params_billions", "num_gpus"]
    names = ["gpu_model", "model_id", "weight_precision"]
    frame = pl.DataFrame([{name: row[name] for name in [*numbers, *names, "median_itl_ms"]} for row in rows])
    frame = frame.drop_nulls().filter(pl.col("median_itl_ms") > 0)
    return LatencyTable("ml.energy", frame, "median_itl_ms", numbers, names, sizes, sizes, "gpu_model")


def table_splits(table: LatencyTable, *, seed: int = 0) -> Iterator[Split]:
    """Random rows, new configurations, the largest fifth by each size and by work, and held-out groups."""
    frame, rng = table.frame, np.random.default_rng(seed)
    yield _split(table, "random", "a fifth of the rows", rng.random(len(frame)) < 0.2)
    labels = frame.select(pl.concat_str(pl.col([*table.features, *table.categorical]), separator="|")).to_series()
    _, codes = np.unique(labels.to_numpy(), return_inverse=True)
    if codes.max() + 1 < len(frame):
        held = np.isin(codes, rng.permutation(codes.max() + 1)[: (codes.max() + 1) // 5])
        yield _split(table, "new configurations", "a fifth of them", held)
    for size in table.sizes:
        yield _largest(table, size, frame[size].to_numpy())
    work = np.exp(sum(np.log(frame[size].to_numpy().astype(float)) for size in table.work))
    if len(table.work) > 1:
        yield _largest(table, " x ".join(table.work), work)
    if table.group is None:
        return
    most = frame[table.group].value_counts(sort=True)[table.group].to_list()[:MOST_GROUPS]
    for level in most if frame[table.group].n_unique() > 2 else []:
        yield _split(table, "held-out group", f"{table.group} {level}", (frame[table.group] == level).to_numpy())
    for level in most if table.name == "gemm" else []:  # one level was measured up to a size, the other one beyond it
        held = ((frame[table.group] == level) & (pl.Series(work) > np.quantile(work, 0.8))).to_numpy()
        yield _split(table, "largest of one level", f"{level} by work", held)


def _largest(table: LatencyTable, name: str, order: np.ndarray) -> Split:
    edge = np.quantile(order, 0.8)
    held = order > edge if (order > edge).any() else order >= edge
    return _split(table, "largest fifth", f"by {name}", held)


def _split(table: LatencyTable, kind: str, name: str, held: np.ndarray) -> Split:
    group = [table.group] if table.group and kind == "held-out group" else []
    numbers = [name for name in table.features if name not in table.categorical]
    return Split(table.name, kind, name, table.frame, held, table.target, numbers, table.categorical, group, 0)
