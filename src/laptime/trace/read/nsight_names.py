"""Which tables of an Nsight Systems export are read, by their names, and which folder is one."""

from __future__ import annotations

import re
from pathlib import Path

DEVICE_TABLES = ("KERNEL", "MEMCPY", "MEMCPY2", "MEMSET", "GRAPH_TRACE")
CALL_TABLES = ("RUNTIME", "DRIVER")
RANGE_TABLES = ("NVTX_EVENTS", "PROFILER_OVERHEAD", "OVERHEAD")
STRINGS = "StringIds"
CUDA_DEVICES = "TARGET_INFO_CUDA_DEVICE"
DIAGNOSTICS = "DIAGNOSTIC_EVENT"

TABLE = (
    rf"(?:CUPTI_ACTIVITY_KIND_(?:CONCURRENT_)?)?({'|'.join(DEVICE_TABLES + CALL_TABLES + RANGE_TABLES)})(?:_V(\d+))?"
)
"""The name of a table of device work, calls or ranges: what it holds, and a version."""


def is_read(table: str) -> bool:
    """Whether a table of this name is one that is read."""
    others = (STRINGS, CUDA_DEVICES, DIAGNOSTICS, "META_DATA_EXPORT", "EXPORT_META_DATA")
    return table in others or re.fullmatch(TABLE, table) is not None


def is_parquet_export(path: Path) -> bool:
    """Whether a folder is what `nsys export --type parquetdir` writes."""
    return path.is_dir() and any(is_read(file.stem) for file in path.glob("*.parquet"))
