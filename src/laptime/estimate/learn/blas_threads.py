"""One BLAS thread for each worker: matrices of some hundred rows are too small to share.

Two workers that each ask a pool of two threads for every factorisation wait for each other, and a fit takes nearly
twice as long. Without threadpoolctl it does, with the same result to rounding.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any


def one_thread() -> AbstractContextManager[Any]:
    """While this is entered BLAS uses one thread in this process; afterwards as many as before."""
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return limits
