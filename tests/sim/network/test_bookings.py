"""Links that chunks have in turn, with streams that are cancelled, against queues that are looked at one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.sim.clock import Clock
from kvsim.sim.network.network import Network
from kvsim.sim.network.stream import FirstPart, Stream
from kvsim.sim.network.topology import Topology

NICS = [5.0, 10.0, 20.0, 10.0, 5.0]
LATENCY_S = 0.25
FIRST_BYTES = 30.0


@dataclass(eq=False)
class Chunk:
    stream: int
    path: tuple[int, ...]
    work: float
    rates: dict[int, float]
    start_s: float = -1.0

    def left_s(self, link: int) -> float:
        return self.start_s + self.work / self.rates[link]


@dataclass
class Queues:
    """Every link has a queue of chunks. The first chunk of a stream begins once it is at the head of all its links'
    queues, and leaves each as soon as that link has moved it; it is over when the slowest has. Links move it at the
    rates that they have when it is pushed.
    """

    capacity: list[float]
    landed_s: dict[int, float] = field(default_factory=dict)
    moved: dict[int, float] = field(default_factory=dict)
    """Bytes of streams, cancelled ones among them."""

    def run(self, events: list[tuple[float, int, tuple[int, ...], float]]) -> None:
        """``events``, in order: when a stream's next chunk comes to its path, without one when it is cancelled, and
        when link -1 - n carries so much from then on."""
        queues: list[list[Chunk]] = [[] for _ in self.capacity]
        live: list[Chunk] = []
        events = list(events)
        while events or live:
            times_s = [events[0][0]] if events else []
            for chunk in live:
                if chunk.start_s >= 0:
                    times_s += [chunk.left_s(link) for link in chunk.path if chunk in queues[link]]
            now = min(times_s)
            for chunk in list(live):
                for link in chunk.path if chunk.start_s >= 0 else ():
                    if chunk in queues[link] and chunk.left_s(link) <= now:
                        queues[link].remove(chunk)
                if not any(chunk in queues[link] for link in chunk.path):
                    live.remove(chunk)
                    self.moved[chunk.stream] = self.moved.get(chunk.stream, 0.0) + chunk.work
                    self.landed_s[chunk.stream] = now + LATENCY_S
            while events and events[0][0] <= now:
                _, stream, path, work = events.pop(0)
                if stream < 0:
                    self.capacity[-1 - stream] = work
                    continue
                if path:
                    live.append(Chunk(stream, path, work, {link: self.capacity[link] for link in path}))
                    for link in path:
                        queues[link].append(live[-1])
                    continue
                doomed = [chunk for chunk in live if chunk.stream == stream]
                if doomed or self.landed_s.get(stream, now) >= now:
                    self.landed_s.pop(stream, None)
                for chunk in doomed:
                    live.remove(chunk)
                    for link in chunk.path:
                        queues[link] = [other for other in queues[link] if other is not chunk]
                    if chunk.start_s >= 0:
                        line = min(chunk.rates.values())
                        self.moved[stream] = self.moved.get(stream, 0.0) + (now - chunk.start_s) * line
            for chunk in live:
                is_next = next(other for other in live if other.stream == chunk.stream) is chunk
                if chunk.start_s < 0 and is_next and all(queues[link][0] is chunk for link in chunk.path):
                    chunk.start_s = now


class Story:
    """Chunks pushed and streams cancelled at random, on a real network and on queues."""

    def __init__(self, rng: Random, cancels: float) -> None:
        num = len(NICS)
        racks = [0, 0, 0, 1, 1]
        topology = Topology(
            NICS, [100.0] * num, [0, 1, 2, 3, 3], racks,
            oversubscription=rng.choice([1.0, 2.0]), intra_rack_latency_s=LATENCY_S,
            cross_rack_latency_s=LATENCY_S, nvlink_latency_s=LATENCY_S,
        )  # fmt: skip
        self.network = Network(Clock(), topology, "fifo")
        self.clock = self.network._clock
        self.landed_s: dict[int, float] = {}
        self.first_s: dict[int, float] = {}
        self.moved: dict[int, float] = {}
        self.events: list[tuple[float, int, tuple[int, ...], float]] = []
        self.streams: list[Stream] = []
        self.cancelled: set[int] = set()
        for number in range(rng.randint(2, 12)):
            self._plan(rng, number, cancels)
        for _ in range(rng.choice([0, 0, 2])):
            link = rng.randrange(topology.num_links)
            carries = topology.capacity_bytes_per_s[link] * rng.choice([0.25, 1.0, 2.0])
            self.events.append((rng.uniform(0, 20), -1 - link, (), carries))
        self.events.sort(key=lambda event: event[0])
        last = {stream: place for place, (_, stream, path, _) in enumerate(self.events) if path}
        for place, event in enumerate(self.events):
            self.clock.schedule(event[0], callback=lambda _, e=event, p=place: self._happen(e, last.get(e[1]) == p))

    def _plan(self, rng: Random, number: int, cancels: float) -> None:
        source, target = rng.sample(range(len(NICS)), 2)
        path = self.network.topology.path(source, target)
        first = FirstPart(FIRST_BYTES, 0, lambda _: self.first_s.__setitem__(number, self.clock.now))
        landed = lambda stream: self._landed(number, stream)  # noqa: E731
        self.streams.append(self.network.open(source, target, landed, first=first))
        at_s = float(rng.randint(0, 12))
        for _ in range(rng.randint(1, 4)):
            self.events.append((at_s, number, path, rng.choice([10.0, 40.0, rng.uniform(0.1, 90)])))
            at_s += rng.choice([0.0, 1.0, rng.uniform(0, 6)])
        if rng.random() < cancels:
            self.cancelled.add(number)
            self.events.append((at_s + rng.choice([0.0, 2.0, rng.uniform(0, 20)]), number, (), 0.0))

    def _happen(self, event: tuple[float, int, tuple[int, ...], float], is_last: bool) -> None:
        _, number, path, work = event
        stream = self.streams[max(number, 0)]
        if number < 0:
            self.network.limit(-1 - number, work)
        elif path:
            self.network.push(stream, work, is_last)
        elif number not in self.landed_s:
            self.moved[number] = self.network.cancel(stream)

    def _landed(self, number: int, stream: Stream) -> None:
        self.landed_s[number] = self.clock.now
        self.moved[number] = stream.sent_bytes


@settings(max_examples=100, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([0.0, 0.3, 0.7]))
def test_cancelled_streams_leave_their_turns_to_those_behind(rng: Random, cancels: float) -> None:
    story = Story(rng, cancels)
    capacity = story.network.topology.capacity_bytes_per_s
    queues = Queues(list(capacity))
    queues.run(story.events)
    story.clock.run_to_stop()
    assert story.landed_s == pytest.approx(queues.landed_s, rel=1e-9)
    expected = {number: queues.moved.get(number, 0.0) for number in range(len(story.streams))}
    assert story.moved == pytest.approx(expected, rel=1e-9, abs=1e-9)
    network = story.network
    assert network.bytes_sent == pytest.approx(sum(queues.moved.values()), rel=1e-9, abs=1e-9)
    assert network.bytes_received == pytest.approx(network.bytes_sent, rel=1e-9, abs=1e-9)
    assert network.work_done == pytest.approx(network.work_asked, rel=1e-9, abs=1e-9)
    for link in range(network.topology.num_links):
        crossed = sum(story.moved[number] for number, stream in enumerate(story.streams) if link in stream.path)
        assert network.carried[link] == pytest.approx(crossed, rel=1e-9, abs=1e-6)


def test_those_behind_move_up_link_by_link() -> None:
    """0 to 1 has the NIC out of 0 for 10 s, and is cancelled after 4; 0 to 2 waits for it, and 3 to 2 for that one."""
    topology = Topology([10.0] * 4, [100.0] * 4, [0, 1, 2, 3], [0] * 4)
    network = Network(Clock(), topology, "fifo")
    ends_s: dict[str, float] = {}
    told = lambda name: lambda _: ends_s.__setitem__(name, network._clock.now)  # noqa: E731
    doomed = network.open(0, 1, told("doomed"))
    behind = network.open(0, 2, told("behind"), first=FirstPart(50.0, 0, told("head")))
    last = network.open(3, 2, told("last"))
    for stream in (doomed, behind, last):
        network.push(stream, 100.0, True)
    network._clock.schedule(4.0, callback=lambda _: ends_s.__setitem__("moved", network.cancel(doomed)))
    network._clock.run_to_stop()
    assert ends_s == {"moved": 40.0, "head": 9.0, "behind": 14.0, "last": 24.0}


@pytest.mark.parametrize("contention", ["fifo", "none"])
def test_what_has_not_left_yet_is_not_moved(contention: str) -> None:
    network = Network(Clock(), Topology([10.0] * 2, [100.0] * 2, [0, 1], [0] * 2), contention)
    stream = network.open(0, 1, lambda _: None)
    network.push(stream, 60.0, False)
    network.push(stream, 60.0, True)
    moved: list[float] = []
    network._clock.schedule(9.0, callback=lambda _: moved.append(network.cancel(stream)))
    network._clock.run_to_stop()
    assert moved == [pytest.approx(90.0)]
    assert network.carried == pytest.approx([90.0, 0.0, 0.0, 90.0, 0.0, 0.0, 0.0, 0.0])


def test_who_waits_for_a_link_is_not_on_it() -> None:
    network = Network(Clock(), Topology([10.0] * 3, [100.0] * 3, [0, 1, 2], [0] * 3), "fifo")
    streams = [network.open(0, target, lambda _: None) for target in (1, 2)]
    for stream in streams:
        network.push(stream, 100.0, True)
    busy_s: list[float] = []
    for time_s in (4.0, 13.0):
        network._clock.schedule(time_s, callback=lambda _: busy_s.extend(map(network.busy_so_far_s, streams)))
    network._clock.run_to_stop()
    assert busy_s == pytest.approx([4.0, 0.0, 10.0, 3.0])
