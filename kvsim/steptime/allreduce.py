"""What GPUs of an instance pay to sum the hidden states of a step."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from kvsim.spec import GpuSpec

ACTIVATION_BYTES = 2
"""Hidden states are 16-bit whatever the weights are."""

PCIE_DEGREES = ((2, 1.0, 1.0), (4, 2.5, 5.2), (8, 4.7, 9.8))
"""Without NVLink: GPUs of an all-reduce, and how many times as long as two they wait, and take for a byte that each
moves; measured on L40S (AIConfigurator's tables of vLLM 0.14)."""

Tokens = TypeVar("Tokens", float, npt.NDArray[np.float64])


class AllReduceLinks(NamedTuple):
    """How fast GPUs reach each other: over NVLink, or where a GPU has none over PCIe."""

    nvlink_latency_s: float
    """Seconds of a whole all-reduce, however many take part: a switch adds the values up."""
    nvlink_share: float
    """Share of the data sheet's bandwidth that is achieved."""
    pcie_latency_s: float
    """Seconds of a whole all-reduce of two GPUs."""
    pcie_bytes_per_s: float
    """What each of two GPUs moves."""


class AllReduce(NamedTuple):
    """One all-reduce: linear in the tokens of the step."""

    latency_s: float
    s_per_token: float

    def seconds(self, tokens: Tokens) -> Tokens:
        return self.latency_s + tokens * self.s_per_token


def allreduce(gpu: GpuSpec, hidden_size: int, degree: int, links: AllReduceLinks) -> AllReduce:
    """An all-reduce of hidden states among ``degree`` GPUs.

    A ring moves 2 (n - 1) / n of the bytes over each GPU's link. Without NVLink more than two of them go through the
    host (``PCIE_DEGREES``).
    """
    moved_bytes = hidden_size * ACTIVATION_BYTES * 2 * (degree - 1) / degree
    if gpu.has_nvlink:
        bytes_per_s = gpu.interconnect_bytes_per_s * links.nvlink_share
        return AllReduce(links.nvlink_latency_s, moved_bytes / bytes_per_s)
    degrees, waits, slower = zip(*PCIE_DEGREES, strict=True)
    latency_s = links.pcie_latency_s * float(np.interp(degree, degrees, waits)) * max(1.0, degree / degrees[-1])
    return AllReduce(latency_s, moved_bytes * float(np.interp(degree, degrees, slower)) / links.pcie_bytes_per_s)
