"""The naive reference: a block pool and a scheduler as vLLM has them, one object a block and one list entry a request.

Nothing here is shared with kvsim: tokens are explicit, a block's hash is its parent's hash and its tokens.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple


class Block:
    """One KV block: how many hold it and what it is the hash of."""

    __slots__ = ("holders", "key")

    def __init__(self) -> None:
        self.holders = 0
        self.key: Hashable = None


class BlockPool:
    """The free queue as a list, head first. Blocks of equal content serve one after the other, the oldest first."""

    def __init__(self, num_blocks: int, *, caching: bool = True) -> None:
        self.free = [Block() for _ in range(num_blocks)]
        self.by_key: dict[Hashable, list[Block]] = {}
        self.evicted = 0
        self.duplicates = self.take_overs = 0
        self._caching = caching

    def match(self, keys: Iterable[Hashable]) -> list[Block]:
        found = []
        for key in keys:
            if not self._caching or key not in self.by_key:
                break
            found.append(self.by_key[key][0])
        return found

    def acquire(self, blocks: list[Block]) -> None:
        for block in blocks:
            if not block.holders:
                self.free.remove(block)
            block.holders += 1

    def take(self, count: int) -> list[Block]:
        taken = [self.free.pop(0) for _ in range(count)]
        for block in taken:
            self._forget(block)
            block.holders = 1
        return taken

    def cache(self, block: Block, key: Hashable) -> None:
        if not self._caching:
            return
        block.key = key
        self.duplicates += key in self.by_key
        self.by_key.setdefault(key, []).append(block)

    def release(self, blocks: list[Block]) -> None:
        for block in reversed(blocks):
            block.holders -= 1
            if block.holders:
                continue
            if block.key is None:
                self.free.insert(0, block)
            else:
                self.free.append(block)

    @property
    def num_cached_free(self) -> int:
        return sum(block.key is not None for block in self.free)

    def _forget(self, block: Block) -> None:
        if block.key is None:
            return
        self.evicted += 1
        same = self.by_key[block.key]
        self.take_overs += len(same) > 1 and same[0] is block
        same.remove(block)
        if not same:
            del self.by_key[block.key]
        block.key = None


@dataclass(eq=False)
class NaiveRequest:
    """All tokens it will ever have, prompt first; ``num_tokens`` of them are known so far."""

    request_id: int
    arrival: float
    tokens: list[Hashable]
    prompt_tokens: int
    priority: int = 0
    keys: list[Hashable] = field(default_factory=list)
    num_tokens: int = 0
    computed: int = 0
    blocks: list[Block] = field(default_factory=list)
    num_hashed: int = 0
    admissions: int = 0
    preemptions: int = 0
    unknown: int = 0
    """Asynchronous: tokens that scheduled steps will give."""

    def __post_init__(self) -> None:
        self.num_tokens = self.prompt_tokens

    @property
    def is_ending(self) -> bool:
        """Asynchronous: its last token is on its way."""
        return self.num_tokens + self.unknown == len(self.tokens)


class Output(NamedTuple):
    """A token on its way to a request, as of so many preemptions of it."""

    request: NaiveRequest
    preemptions: int


@dataclass
class Step:
    """What a scheduler decided for one step."""

    scheduled: list[tuple[int, int]]
    preempted: list[int]
    cached_at_admission: dict[int, int]
    free_before: int
    free_blocks: int
    running: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)


class NaiveScheduler:
    """vLLM's V1 scheduler, first come first served or by priority, request by request."""

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        max_num_batched_tokens: int,
        max_num_seqs: int,
        *,
        caching: bool = True,
        chunked: bool = True,
        threshold: int = 0,
        watermark_blocks: int = 0,
        reserve_whole: bool = True,
        by_priority: bool = False,
        asynchronous: bool = False,
    ) -> None:
        self.pool = BlockPool(num_blocks, caching=caching)
        self.block_size, self.budget, self.max_num_seqs = block_size, max_num_batched_tokens, max_num_seqs
        self.chunked, self.threshold, self.watermark_blocks = chunked, threshold, watermark_blocks
        self.reserve_whole, self.by_priority = reserve_whole, by_priority
        self.waiting: list[NaiveRequest] = []
        self.running: list[NaiveRequest] = []
        self.finished: list[NaiveRequest] = []
        self.hit_tokens = self.preemptions = self.limit = 0
        self._known: dict[Hashable, int] = {}
        self._scheduled: list[tuple[NaiveRequest, int]] = []
        self._asynchronous = asynchronous
        self.in_flight: list[Output] = []

    def submit(self, request: NaiveRequest) -> None:
        parent = -1
        size = self.block_size
        for start in range(0, len(request.tokens) // size * size, size):
            content = (parent, *request.tokens[start : start + size])
            parent = self._known.setdefault(content, len(self._known))
            request.keys.append(parent)
        self._queue(request, len(self.waiting))

    def _queue(self, request: NaiveRequest, place: int) -> None:
        self.waiting.insert(place, request)
        if self.by_priority:
            self.waiting.sort(key=lambda waiting: (waiting.priority, waiting.arrival, waiting.request_id))

    def step(self) -> Step:
        """Schedule one step, compute it, and give tokens."""
        free_before = len(self.pool.free)
        preempted: list[NaiveRequest] = []
        self._scheduled = []
        self.limit = self.threshold if len(self.running) + len(self.waiting) > 1 else 0
        left = self._schedule_running(preempted)
        cached: dict[int, int] = {}
        if not preempted:
            self._admit(left, cached)
        step = Step(
            [(request.request_id, tokens) for request, tokens in self._scheduled],
            [request.request_id for request in preempted],
            cached,
            free_before,
            len(self.pool.free),
            [request.request_id for request in self.running],
            [request.request_id for request in self.waiting],
        )
        outputs = self._advance()
        if self._asynchronous:
            outputs, self.in_flight = self.in_flight, outputs
        self._apply(outputs)
        return step

    def _schedule_running(self, preempted: list[NaiveRequest]) -> int:
        left = self.budget
        index = 0
        while index < len(self.running):
            request = self.running[index]
            tokens = 0 if request.is_ending else request.num_tokens + request.unknown - request.computed
            if 0 < self.limit < tokens:
                tokens = self.limit
            tokens = min(tokens, left)
            if not tokens:
                index += 1
                continue
            while self._new_blocks(request, tokens) > len(self.pool.free):
                victim = self.running[-1]
                if self.by_priority:
                    victim = max(self.running, key=lambda running: (running.priority, running.arrival))
                index -= self.running.index(victim) < index
                self.running.remove(victim)
                self._preempt(victim)
                preempted.append(victim)
                left += sum(given for scheduled, given in self._scheduled if scheduled is victim)
                self._scheduled = [entry for entry in self._scheduled if entry[0] is not victim]
                if victim is request:
                    return left
            self._allocate(request, tokens)
            left -= tokens
            index += 1
        return left

    def _preempt(self, victim: NaiveRequest) -> None:
        self.pool.release(victim.blocks)
        victim.blocks, victim.num_hashed, victim.computed, victim.unknown = [], 0, 0, 0
        victim.preemptions += 1
        self.preemptions += 1
        self._queue(victim, 0)

    def _admit(self, left: int, cached: dict[int, int]) -> None:
        size = self.block_size
        while self.waiting and left and len(self.running) < self.max_num_seqs:
            request = self.waiting[0]
            hits = self.pool.match(request.keys[: (request.num_tokens - 1) // size])
            evictable = sum(not block.holders for block in hits)
            reserve = self.watermark_blocks if self.running else 0
            tokens = request.num_tokens - len(hits) * size
            if 0 < self.limit < tokens:
                tokens = self.limit
            if tokens > left:
                if not self.chunked:
                    return
                tokens = left
            whole = request.num_tokens if self.reserve_whole else len(hits) * size + tokens
            if -(-whole // size) - len(hits) + evictable + reserve > len(self.pool.free):
                return
            self.waiting.pop(0)
            self.running.append(request)
            self.pool.acquire(hits)
            request.blocks, request.num_hashed = hits, len(hits)
            request.computed = len(hits) * size
            if not request.admissions:
                cached[request.request_id] = request.computed
                self.hit_tokens += request.computed
            request.admissions += 1
            self._allocate(request, tokens)
            left -= tokens

    def _new_blocks(self, request: NaiveRequest, tokens: int) -> int:
        return -(-(request.computed + tokens) // self.block_size) - len(request.blocks)

    def _allocate(self, request: NaiveRequest, tokens: int) -> None:
        request.blocks = request.blocks + self.pool.take(self._new_blocks(request, tokens))
        self._hash(request, min(request.computed + tokens, request.num_tokens))
        self._scheduled.append((request, tokens))

    def _hash(self, request: NaiveRequest, tokens: int) -> None:
        full = tokens // self.block_size
        for index in range(request.num_hashed, full):
            self.pool.cache(request.blocks[index], request.keys[index])
        request.num_hashed = max(request.num_hashed, full)

    def _advance(self) -> list[Output]:
        """The tokens that the step will give."""
        outputs = []
        for request, tokens in self._scheduled:
            request.computed += tokens
            if request.computed == request.num_tokens + request.unknown:
                request.unknown += 1
                outputs.append(Output(request, request.preemptions))
        return outputs

    def _apply(self, outputs: list[Output]) -> None:
        """A token for each; one of before a preemption counts as well, but what it stood on is gone."""
        for request, preemptions in outputs:
            request.num_tokens += 1
            if preemptions == request.preemptions:
                request.unknown -= 1
                if self._asynchronous:
                    self._hash(request, request.computed - request.unknown)
            if request.num_tokens == len(request.tokens):
                self.pool.release(request.blocks)
                (self.running if request in self.running else self.waiting).remove(request)
                self.finished.append(request)


def run_in_unit_steps(scheduler: NaiveScheduler, requests: list[NaiveRequest]) -> list[Step]:
    """Serve ``requests``, in order of arrival, with steps of one time unit, empty ones of none."""
    steps = []
    now, index = 0.0, 0
    while index < len(requests) or scheduler.waiting or scheduler.running:
        if not (scheduler.waiting or scheduler.running):
            now = max(now, requests[index].arrival)
        while index < len(requests) and requests[index].arrival <= now:
            scheduler.submit(requests[index])
            index += 1
        steps.append(scheduler.step())
        now += 1.0 if steps[-1].scheduled else 0.0
    return steps
