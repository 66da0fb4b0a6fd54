"""Requests that go to LoRA adapters: which one, and that prefixes of different adapters have nothing in common.

vLLM puts the adapter's name into the hash of every block (``_gen_lora_extra_hash_keys``): equal tokens under two
adapters are two prefixes. Here they are chains of their own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kvsim.workload.traffic import Traffic
from kvsim.workload.workload import Ints, Workload


def adapter_of(workload: Workload, count: int) -> Ints:
    """One of ``count`` for each request, evenly, and the same for all of a session; by its number, whatever else there
    is."""
    rows = np.arange(len(workload), dtype=np.int64)
    known = workload.session_id >= 0
    keys = np.where(known, workload.session_id, rows)
    found: Ints = (_mixed(keys.astype(np.uint64)) % np.uint64(count)).astype(np.int64)
    return found


def _mixed(keys: np.ndarray) -> np.ndarray:
    """Steele et al., Fast Splittable Pseudorandom Number Generators: the finaliser of SplitMix64."""
    with np.errstate(over="ignore"):
        mixed = (keys + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def adapted(workload: Workload, count: int) -> Workload:
    """``workload`` with each request at one of ``count`` adapters."""
    if count == 1:
        return workload
    adapter = adapter_of(workload, count)
    of_piece = np.repeat(adapter, np.diff(workload.piece_offsets))
    return replace(
        workload,
        piece_chain=_apart(workload.piece_chain, of_piece, count),
        output_chain=_apart(workload.output_chain, adapter, count),
        adapter=adapter.astype(np.int32),
        info=workload.info.noted(
            f"requests, or sessions, go to {count} LoRA adapters, which share no prefix: other notes are of one adapter"
        ),
    )


def _apart(chain: Ints, adapter: Ints, count: int) -> Ints:
    """Chains of one request alone stay what they are."""
    found: Ints = np.where(chain >= 0, chain * count + adapter, chain)
    return found


class AdaptedTraffic:
    """Traffic whose requests go to adapters."""

    def __init__(self, traffic: Traffic, count: int) -> None:
        self._traffic, self._count = traffic, count

    @property
    def most_requests(self) -> int | None:
        return self._traffic.most_requests

    def population(self) -> Workload:
        return adapted(self._traffic.population(), self._count)

    def copies_at(self, requests_per_s: float) -> int | None:
        return self._traffic.copies_at(requests_per_s)

    def sample(self, requests_per_s: float, num_requests: int, copies: int | None, seed: int) -> Workload:
        return adapted(self._traffic.sample(requests_per_s, num_requests, copies, seed), self._count)

    def part(self, requests_per_s: float, num_requests: int, copies: int | None, seed: int) -> Workload:
        return adapted(self._traffic.part(requests_per_s, num_requests, copies, seed), self._count)
