"""The deployments that are looked at: which system, which degrees and arguments, and how many servers of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvsim.sim.run import SystemName

Counts = tuple[int, int]
"""Prefill and decode servers; of a unified system: servers, and none."""


@dataclass(frozen=True, order=True)
class Family:
    """Deployments that differ in their size and in arguments of their engines alone."""

    system: SystemName
    prefill: int
    """GPUs of a prefill engine; of a unified system: of an engine."""
    decode: int
    data_parallel: int = 1
    """Engines of a mixture of experts that share its experts, each on so many GPUs: together they are one server."""

    @property
    def is_pd(self) -> bool:
        return self.system == "pd"

    @property
    def server_gpus(self) -> Counts:
        """GPUs of a prefill and of a decode server."""
        return self.prefill * self.data_parallel, self.decode * self.data_parallel

    def gpus(self, counts: Counts) -> int:
        """GPUs of so many servers."""
        prefill, decode = self.server_gpus
        return counts[0] * prefill + counts[1] * decode

    def totals(self, most: int) -> list[int]:
        """Every number of GPUs up to ``most`` that whole servers use up, and whole servers of the larger kind could."""
        prefill, decode = self.server_gpus
        step = max(prefill, decode)
        return list(range(step if not self.is_pd else -(-(prefill + decode) // step) * step, most + 1, step))

    @property
    def smallest(self) -> Counts:
        """The servers of the smallest such deployment."""
        prefill, decode = self.server_gpus
        step = max(prefill, decode)
        return next(self.splits(-(-(prefill + decode) // step) * step)) if self.is_pd else (1, 0)

    def splits(self, total: int) -> Iterator[Counts]:
        """The servers that use up ``total`` GPUs, the fewest prefill servers first."""
        prefill, decode = self.server_gpus
        if not self.is_pd:
            if total % prefill == 0:
                yield total // prefill, 0
            return
        for count in range(1, (total - decode) // prefill + 1):
            if (total - count * prefill) % decode == 0:
                yield count, (total - count * prefill) // decode

    @property
    def degrees(self) -> str:
        """Degrees in words."""
        data = f" x DP{self.data_parallel}" if self.data_parallel > 1 else ""
        if not self.is_pd or self.prefill == self.decode:
            return f"TP{self.prefill}{data}"
        return f"TP{self.prefill}+TP{self.decode}{data}"


@dataclass(frozen=True, order=True)
class Arguments:
    """What is tried of each engine and of the router before them."""

    max_num_batched_tokens: int
    max_num_seqs: int
    routing: str
    tiers: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        tiers = f", {'+'.join(self.tiers)}" if self.tiers else ""
        return f"budget {self.max_num_batched_tokens}, {self.max_num_seqs} seats, {self.routing}{tiers}"


@dataclass(frozen=True, order=True)
class Candidate:
    """One deployment."""

    family: Family
    counts: Counts
    arguments: Arguments

    @property
    def gpus(self) -> int:
        return self.family.gpus(self.counts)

    @property
    def routed(self) -> int:
        """Servers that a prompt's router chooses from; among the engines of one its own front end chooses."""
        return self.counts[0]

    @property
    def structure(self) -> str:
        """What runs where: ``2P+1D TP4``, ``4 x TP2``."""
        if self.family.is_pd:
            return f"{self.counts[0]}P+{self.counts[1]}D {self.family.degrees}"
        return f"{self.counts[0]} x {self.family.degrees}"

    @property
    def name(self) -> str:
        return f"{self.structure}, {self.arguments.words}"
