"""What arithmetic rules out, each with its reason: bounds alone, so that nothing is ruled out that could win."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from kvsim.recommend.bounds import Asked, Bounds, bounds_of
from kvsim.recommend.candidates import Arguments, Candidate, Counts, Family
from kvsim.recommend.slo import Slo
from kvsim.recommend.space import Space
from kvsim.record.labels import number, percent

SLACK = 1.2
"""Step times by formula are near those by table within some percent, and a queue takes time to become too long: a
deployment is ruled out where what is asked is above what it can do by more than that."""

OF_SERVERS = ("memory", "heads", "GPUs", "refused")
"""Reasons that keep a kind of server from being built, in whatever number; the others are counted by candidate."""
REASONS = {
    "memory": "do not fit the memory of their GPUs",
    "heads": "have more GPUs an engine than the model's heads divide among",
    "GPUs": "take more GPUs than there are",
    "refused": "are refused by the engine",
    "KV room": "have a KV cache that too many requests do not fit",
    "TTFT floor": "miss the limit of TTFT with one request alone",
    "TPOT floor": "miss the limit of TPOT with one request alone",
    "E2E floor": "miss the limit of E2E with one request alone",
    "rate": "cannot serve the rate, whatever they cache",
}
"""Why candidates are ruled out, in words that follow their number."""
_OF_ONE = {
    "memory": "does not fit the memory of its GPUs",
    "heads": "has more GPUs an engine than the model's heads divide among",
    "GPUs": "takes more GPUs than there are",
    "refused": "is refused by the engine",
    "KV room": "has a KV cache that too many requests do not fit",
    "TTFT floor": "misses the limit of TTFT with one request alone",
    "TPOT floor": "misses the limit of TPOT with one request alone",
    "E2E floor": "misses the limit of E2E with one request alone",
    "rate": "cannot serve the rate, whatever it caches",
}
_CANDIDATES = ("candidate", "candidates")


@dataclass(frozen=True)
class Pruned:
    """What was ruled out for one reason."""

    reason: str
    number: int
    """How many kinds of servers, or candidates."""
    example: str
    """One of them, with figures."""

    @property
    def sentence(self) -> str:
        one, several = ("kind of server", "kinds of servers") if self.reason in OF_SERVERS else _CANDIDATES
        what, words = (one, _OF_ONE[self.reason]) if self.number == 1 else (several, REASONS[self.reason])
        return f"{self.number:,} {what} {words}: {self.example}"


class Pruner:
    """Rules candidates out, and counts why."""

    def __init__(self, space: Space, asked: Asked, slo: Slo) -> None:
        self._space, self._asked, self._slo = space, asked, slo
        self._bounds: dict[tuple[Family, Arguments], Bounds] = {}
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def bounds(self, family: Family, arguments: Arguments) -> Bounds:
        """What a server of this kind can do at the best. Raises a ``KvsimError`` where it cannot be built."""
        key = family, arguments
        if key not in self._bounds:
            plan = self._space.plan(self._space.smallest(family, arguments))
            self._bounds[key] = bounds_of(plan, self._asked, self._slo, is_pd=family.is_pd)
        return self._bounds[key]

    def most_per_s(self, candidate: Candidate) -> float:
        """Requests/s that a candidate can serve at the best."""
        found, counts = self.bounds(candidate.family, candidate.arguments), candidate.counts
        if not candidate.family.is_pd:
            return counts[0] * found.prefill_per_s
        return min(counts[0] * found.prefill_per_s, counts[1] * found.decode_per_s)

    def why(self, family: Family, arguments: Arguments) -> tuple[str, str] | None:
        """Why no number of such servers can keep the SLO, at any rate; ``None``: some may."""
        found, wanted = self.bounds(family, arguments), self._slo.share
        name = f"{family.system} {family.degrees}, {arguments.words}"
        if found.fitting_share < wanted:
            return "KV room", f"{name}: {percent(found.fitting_share)} of requests fit"
        if found.ttft_floor_ms > SLACK * self._slo.ttft_ms:
            return "TTFT floor", f"{name}: {number(found.ttft_floor_ms)} ms"
        if found.tpot_floor_ms > SLACK * self._slo.tpot_ms:
            return "TPOT floor", f"{name}: {number(found.tpot_floor_ms)} ms"
        if self._slo.e2e_ms is not None and found.e2e_floor_ms > SLACK * self._slo.e2e_ms:
            return "E2E floor", f"{name}: {number(found.e2e_floor_ms)} ms"
        return None

    def too_slow(self, candidate: Candidate, rate_per_s: float) -> str | None:
        """Why a candidate cannot serve the rate; ``None``: it may."""
        most = self.most_per_s(candidate)
        if rate_per_s <= SLACK * most:
            return None
        return f"{candidate.name}: at most {number(most)} requests/s"

    def note(self, reason: str, example: str) -> None:
        """Count what is ruled out."""
        self.counts[reason] += 1
        self.examples.setdefault(reason, example)

    def found(self) -> tuple[Pruned, ...]:
        """What was ruled out, by reason."""
        return tuple(
            Pruned(reason, self.counts[reason], self.examples[reason]) for reason in REASONS if self.counts[reason]
        )

    def floors(self) -> dict[str, float]:
        """The least of each limit that any kind of server takes for the wanted share of requests, milliseconds; of E2E
        where it has a limit."""
        every = list(self._bounds.values())
        found = {"TTFT": min(one.ttft_floor_ms for one in every), "TPOT": min(one.tpot_floor_ms for one in every)}
        return found if self._slo.e2e_ms is None else found | {"E2E": min(one.e2e_floor_ms for one in every)}


def splits_of(
    pruner: Pruner, family: Family, arguments: Arguments, total: int, rate_per_s: float, most: int
) -> list[Counts]:
    """The splits of ``total`` GPUs that may serve the rate, the ``most`` nearest to balance by arithmetic."""
    found = pruner.bounds(family, arguments)
    fast = [
        counts
        for counts in family.splits(total)
        if pruner.too_slow(Candidate(family, counts, arguments), rate_per_s) is None
    ]
    if len(fast) <= most:
        return fast

    def slower_side(counts: Counts) -> float:
        return min(counts[0] * found.prefill_per_s, counts[1] * found.decode_per_s)

    return sorted(sorted(fast, key=slower_side, reverse=True)[:most])
