"""Prefill/decode separation once more, by brute force: every block, every step, every change of a transfer's rate.

Nothing of kvsim is used. All NICs have one rate, requests take turns over the instances of either side.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import partial
from itertools import count
from operator import itemgetter

from block_by_block import NaiveRequest
from naive_instance import AFTERMATH, ARRIVAL, Instance, Setup


class Flow:
    """A prompt's KV on its way; ``ready`` and ``sent`` are tokens, what was there already counts as sent."""

    def __init__(self, source: Instance, prompt: NaiveRequest, sequence: NaiveRequest) -> None:
        self.source, self.prompt, self.sequence = source, prompt, sequence
        self.target: Instance | None = None
        self.ready = self.sent = 0
        self.moved_bytes = self.left_bytes = self.rate = 0.0
        self.is_complete = False


class Model:
    """Serves requests, in the order of their arrival, to the end."""

    def __init__(self, setup: Setup, requests: list[NaiveRequest]) -> None:
        self.setup, self.now, self._turns = setup, 0.0, count()
        self.first_s, self.finish_s, self.moved_bytes = ([0.0] * len(requests) for _ in range(3))
        self.sides = [[Instance(self, side, at) for at in range(num)] for side, num in enumerate(setup.num_instances)]
        self.flows: dict[int, Flow] = {}
        self.waiting: list[Flow] = []
        self.active: list[Flow] = []
        self.num_waits = self.num_cancelled = 0
        self._events: list[tuple[float, float, int, Callable[[], None]]] = []
        self._numbers = count()
        for request in requests:
            self.at(request.arrival, ARRIVAL, partial(self._arrive, request))
        while self._events or self.active:
            self._share()
            ends = [(self.now + max(0.0, flow.left_bytes / flow.rate), place) for place, flow in enumerate(self.active)]
            then_s, place = min(ends, default=(float("inf"), -1))
            if self._events and self._events[0][0] < then_s:
                then_s, _, _, happen = heapq.heappop(self._events)
            else:
                happen = partial(self._leave_links, self.active.pop(place))
            for flow in self.active:
                flow.left_bytes -= flow.rate * (then_s - self.now)
            self.now = then_s
            happen()

    def at(self, time_s: float, order: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time_s, order, next(self._numbers), happen))

    def _share(self) -> None:
        """Max-min: the link that has the least for each flow which still grows fixes their rate."""
        growing = list(self.active)
        left = {end: self.setup.nic_bytes_per_s for flow in growing for end in (flow.source, flow.target)}
        while growing:
            users = {link: [flow for flow in growing if link in (flow.source, flow.target)] for link in left}
            shares = [(left[link] / len(users[link]), link) for link in left if users[link]]
            share, link = min(shares, key=itemgetter(0))
            for flow in users[link]:
                flow.rate = share
                left[flow.source] -= share
                left[flow.target] -= share
                growing.remove(flow)

    def _sequence(self, request: NaiveRequest, more_tokens: int) -> NaiveRequest:
        known_tokens, tokens, size = request.prompt_tokens + more_tokens, request.tokens, self.setup.block_size
        keys = [tuple(tokens[:end]) for end in range(size, len(tokens) + 1, size)]
        return NaiveRequest(request.request_id, request.arrival, tokens, known_tokens, keys=keys)

    def _arrive(self, request: NaiveRequest) -> None:
        instance = self.sides[0][request.request_id % len(self.sides[0])]
        instance.waiting.append(self._sequence(request, 0))
        instance.wake()

    def computed(self, source: Instance, prompt: NaiveRequest) -> None:
        number, is_complete = prompt.request_id, prompt.computed == prompt.num_tokens
        if number not in self.flows and (is_complete or self.setup.overlaps):
            sequence = self._sequence(prompt, int(self.setup.forwards_first_token))
            flow = self.flows[number] = Flow(source, prompt, sequence)
            if self.waiting or not self._reserve(flow):
                self.waiting.append(flow)
                self.num_waits += 1
        if number in self.flows:
            self.flows[number].ready, self.flows[number].is_complete = prompt.computed, is_complete
            self._send(self.flows[number])

    def _reserve(self, flow: Flow) -> bool:
        target = self.sides[1][next(self._turns) % len(self.sides[1])]
        present_tokens = target.reserve(flow.sequence)
        if present_tokens is not None:
            flow.target, flow.sent = target, present_tokens
        return present_tokens is not None

    def _send(self, flow: Flow) -> None:
        if flow.target is None:
            return
        num_bytes = max(0, flow.ready - flow.sent) * self.setup.token_bytes
        flow.sent = max(flow.sent, flow.ready)
        flow.moved_bytes += num_bytes
        if flow in self.active:
            flow.left_bytes += num_bytes
        elif num_bytes:
            flow.left_bytes = num_bytes
            self.active.append(flow)
        else:
            self._leave_links(flow)

    def _leave_links(self, flow: Flow) -> None:
        flow.left_bytes = 0.0
        if flow.is_complete:
            landing_s = self.setup.landing_s if flow.moved_bytes else 0.0
            self.at(self.now + landing_s, ARRIVAL, partial(self._landed, flow))

    def _landed(self, flow: Flow) -> None:
        number, target, sequence = flow.prompt.request_id, flow.target, flow.sequence
        self.moved_bytes[number] += flow.moved_bytes
        flow.source.pool.release(flow.prompt.blocks)
        flow.source.wake()
        target._hash(sequence, sequence.computed)
        if self.setup.forwards_first_token:
            self.first_s[number] = self.now
        if sequence.is_ending:
            target.pool.release(sequence.blocks)
            target.wake()
            self.generated(target, sequence)
        else:
            target.arrived.append(sequence)
            target.wake()

    def generated(self, target: Instance, sequence: NaiveRequest) -> None:
        number = sequence.request_id
        self.first_s[number] = self.first_s[number] or self.now
        if sequence.is_ending:
            self.finish_s[number] = self.now
            del target.reservations[sequence]
            self.at(self.now, AFTERMATH, self._retry)

    def withdraw(self, instance: Instance, victim: NaiveRequest) -> None:
        """A sequence is preempted; a prompt gives its place on the other side back."""
        instance.decoding.discard(victim)
        instance.reservations[victim] = 0
        flow = None if instance.side else self.flows.pop(victim.request_id, None)
        if flow is None:
            return
        if flow.target is None:
            self.waiting.remove(flow)
        else:
            self.num_cancelled += 1
            flow.target.pool.release(flow.sequence.blocks)
            flow.target.wake()
            del flow.target.reservations[flow.sequence]
            self.moved_bytes[victim.request_id] += flow.moved_bytes - flow.left_bytes
            self.active = [other for other in self.active if other is not flow]
        self.at(self.now, AFTERMATH, self._retry)

    def _retry(self) -> None:
        while self.waiting and self._reserve(self.waiting[0]):
            self._send(self.waiting.pop(0))
