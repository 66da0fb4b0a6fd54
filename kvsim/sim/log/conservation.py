"""Counting requests in and out, and the laws that a finished run must obey."""

from __future__ import annotations

import math

import numpy as np

from kvsim.record.detail import HELD, Detail
from kvsim.record.result import COMPONENTS, Check, Table
from kvsim.sim.network.network import Network

_TOLERANCE_S = 1e-9
_ROUNDING = 1e-14
"""Relative rounding of sums of a dozen times."""
_TOLERANCE_BYTES = 1.0


class RequestCounts:
    """Requests in, done and failed, and the number in the system integrated over time."""

    def __init__(self) -> None:
        self.arrived = self.completed = self.failed = 0
        self.population_s = 0.0
        """The integral of the number of requests in the system."""
        self.failed_s = 0.0
        """How long those that failed were in the system, together."""
        self._since_s = 0.0

    @property
    def in_flight(self) -> int:
        return self.arrived - self.completed - self.failed

    def arrive(self, now_s: float) -> None:
        self._integrate(now_s)
        self.arrived += 1

    def complete(self, now_s: float) -> None:
        self._integrate(now_s)
        self.completed += 1

    def fail(self, now_s: float, arrival_s: float) -> None:
        self._integrate(now_s)
        self.failed += 1
        self.failed_s += now_s - arrival_s

    def _integrate(self, now_s: float) -> None:
        self.population_s += (self.arrived - self.completed - self.failed) * (now_s - self._since_s)
        self._since_s = now_s


class KvBooks:
    """KV that decode instances need for prompts, request by request: what moved there, and what was there before."""

    __slots__ = ("found_bytes", "left_blocks", "needed_bytes", "wrong_bytes")

    def __init__(self) -> None:
        self.needed_bytes = self.found_bytes = 0.0
        self.wrong_bytes = 0.0
        """By how much what is needed and what is found differ, summed over requests."""
        self.left_blocks = 0
        """Blocks that reservations which were cancelled left as cached, though their KV never came."""

    def land(self, needed_bytes: float, found_bytes: float) -> None:
        """Book a prompt whose KV has all come: how much was needed, and how much has moved or could be hit there."""
        self.needed_bytes += needed_bytes
        self.found_bytes += found_bytes
        self.wrong_bytes += abs(needed_bytes - found_bytes)


def kv_checks(books: KvBooks) -> list[Check]:
    """KV of prompts: nothing is used that has neither moved nor been there."""
    ok = books.wrong_bytes <= _TOLERANCE_BYTES + 1e-9 * books.needed_bytes
    law = "KV of prompts at decode instances, bytes needed = moved + there already, request by request"
    return [
        Check(law, books.needed_bytes, books.found_bytes, ok),
        exact("blocks that cancelled transfers left in caches", 0, books.left_blocks),
    ]


def network_checks(network: Network, sent_bytes: float) -> list[Check]:
    """Bytes of a network that has drained; ``sent_bytes``: those of all requests, by their own books."""
    arrived_bytes = network.bytes_received + network.bytes_in_air
    checks = [_close("bytes sent, by request = received + in the air, over the links", sent_bytes, arrived_bytes)]
    if network.bytes_in_air < 0.5:
        checks.append(_close("bytes asked of the links = carried by them", network.work_asked, network.work_done))
    return checks


def request_checks(table: Table, counts: RequestCounts) -> list[Check]:
    """Requests, prompt tokens, the sum of TTFT's parts, and Little's law (where nobody is left in flight)."""
    done = len(table["arrival_s"])
    ttft_s = table["first_token_s"] - table["arrival_s"]
    parts_s = sum((table[name] for name in COMPONENTS), np.zeros(done))
    # Parts are differences of times since the beginning, which long runs know less exactly.
    tolerance_s = max(_TOLERANCE_S, _ROUNDING * float(table["first_token_s"].max(initial=0.0)))
    worst_gap_s = float(np.abs(parts_s - ttft_s).max()) if done else 0.0
    least_part_s = float(min((table[name].min() for name in COMPONENTS), default=0.0)) if done else 0.0
    covered = table["hit_tokens"] + table["loaded_tokens"] + table["computed_tokens"]
    uncovered = float(np.abs(table["prompt_tokens"] - covered).sum())
    checks = [
        exact("requests in = done + failed + in flight", counts.arrived, done + counts.failed + counts.in_flight),
        exact("prompt tokens = hit + loaded + computed, over all requests", 0, uncovered),
        Check("largest |TTFT - sum of its parts|, s", 0.0, worst_gap_s, worst_gap_s <= tolerance_s),
        Check("smallest part of a TTFT, s", 0.0, least_part_s, least_part_s >= 0.0),
    ]
    if not counts.in_flight:
        sojourn_s = float((table["finish_s"] - table["arrival_s"]).sum()) + counts.failed_s
        ok = math.isclose(sojourn_s, counts.population_s, rel_tol=1e-9, abs_tol=1e-6)
        law = "Little's law: integral of N(t) = sum of sojourn times, s"
        checks.append(Check(law, sojourn_s, counts.population_s, ok))
    return checks


def detail_checks(detail: Detail, busy_s: float, held_block_s: float, output_tokens: float | None) -> list[Check]:
    """What was kept of the steps against the run's own books.

    ``output_tokens``: of all requests, where all are complete and nobody gave one up.
    """
    steps = detail.steps
    checks = [
        _near(
            "seconds of steps kept = seconds that steps ran", busy_s, float((steps["end_s"] - steps["start_s"]).sum())
        ),
        _near("block-seconds kept, over bins = blocks held over time", held_block_s, float(detail.levels[HELD].sum())),
    ]
    if output_tokens is not None:
        tokens = float(steps["output_tokens"].sum())
        checks.append(exact("output tokens, by request = by step", output_tokens, tokens))
    return checks


def exact(name: str, expected: float, found: float) -> Check:
    return Check(name, float(expected), float(found), expected == found)


def _close(name: str, expected: float, found: float) -> Check:
    return Check(name, expected, found, math.isclose(expected, found, rel_tol=1e-9, abs_tol=1.0))


def _near(name: str, expected: float, found: float) -> Check:
    return Check(name, expected, found, math.isclose(expected, found, rel_tol=1e-9, abs_tol=1e-9))
