"""Latency tables that nobody looked at while the estimator was written. They are not part of laptime.

In one folder, as they lie in public repositories: timm_5090.csv, timm_4090.csv, timm_pro6000.csv and timm_cpu.csv
(huggingface/pytorch-image-models, results/benchmark-infer-*), lss4090_attention.csv, lss4090_dense.csv and
lss4090_skew.csv (casys-kaist/LLMServingSim, profiler/perf/RTX4090/.../tp1), vidur_allreduce_a100.csv,
vidur_allreduce_h100.csv and vidur_sendrecv_h100.csv (microsoft/vidur, data/profiling/network), neusight_bmm.csv,
neusight_linear.csv and neusight_vec.csv (sitar-lab/NeuSight, scripts/asplos/data/dataset/test).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
from further_tables import LatencyTable, cut_down

TIMM = ["infer_img_size", "infer_batch_size", "param_count", "infer_gmacs", "infer_macts"]


def other_tables(folder: Path, *, most_rows: int, seed: int = 0) -> Iterator[LatencyTable]:
    """Every table, cut down to a number of rows at random."""
    return cut_down(_whole(folder), most_rows, seed)


def _whole(folder: Path) -> Iterator[LatencyTable]:
    def read(name: str) -> pl.DataFrame:
        return pl.read_csv(folder / f"{name}.csv", infer_schema_length=None)

    took, macs, work = "infer_step_time", ["infer_gmacs"], ["infer_gmacs", "infer_batch_size"]
    yield LatencyTable("timm 5090", read("timm_5090"), took, TIMM, [], macs, work, None)
    gpus = [read(f"timm_{gpu}").with_columns(device=pl.lit(gpu)) for gpu in ("5090", "4090", "pro6000")]
    yield LatencyTable("timm, 3 GPUs", pl.concat(gpus), took, [*TIMM, "device"], ["device"], macs, work, "device")
    sizes = ["infer_img_size", "param_count", "infer_gmacs", "infer_macts"]
    yield LatencyTable("timm, a CPU", read("timm_cpu"), took, sizes, [], macs, macs, None)
    steps = read("lss4090_attention")
    names = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"]
    yield LatencyTable("attention 4090", steps, "time_us", names, [], ["prefill_chunk", "kv_decode"], [], None)
    layers = read("lss4090_dense")
    yield LatencyTable("layers 4090", layers, "time_us", ["tokens", "layer"], ["layer"], ["tokens"], ["tokens"], None)
    names, sizes = ["n", "nb", "pc", "kp", "kvs", "kv_big", "regime"], ["n", "kv_big"]
    yield LatencyTable("skew 4090", read("lss4090_skew"), "t_skew_us", names, ["regime"], sizes, sizes, None)
    links = [read(f"vidur_allreduce_{gpu}").with_columns(gpu=pl.lit(gpu)) for gpu in ("a100", "h100")]
    reduced, sizes = pl.concat(links), ["size", "num_workers"]
    median = "time_stats.all_reduce.median"
    names = [*sizes, "devices_per_node", "gpu"]
    yield LatencyTable("all-reduce", reduced, median, names, ["gpu"], ["size"], sizes, None)
    sent, names = read("vidur_sendrecv_h100"), ["size", "devices_per_node"]
    yield LatencyTable("send", sent, "time_stats.send_recv.median", names, [], ["size"], ["size"], None)
    for name, sizes in (("bmm", ["B", "M", "N", "K"]), ("linear", ["M", "N", "K"])):
        kernels = read(f"neusight_{name}")
        yield LatencyTable(name, kernels, "Latency", [*sizes, "Device"], ["Device"], ["M"], sizes, "Device")
    names, sizes = ["B", "H", "Device", "OPName"], ["B", "H"]
    yield LatencyTable("elementwise", read("neusight_vec"), "Latency", names, names[2:], ["H"], sizes, None)
