"""Routers that people deploy, by their published cost functions.

They look at all instances for every prompt, as those they stand for do: choose ``affinity`` for thousands of them. What
is theirs is the arithmetic. They see the caches as ``routing.index_staleness_ms`` has them, and of loads what they have
sent themselves; metrics that are scraped, and trees that approximate caches, are taken to be as good.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kvsim.sim.draws import Draws
from kvsim.sim.routing.in_flight import InFlight
from kvsim.sim.routing.prefix_index import Path, PrefixIndex


class Overlaps:
    """What every instance has of a prompt, and one of several at random."""

    def __init__(
        self, in_flight: InFlight, index: PrefixIndex, block_size: int, generator: np.random.Generator
    ) -> None:
        self.in_flight, self.index, self.block_size = in_flight, index, block_size
        self._draws = Draws(generator)

    def blocks(self, path: Path, prompt_tokens: int) -> list[int]:
        """Blocks of the prompt's head that each instance has."""
        num = len(self.in_flight.requests)
        if path[0][0] < 0:
            return [0] * num
        limit = (prompt_tokens - 1) // self.block_size
        return [self.index.matched(instance, path, limit) for instance in range(num)]

    def sent(self, instance: int, prompt_tokens: int, blocks: Sequence[int]) -> int:
        """Announce the prompt to the books of that instance; returns it."""
        self.in_flight.announced_tokens = float(prompt_tokens - blocks[instance] * self.block_size)
        return instance

    def uniform(self) -> float:
        """A number from 0 to 1."""
        return self._draws.uniform()

    def highest(self, scores: Sequence[float]) -> int:
        """The instance with the highest score, of scores of those in service; one of equals at random."""
        most = max(scores)
        serving = self.in_flight.serving
        best = [serving[place] for place, score in enumerate(scores) if score == most]
        return best[0] if len(best) == 1 else best[int(self.uniform() * len(best))]


class Dynamo:
    """NVIDIA Dynamo's KV router: blocks of prompts to compute there, this one included, and blocks held there.

    ``cost = prefill_load_scale x max(0, (waiting tokens + prompt) / block - overlap_credit x overlap) + held blocks``,
    this request's included; the least cost, or at a temperature above 0 one at random, by a softmax of costs brought to
    0..1 (Dynamo 1.2, "Routing Concepts" and "Configuration and Tuning").
    """

    def __init__(
        self, overlaps: Overlaps, overlap_credit: float, prefill_load_scale: float, temperature: float
    ) -> None:
        self._overlaps = overlaps
        self._credit, self._scale, self._temperature = overlap_credit, prefill_load_scale, temperature

    def choose(self, path: Path, prompt_tokens: int, session_id: int) -> int:
        overlaps = self._overlaps
        books, size = overlaps.in_flight, overlaps.block_size
        blocks = overlaps.blocks(path, prompt_tokens)
        scores = []
        for instance in books.serving:
            to_compute = (books.waiting_tokens[instance] + prompt_tokens) / size - self._credit * blocks[instance]
            held = -(-(books.held_tokens[instance] + prompt_tokens) // size)
            scores.append(-(self._scale * max(0.0, to_compute) + held))
        chosen = overlaps.highest(scores) if self._temperature == 0 else self._drawn(scores)
        return overlaps.sent(chosen, prompt_tokens, blocks)

    def _drawn(self, scores: Sequence[float]) -> int:
        """One at random, with probability ``exp(score / temperature)`` of scores brought to 0..1."""
        low, high = min(scores), max(scores)
        if low == high:
            return self._overlaps.highest(scores)
        weights = [math.exp(((score - low) / (high - low) - 1) / self._temperature) for score in scores]
        left, serving = self._overlaps.uniform() * sum(weights), self._overlaps.in_flight.serving
        for place, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return serving[place]
        return serving[-1]


class LlmD:
    """llm-d's scheduler: a weighted sum of scores from 0 to 1, the highest wins, one of equals at random.

    The prefix cache's: the prompt's blocks that are there, over all of them. The queue's: ``(max - n) / (max - min)``
    of prompts that wait, 1 where all have as many. The KV cache's: 1 less the share of it that is held. The weights
    are those of its default profile (Gateway API inference extension, scorers of its endpoint picker).
    """

    def __init__(
        self, overlaps: Overlaps, prefix: float, queue: float, kv_cache: float, room_tokens: int | Sequence[int]
    ) -> None:
        """``room_tokens``: KV tokens that an instance has room for, or each has."""
        num = len(overlaps.in_flight.requests)
        self._overlaps = overlaps
        self._room_tokens = [room_tokens] * num if isinstance(room_tokens, int) else list(room_tokens)
        self._prefix, self._queue, self._kv_cache = prefix, queue, kv_cache

    def choose(self, path: Path, prompt_tokens: int, session_id: int) -> int:
        overlaps = self._overlaps
        books = overlaps.in_flight
        blocks = overlaps.blocks(path, prompt_tokens)
        all_blocks = max(1, prompt_tokens // overlaps.block_size)
        waiting = [books.waiting[instance] for instance in books.serving]
        longest, shortest = max(waiting), min(waiting)
        scores = []
        for instance in books.serving:
            waits = 1.0
            if longest > shortest:
                waits = (longest - books.waiting[instance]) / (longest - shortest)
            free = 1 - min(1.0, books.held_tokens[instance] / self._room_tokens[instance])
            scores.append(self._prefix * blocks[instance] / all_blocks + self._queue * waits + self._kv_cache * free)
        return overlaps.sent(overlaps.highest(scores), prompt_tokens, blocks)


class SglangCacheAware:
    """SGLang's ``cache_aware`` policy: whoever has most of the prompt, unless it has too little or loads are apart.

    Where the fullest has more than ``balance_abs`` requests over the emptiest, and more than ``balance_rel`` times as
    many, the emptiest. Else, where more than ``cache_threshold`` of the prompt is cached somewhere, whoever has most,
    one of equals at random (its tree keeps holders in no order); else whoever was sent the fewest new tokens so far
    (SGLang's router, and vLLM's, which is a fork of it).
    """

    def __init__(self, overlaps: Overlaps, cache_threshold: float, balance_abs: int, balance_rel: float) -> None:
        self._overlaps, self._threshold = overlaps, cache_threshold
        self._balance_abs, self._balance_rel = balance_abs, balance_rel
        self._recorded_tokens = [0.0] * len(overlaps.in_flight.requests)

    def choose(self, path: Path, prompt_tokens: int, session_id: int) -> int:
        overlaps = self._overlaps
        books = overlaps.in_flight
        serving = books.serving
        requests = [books.requests[instance] for instance in serving]
        blocks = overlaps.blocks(path, prompt_tokens)
        held = [float(blocks[instance]) for instance in serving]
        fullest, emptiest, most = max(requests), min(requests), max(held)
        if fullest - emptiest > self._balance_abs and fullest > self._balance_rel * emptiest:
            chosen = serving[requests.index(emptiest)]
        elif most * overlaps.block_size > self._threshold * prompt_tokens:
            chosen = overlaps.highest(held)
        else:
            recorded = [self._recorded_tokens[instance] for instance in serving]
            chosen = serving[recorded.index(min(recorded))]
        overlaps.sent(chosen, prompt_tokens, blocks)
        self._recorded_tokens[chosen] += books.announced_tokens
        return chosen
