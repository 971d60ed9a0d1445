"""How many bytes a call holds at once at most."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pandas as pd  # noqa: F401  else the first call would be measured with the import
import pyarrow as pa


def most_held(call: Callable[[], Any]) -> tuple[int, int]:
    """Bytes of Python's and numpy's, and of arrow's; whatever is held before does not count."""
    pool, before = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1], pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)
