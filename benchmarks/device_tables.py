"""Latency tables of hardware that no other table here has: an NPU, a TPU, AMD's GPUs, a single-board computer, a CPU.

Nobody had looked at them while the estimator was written. They are not part of laptime. In one folder, as they lie in
public repositories: ascend_decode.csv, ascend_prefill.csv, ascend_bf16.csv and ascend_int8.csv
(hudingyi688/aiconfigurator-npu, systems/data/ascend_910b/vllm-ascend/0.18.0: FusedInferAttentionScore_Decode,
FusedInferAttentionScore, MatMulV2, QuantBatchMatmulV3), tpu_attention.csv and tpu_layers.csv
(casys-kaist/LLMServingSim, profiler/v0/perf_models/TPU-v6e-1/meta-llama/Llama-3.1-8B/tp1), amd_gemm.csv and
amd_fmoe.csv (ROCm/aiter, aiter/configs: a8w8_blockscale_tuned_gemm, tuned_fmoe), hat_raspberrypi.csv, hat_xeon.csv and
hat_titanxp.csv (mit-han-lab/hardware-aware-transformers, latency_dataset/wmt14ende_*_all).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
from further_tables import LatencyTable, cut_down

HEADS = ["Num Heads", "Num KV Heads", "Head Size"]


def device_tables(folder: Path, *, most_rows: int, seed: int = 0) -> Iterator[LatencyTable]:
    """Every table, cut down to a number of rows at random."""
    return cut_down(_whole(folder), most_rows, seed)


def _whole(folder: Path) -> Iterator[LatencyTable]:
    def read(name: str) -> pl.DataFrame:
        return pl.read_csv(folder / f"{name}.csv", infer_schema_length=None)

    yield _npu_attention("NPU, decode", read("ascend_decode"))
    yield _npu_attention("NPU, prefill", read("ascend_prefill"))
    products = pl.concat([_npu_products(read("ascend_bf16"), "bf16"), _npu_products(read("ascend_int8"), "int8")])
    sizes = ["m", "n", "k"]
    yield LatencyTable("NPU, products", products, "ms", [*sizes, "dtype"], ["dtype"], sizes, sizes, "dtype")
    attention = read("tpu_attention").with_columns(ms=pl.col("mean_ns") / 1e6)
    decode, sizes = attention.filter(~pl.col("is_prefill")), ["batch_size", "kv_cache_size"]
    yield LatencyTable("TPU, decode", decode, "ms", sizes, [], sizes, sizes, None)
    prefill, sizes = attention.filter("is_prefill"), ["prefill_chunk_size", "kv_cache_size"]
    yield LatencyTable("TPU, prefill", prefill, "ms", sizes, [], sizes, sizes[:1], None)
    layers = read("tpu_layers").with_columns(ms=pl.col("latency(ns)") / 1e6)
    yield LatencyTable("TPU, layers", layers, "ms", ["input", "layer_name"], ["layer_name"], ["input"], ["input"], None)
    gemm, sizes = read("amd_gemm").with_columns(ms=pl.col("us") / 1e3), ["M", "N", "K"]
    yield LatencyTable("AMD, products", gemm, "ms", [*sizes, "gfx"], ["gfx"], sizes, sizes, "gfx")
    experts, sizes = read("amd_fmoe").with_columns(ms=pl.col("us") / 1e3), ["token", "inter_dim"]
    names = ["act_type", "q_dtype_a", "q_dtype_w", "q_type"]
    columns = [*sizes, "cu_num", "model_dim", "expert", "topk", *names]
    yield LatencyTable("AMD, experts", experts.filter(pl.col("ms") > 0), "ms", columns, names, sizes, sizes, "q_type")
    yield from _translation(read)


def _npu_attention(name: str, frame: pl.DataFrame) -> LatencyTable:
    """No KV head stands for as many as there are heads."""
    heads = pl.when(pl.col("Num KV Heads") == 0).then(pl.col("Num Heads")).otherwise(pl.col("Num KV Heads"))
    frame = frame.with_columns(heads.alias("Num KV Heads"), ms=pl.col("Average Duration(us)") / 1e3)
    sizes = ["Batch", "Seq Len"]
    return LatencyTable(name, frame, "ms", [*sizes, *HEADS], [], sizes, sizes, None)


def _npu_products(frame: pl.DataFrame, dtype: str) -> pl.DataFrame:
    """Shapes are written "m,k;n,k"."""
    shapes = [[int(n) for n in text.replace(";", ",").split(",")] for text in frame["Input Shapes"]]
    columns = {"m": [s[0] for s in shapes], "n": [s[2] for s in shapes], "k": [s[1] for s in shapes]}
    return pl.DataFrame(columns).with_columns(frame["Average Duration(us)"].alias("ms") / 1e3, dtype=pl.lit(dtype))


def _translation(read) -> Iterator[LatencyTable]:  # type: ignore[no-untyped-def]
    """Translation models drawn for a search; heads and widths are means over layers."""
    took, sizes = "latency_mean_decoder", ["decoder_layer_num", "decoder_ffn_embed_dim_avg"]
    devices = {name: read(f"hat_{name}") for name in ("raspberrypi", "xeon", "titanxp")}
    numbers = [name for name in devices["xeon"].columns if not name.startswith("latency")]
    for name, frame in devices.items():
        yield LatencyTable(f"translation, {name}", frame, took, numbers, [], sizes, sizes, None)
    each = pl.concat([frame.with_columns(device=pl.lit(name)) for name, frame in devices.items()])
    yield LatencyTable("translation, all", each, took, [*numbers, "device"], ["device"], sizes, sizes, "device")
