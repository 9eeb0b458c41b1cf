"""`laptime trace FILE --json` and nothing else: the answer on stdout, for programs."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def print_json(file: Path) -> int:
    """Write the answer (laptime.trace/1) to stdout.

    Returns:
        the exit code: 1 when the file can't support an answer, else 0.

    Raises:
        LaptimeError: the file can't be read.
    """
    one_thread()
    from laptime.trace.analysis import read_trace

    analysis = read_trace(file)
    sys.stdout.buffer.write(analysis.to_json() + b"\n")
    sys.stdout.buffer.flush()
    return 1 if analysis.integrity.verdict == "unsupported" else 0


def one_thread() -> None:
    """Keep numpy, if it isn't imported yet, from starting threads for products of matrices, which no trace needs.

    They cost start-up, and the readers only fork a process that has one thread.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
