"""What GPUs of an instance pay to sum the hidden states of a step."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from kvsim.spec import GpuSpec

ACTIVATION_BYTES = 2
"""Hidden states are 16-bit whatever the weights are."""

Tokens = TypeVar("Tokens", float, npt.NDArray[np.float64])


class AllReduceLinks(NamedTuple):
    """How fast GPUs reach each other: over NVLink, or where a GPU has none over PCIe."""

    nvlink_latency_s: float
    """Seconds of a whole all-reduce, however many take part: a switch adds the values up."""
    nvlink_share: float
    """Share of the data sheet's bandwidth that is achieved."""
    pcie_latency_s: float
    """Seconds between two GPUs; a ring of n waits for n - 1 times as many hops."""
    pcie_bytes_per_s: float


class AllReduce(NamedTuple):
    """One all-reduce: linear in the tokens of the step."""

    latency_s: float
    s_per_token: float

    def seconds(self, tokens: Tokens) -> Tokens:
        return self.latency_s + tokens * self.s_per_token


def allreduce(gpu: GpuSpec, hidden_size: int, degree: int, links: AllReduceLinks) -> AllReduce:
    """An all-reduce of hidden states among ``degree`` GPUs.

    A ring moves 2 (n - 1) / n of the bytes over each GPU's link, in 2 (n - 1) hops.
    """
    moved_bytes = hidden_size * ACTIVATION_BYTES * 2 * (degree - 1) / degree
    if gpu.has_nvlink:
        bytes_per_s = gpu.interconnect_bytes_per_s * links.nvlink_share
        return AllReduce(links.nvlink_latency_s, moved_bytes / bytes_per_s)
    return AllReduce(links.pcie_latency_s * (degree - 1), moved_bytes / links.pcie_bytes_per_s)
