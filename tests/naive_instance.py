"""An instance of a separated system, by brute force: the naive scheduler with another end or another beginning.

Nothing of kvsim is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from block_by_block import NaiveRequest, NaiveScheduler

ARRIVAL, PREFILL, DECODE, AFTERMATH = range(4)  # the order of what happens at one instant


class Setup(NamedTuple):
    """Pairs are of the instances of either side."""

    num_instances: tuple[int, int]
    num_blocks: tuple[int, int]
    seats: tuple[int, int]
    budget_tokens: tuple[int, int]
    most_of_prompt: int
    block_size: int
    token_bytes: float
    nic_bytes_per_s: float
    landing_s: float  # from the last byte's leaving the links on, a pull's question included
    forwards_first_token: bool
    overlaps: bool
    reservation_tokens: int
    step_s: Callable[[int, int], float]  # of so many tokens, of which those that decode read so many tokens of KV


class Host(Protocol):
    """What an instance asks and tells."""

    setup: Setup
    now: float

    def at(self, time_s: float, order: float, happen: Callable[[], None]) -> None: ...

    def computed(self, source: Instance, prompt: NaiveRequest) -> None: ...

    def generated(self, target: Instance, sequence: NaiveRequest) -> None: ...

    def withdraw(self, instance: Instance, victim: NaiveRequest) -> None: ...


class Instance(NaiveScheduler):
    """``reservations``: up to which step room is kept for an answer, None before it has begun."""

    def __init__(self, host: Host, side: int, place: int) -> None:
        s, self.host, self.side, self.is_awake, self.steps = host.setup, host, side, False, 0
        self.order = PREFILL + side + place / 100  # of one side the first goes first, where steps end at one instant
        limits = s.num_blocks[side], s.block_size, s.budget_tokens[side], s.seats[side]
        super().__init__(*limits, threshold=s.most_of_prompt)
        self.arrived: list[NaiveRequest] = []
        self.decoding: set[NaiveRequest] = set()
        self.reservations: dict[NaiveRequest, int | None] = {}

    def wake(self) -> None:
        if not self.is_awake:
            self.is_awake = True
            self.host.at(self.host.now, self.order, self.begin)

    def begin(self) -> None:
        preempted = self._decide()
        while preempted and not self._scheduled:
            preempted = self._decide()
        self.is_awake = bool(self._scheduled)
        if self._scheduled:
            tokens = sum(tokens for _, tokens in self._scheduled)
            kv_tokens = sum(part.computed + 1 for part, _ in self._scheduled if part in self.decoding)
            self.host.at(self.host.now + self.host.setup.step_s(tokens, kv_tokens), self.order, self.end)

    def _decide(self) -> list[NaiveRequest]:
        preempted: list[NaiveRequest] = []
        self._scheduled = []
        self.limit = self.threshold if len(self.running) + len(self.waiting) + len(self.arrived) > 1 else 0
        left = self._schedule_running(preempted)
        for victim in preempted:
            self.host.withdraw(self, victim)
        while self.arrived and left and len(self.running) < self.max_num_seqs and not preempted:
            sequence = self.arrived.pop(0)
            self.running.append(sequence)
            self.decoding.add(sequence)
            self.reservations[sequence] = self.steps + self.host.setup.reservation_tokens
            self._allocate(sequence, 1)
            left -= 1
        if not preempted:
            self._admit(left, {})
        self.steps += bool(self._scheduled or preempted)
        return preempted

    def end(self) -> None:
        scheduled, outputs = self._scheduled, self._advance()
        if self.side:
            self._apply(outputs)
            self.decoding.update(output.request for output in outputs)
            for output in outputs:
                self.host.generated(self, output.request)
        else:
            self.running = [prompt for prompt in self.running if prompt.computed < prompt.num_tokens]
            for prompt, _ in scheduled:
                self.host.computed(self, prompt)
        self.begin()

    def reserve(self, sequence: NaiveRequest) -> int | None:
        """How many of its tokens are cached. The blocks of the others are not hashed before their KV has come."""
        size, reservation = self.block_size, self.host.setup.reservation_tokens
        hits = self.pool.match(sequence.keys[: (sequence.num_tokens - 1) // size])
        room = len(self.pool.free) - sum(not block.holders for block in hits)
        if self.running or None in self.reservations.values():
            kept = sum(reservation if end is None else max(0, end - self.steps) for end in self.reservations.values())
            room -= -(-(kept + reservation) // size)
        missing = -(-sequence.num_tokens // size) - len(hits)
        if missing > room:
            return None
        self.pool.acquire(hits)
        sequence.blocks, sequence.num_hashed = hits + self.pool.take(missing), len(hits)
        sequence.computed, self.reservations[sequence] = sequence.num_tokens - 1, None
        return len(hits) * size
