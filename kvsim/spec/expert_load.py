"""How unevenly tokens fall on the GPUs that experts are split over: the fullest one's share against the mean."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
PLACEMENTS = 256
"""Orders of the experts that are drawn where nobody knows which of them are popular: a mean of so many layers."""
_SEED = 20260000


@lru_cache(maxsize=64)
def power_law_factor(exponent: float, num_experts: int, redundant: int, gpus: int, *, rebalanced: bool) -> float:
    """The fullest GPU's tokens over the mean, where the n-th most popular expert gets n^-exponent of all.

    Each layer has its own order of the experts; the mean over ``PLACEMENTS`` of them. ``rebalanced``: whether experts
    are placed by their load, with ``redundant`` further copies.
    """
    shares = np.arange(1, num_experts + 1, dtype=np.float64) ** -exponent
    if rebalanced:
        return fullest_factor(rebalance(shares, num_experts + redundant, gpus))
    generator = np.random.default_rng(_SEED)
    orders = (generator.permutation(shares) for _ in range(PLACEMENTS))
    return float(np.mean([fullest_factor(in_order(order, gpus)) for order in orders]))


def measured_factor(shares: Sequence[float], redundant: int, gpus: int, *, rebalanced: bool) -> float:
    """The fullest GPU's tokens over the mean, where the experts, in their order, get so much each."""
    loads = np.array(shares, dtype=np.float64)
    return fullest_factor(rebalance(loads, len(loads) + redundant, gpus) if rebalanced else in_order(loads, gpus))


def fullest_factor(loads: Floats) -> float:
    """The largest load over the mean."""
    return float(loads.max() / loads.mean())


def in_order(shares: Floats, gpus: int) -> Floats:
    """Loads of GPUs that hold the first so many experts, the next so many, and so on: vLLM's ``linear`` placement.
    Where experts do not divide evenly the first GPUs hold one more."""
    return np.array([part.sum() for part in np.array_split(shares, gpus)])


def rebalance(shares: Floats, copies: int, gpus: int) -> Floats:
    """Loads of GPUs once experts are placed by load, ``copies`` in all: vLLM's EPLB where all GPUs are one host's.

    A further copy goes to the expert whose copies have most to do; then the heaviest copy goes to the GPU with the
    least, each GPU taking as many (DeepSeek's EPLB, ``replicate_experts`` and ``balanced_packing``).
    """
    shares, counts = np.sort(shares)[::-1], np.ones(len(shares))  # The order of the experts decides no tie.
    for _ in range(copies - len(shares)):
        counts[int(np.argmax(shares / counts))] += 1
    each = np.sort(np.repeat(shares / counts, counts.astype(np.int64)))[::-1]
    loads, held, most = np.zeros(gpus), np.zeros(gpus, dtype=np.int64), -(-copies // gpus)
    for load in each:
        place = int(np.argmin(np.where(held < most, loads, np.inf)))
        loads[place] += load
        held[place] += 1
    return loads
