"""How labs are told: figures in cells, means and percentiles, ratios."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kvsim.record.binned import Floats
from kvsim.record.labels import number, percent

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
VLLM_LLAMA = f"vllm serve {LLAMA} --max-model-len 8192"
H100 = "h100-sxm"


def mean(values: Floats) -> float:
    """The mean of some, of one at the least."""
    return float(np.mean(values))


def quantile(values: Floats, share: float) -> float:
    """The value that this share of them does not exceed, linear between neighbours."""
    return float(np.quantile(values, share))


def cell(name: str) -> Callable[[Any], str]:
    """What shows a row's figure or word of that name."""

    def shown(row: Any) -> str:
        value = getattr(row, name)
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, int):
            return f"{value:,}"
        return value if isinstance(value, str) else number(value)

    return shown


def share(name: str) -> Callable[[Any], str]:
    """What shows a row's share of that name as a percentage."""
    return lambda row: percent(getattr(row, name))


def times(a: float, b: float) -> str:
    """How many times ``b`` is in ``a``."""
    return f"{number(a / b)} times"
