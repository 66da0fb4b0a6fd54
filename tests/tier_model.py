"""A second model of engines above tiers, from their description alone: slow, literal and independent of ``kvsim``.

Each instance computes one prompt at a time, in one step, which gives the only token of the answer. Rates of what moves
are found anew whenever something happens. Blocks and chunks are named after the prompt up to their ends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

Name, Ports = tuple[object, ...], list[tuple[object, float]]
BLOCK = 16


@dataclass
class Device:
    """Tiers of one kind. ``held``, by instance: what the one that it reaches has, the oldest use first. ``ports``: for
    ``read`` and ``write``, by instance, with bytes per second. ``by_chain``: each chain of a prompt moves by itself."""

    capacity: int
    ports: dict[str, list[Ports]]
    latency_s: float
    by_chain: bool
    held: list[OrderedDict[Name, None]]


@dataclass
class Prompt:
    number: int
    arrival_s: float
    pieces: tuple[tuple[int, int], ...]
    instance: int
    tokens: int
    looked_up: bool = False
    holds_known: bool = False
    known: int = 0
    loaded: int = 0
    first_token_s: float = -1.0

    def name(self, end: int) -> Name:
        found: list[object] = []
        for chain, count in self.pieces:
            if end > 0:
                found.append((chain if chain >= 0 else (self.number, chain), min(count, end)))
            end -= count
        return tuple(found)


@dataclass(eq=False)
class Move:
    """Bytes on their way, and what happens once they have come."""

    ports: Ports
    left: float
    latency_s: float
    then: list[Callable[[], None]] = field(default_factory=list)
    rate: float = 0.0
    came: bool = False

    def come(self) -> None:
        self.came = True
        for then in self.then:
            then()


class Model:
    def __init__(self, views: list[Device], chunk: int, token_bytes: float, token_s: float) -> None:
        self.views, self.chunk, self.token_bytes, self.token_s = views, chunk, token_bytes, token_s
        self.promotes = self.on_arrival = self.in_turn = False
        self.cached: list[set[Name]] = [set() for _ in views[0].held]
        self.waiting: list[list[Prompt]] = [[] for _ in views[0].held]
        self.busy, self.now, self.moves = [False for _ in views[0].held], 0.0, list[Move]()
        self.free_s: dict[object, float] = {}

    def run(self, prompts: list[Prompt]) -> None:
        self.events: list[tuple[float, Callable]] = [(one.arrival_s, partial(self.arrive, one)) for one in prompts]
        while self.events or self.moves:
            self.share()
            event = min(self.events, key=lambda event: event[0], default=(float("inf"), None))
            drains = [(self.now + move.left / move.rate, move) for move in self.moves]
            drain_s, drained = min(drains, key=lambda drain: drain[0], default=(float("inf"), None))
            before_s, self.now = self.now, min(drain_s, event[0])
            for move in self.moves:
                move.left -= move.rate * (self.now - before_s)
            if drained and drain_s <= event[0]:
                self.moves.remove(drained)
                self.events.append((self.now + drained.latency_s, drained.come))
            elif event[1]:
                self.events.remove(event)
                event[1]()

    def share(self) -> None:
        """All grow together; who is on a port that is full stops."""
        for move in self.moves:
            move.rate = 0.0
        growing, room = list(self.moves), {port: 1.0 for move in self.moves for port, _ in move.ports}
        while growing:
            takes = {port: sum(1 / rate for move in growing for p, rate in move.ports if p == port) for port in room}
            step = min(room[port] / takes[port] for port in room if takes[port])
            for move in growing:
                move.rate += step
            room = {port: room[port] - step * takes[port] for port in room}
            full = {port for port in room if room[port] < 1e-12}
            growing = [move for move in growing if not full & {port for port, _ in move.ports}]

    def arrive(self, prompt: Prompt) -> None:
        if not self.on_arrival or not self.load(prompt):
            self.waiting[prompt.instance].append(prompt)
        self.work(prompt.instance)

    def work(self, instance: int) -> None:
        """Compute the first prompt that waits and has nothing to load."""
        while self.waiting[instance] and not self.busy[instance]:
            prompt = self.waiting[instance].pop(0)
            if not (self.on_arrival or prompt.looked_up) and self.load(prompt):
                continue
            known = prompt.known if prompt.holds_known else self.hit(prompt)
            self.cached[instance] |= {prompt.name(end) for end in range(BLOCK, prompt.tokens + 1, BLOCK)}
            self.busy[instance] = True
            self.events.append((self.now + (prompt.tokens - known) * self.token_s, partial(self.computed, prompt)))

    def hit(self, prompt: Prompt) -> int:
        tokens, cached = 0, self.cached[prompt.instance]
        while tokens + BLOCK < prompt.tokens and prompt.name(tokens + BLOCK) in cached:
            tokens += BLOCK
        return tokens

    def computed(self, prompt: Prompt) -> None:
        """Touch what tiers have of it, from its end, and write the rest."""
        prompt.first_token_s = self.now
        for number, view in enumerate(self.views):
            held, ends = view.held[prompt.instance], range(self.chunk, prompt.tokens + 1, self.chunk)
            for name in [prompt.name(end) for end in reversed(ends) if prompt.name(end) in held]:
                held.move_to_end(name)
            self.write(number, prompt, [end for end in ends if prompt.name(end) not in held], [])
        self.busy[prompt.instance] = False
        self.work(prompt.instance)

    def load(self, prompt: Prompt) -> bool:
        """Whether anything of it is on its way now."""
        prompt.looked_up, known, found = True, self.hit(prompt), list[tuple[int, int, int, int]]()
        for end in range(known - known % self.chunk + self.chunk, (prompt.tokens - 1) // BLOCK * BLOCK + 1, self.chunk):
            name = prompt.name(end)
            who = [number for number, view in enumerate(self.views) if name in view.held[prompt.instance]]
            if not who:
                break
            found.append((who[0], len(name), max(known, end - self.chunk), end))
        loads = list[Move]()
        for number, segment in groupby(found, key=lambda part: part[0]):
            parts, reads = list(segment), []
            for _, chain in groupby(parts, key=lambda part: part[1] if self.views[part[0]].by_chain else 0):
                own = list(chain)
                reads.append(self.move(number, "read", prompt.instance, own[-1][3] - own[0][2]))
                reads[-1].then.append(partial(self.arrived, loads, prompt))
            loads += reads
            if self.promotes and number:
                self.write(0, prompt, [part[3] for part in parts], reads)
        prompt.known = found[-1][3] if found else known
        prompt.loaded = prompt.known - known
        return bool(found)

    def arrived(self, loads: list[Move], prompt: Prompt) -> None:
        if all(move.came for move in loads):
            self.cached[prompt.instance] |= {prompt.name(end) for end in range(BLOCK, prompt.known + 1, BLOCK)}
            self.waiting[prompt.instance].append(prompt)
            if not self.on_arrival:
                prompt.holds_known = True
                self.waiting[prompt.instance].sort(key=lambda other: other.arrival_s)
            self.work(prompt.instance)

    def move(self, number: int, route: str, instance: int, tokens: int) -> Move:
        view, num_bytes = self.views[number], tokens * self.token_bytes
        move = Move(view.ports[route][instance], num_bytes, view.latency_s)
        if self.in_turn:
            for port, rate in move.ports:
                self.free_s[port] = max(self.free_s.get(port, 0.0), self.now) + num_bytes / rate
            done_s = max(self.free_s[port] for port, _ in move.ports)
            self.events.append((done_s + view.latency_s, move.come))
        else:
            self.moves.append(move)
        return move

    def write(self, number: int, prompt: Prompt, ends: list[int], reads: list[Move]) -> None:
        """Chunks are there once they have been read where they are, and written."""
        view = self.views[number]
        for _, run in groupby(ends, key=lambda end: len(prompt.name(end)) if view.by_chain else 0):
            names = [prompt.name(end) for end in run]
            parts = [*reads, self.move(number, "write", prompt.instance, len(names) * self.chunk)]
            for part in parts:
                part.then.append(partial(self.store, view, view.held[prompt.instance], names, parts))

    def store(self, view: Device, held: OrderedDict[Name, None], names: list[Name], parts: list[Move]) -> None:
        for name in reversed(names if all(move.came for move in parts) else []):
            if name not in held and len(held) == view.capacity:
                held.popitem(last=False)
            held.setdefault(name)
