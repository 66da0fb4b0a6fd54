"""KV on its way between instances, over links that concurrent transfers share.

A stream alone on its links is one event: its end is known, and whoever comes to a link later looks whether it has
passed. Only streams that share have an event where they leave the links, at which others are given new rates.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from kvsim.sim.clock import Clock, Timer
from kvsim.sim.network.bookings import Booking, Bookings
from kvsim.sim.network.jitter import Jitter
from kvsim.sim.network.max_min import fair_rates
from kvsim.sim.network.stream import FirstPart, Stream, StreamOwner
from kvsim.sim.network.topology import Topology

CONTENTION = ("max_min", "fifo", "none")
_NO_STREAMS: Final[list[Stream]] = []
"""No streams: it stays empty."""
_SLACK: Final = 1 + 1e-9
"""Sums of bandwidths are kept up to date by adding and subtracting; this much more is rounding."""


class Network(StreamOwner):
    """All links, and the streams on them.

    ``max_min``: streams share their links max-min fairly. ``fifo``: a chunk has each link of its path to itself, in the
    order of the pushes. ``none``: streams do not see each other.
    """

    def __init__(
        self,
        clock: Clock,
        topology: Topology,
        contention: str,
        *,
        jitter: Jitter | None = None,
        descriptor_s: float = 0.0,
    ) -> None:
        """``descriptor_s``: what a descriptor takes on the links beside its bytes."""
        self._clock, self.topology, self._jitter = clock, topology, jitter
        self._shares = contention == "max_min"
        self._descriptor_s = descriptor_s
        self._capacity: list[float] = list(topology.capacity_bytes_per_s)
        num_links = topology.num_links
        self._flows: list[list[Stream]] = [_NO_STREAMS] * num_links
        """By link: its streams, in the order in which they came."""
        self._demand: list[float] = [0.0] * num_links
        """By link: the sum of its streams' line rates."""
        self._bookings = Bookings(self._capacity) if contention == "fifo" else None
        self._is_limited = False
        """Whether some link has ever carried another rate than at first."""
        self.carried: list[float] = [0.0] * num_links
        """By link: the integral of its rates, bytes of work."""
        self.work_asked = self.work_done = 0.0
        """Bytes of work of all streams, less what was cancelled; and the integral of their rates."""
        self.bytes_sent = self.bytes_received = 0.0
        self.rerated = 0
        """Streams looked at when rates were computed again."""

    @property
    def bytes_in_air(self) -> float:
        return self.bytes_sent - self.bytes_received

    def open(
        self,
        source: int,
        target: int,
        landed: Callable[[Stream], None],
        extra_latency_s: float = 0.0,
        first: FirstPart | None = None,
    ) -> Stream:
        """A stream from one instance to another; ``landed(stream)`` once its last chunk has arrived, and before that
        ``first.arrived(stream)`` once the first ``first.num_bytes`` have.
        """
        path = self.topology.path(source, target)
        line_bytes_per_s = self._capacity[path[0]]
        for link in path:
            if self._capacity[link] < line_bytes_per_s:
                line_bytes_per_s = self._capacity[link]
        factor = 1.0 if self._jitter is None else self._jitter.factor()
        latency_s = (self.topology.latency_s(source, target) + extra_latency_s) * factor
        stream = Stream(self, path, line_bytes_per_s, latency_s, factor, landed)
        if first is not None:
            stream.first_arrived = first.arrived
            stream.first_work = self._work(stream, first.num_bytes, first.descriptors)
        return stream

    def push(self, stream: Stream, num_bytes: float, last: bool, descriptors: int = 0) -> None:
        """Let ``num_bytes`` more leave from now on, after those before; ``last``: no more will follow."""
        if last:
            stream.last = True
        work = 0.0
        if num_bytes > 0:
            work = self._work(stream, num_bytes, descriptors)
            stream.sent_bytes += num_bytes
            stream.work += work
            self.work_asked += work
            self.bytes_sent += num_bytes
        if not stream.sent_bytes:
            if last:
                self._arrives(stream, self._clock.now)
        elif self._shares:
            self._push_sharing(stream, work)
        else:
            self._push_alone(stream, work)

    def busy_so_far_s(self, stream: Stream) -> float:
        """How long the stream has been on the links until now."""
        now = self._clock.now
        if self._bookings is not None:
            return stream.busy_s - self._bookings.left(stream, now) / stream.line_bytes_per_s
        if not self._shares:
            return stream.busy_s - max(0.0, stream.end_s - now)
        if not stream.active:
            return stream.busy_s
        return stream.busy_s + min(now, stream.end_s) - stream.since_s

    def cancel(self, stream: Stream) -> float:
        """Stop a stream; returns the bytes of it that have been moved, in vain."""
        if not self._shares:
            self._take_off(stream)
        elif stream.active:
            now = self._clock.now
            self._settle(stream, min(now, stream.end_s))
            self._leave(stream)
        self._clock.cancel(stream)
        stream.forget()
        moved_bytes = stream.sent_bytes
        if stream.work_left > 0:
            moved_bytes *= 1 - stream.work_left / stream.work
            self.work_asked -= stream.work_left
        self.bytes_sent -= stream.sent_bytes - moved_bytes
        self.bytes_received += moved_bytes
        return moved_bytes

    def limit(self, link: int, bytes_per_s: float) -> None:
        """A link carries so much from now on. Without sharing, chunks that have been pushed keep their rate."""
        if self._bookings is not None:
            self._bookings.keep(link)
        self._is_limited = True
        self._capacity[link] = bytes_per_s
        if not self._shares:
            return
        now = self._clock.now
        touched: dict[Stream, None] = {}
        for stream in list(self._flows[link]):
            if stream.lone and stream.end_s <= now:
                self._settle(stream, stream.end_s)
                self._remove(stream)
                continue
            line_bytes_per_s = min([self._capacity[each] for each in stream.path])
            for each in stream.path:
                touched.update(dict.fromkeys(self._flows[each]))
                self._demand[each] += line_bytes_per_s - stream.line_bytes_per_s
            stream.line_bytes_per_s = line_bytes_per_s
        if touched:
            self._rerate(list(touched))

    def utilisation(self, kind: str, end_s: float) -> float:
        """What all links of a kind (``topology.KINDS``) carried over what they could have until ``end_s``; 0..1."""
        links, nominal = self.topology.links(kind), self.topology.capacity_bytes_per_s
        could = sum(nominal[link] for link in links) * end_s
        return sum(self.carried[link] for link in links) / could if could > 0 else 0.0

    def rate(self, stream: Stream) -> float:
        """Bytes/s that a stream has of its links right now."""
        return stream.rate if stream.active and stream.end_s > self._clock.now else 0.0

    def _work(self, stream: Stream, num_bytes: float, descriptors: int) -> float:
        if descriptors and self._descriptor_s:
            num_bytes += descriptors * self._descriptor_s * stream.line_bytes_per_s
        return num_bytes * stream.factor

    def timed(self, stream: Stream) -> None:
        """See ``StreamOwner``."""
        if stream.drains:
            self._drain(stream)
        else:
            self._land(stream)

    def _arrives(self, stream: Stream, time_s: float) -> None:
        """The last of the stream is there at ``time_s``."""
        stream.drains = False
        self._clock.set(stream, time_s)

    def _land(self, stream: Stream) -> None:
        if stream.active:
            self._settle(stream, stream.end_s)
            self._remove(stream)
        self.bytes_received += stream.sent_bytes
        landed = stream.landed
        stream.forget()
        landed(stream)

    def _first(self, stream: Stream, _: Timer) -> None:
        if stream.first_arrived is not None:
            stream.first_arrived(stream)

    # Without sharing the end of a chunk is known when it is pushed, unless others are cancelled.

    def _push_alone(self, stream: Stream, work: float) -> None:
        booking: Booking | None = None
        if self._is_limited:
            stream.line_bytes_per_s = min([self._capacity[link] for link in stream.path])
        duration_s = work / stream.line_bytes_per_s
        if self._bookings is not None and work:
            booking = self._bookings.book(stream, work, self._clock.now)
            start_s = booking.start_s
        else:
            start_s = max(self._clock.now, stream.end_s)
            stream.end_s = start_s + duration_s
        for link in stream.path:
            self.carried[link] += work
        if stream.first_arrived is not None and stream.first_at_s < 0 and stream.work >= stream.first_work:
            into_s = (work - (stream.work - stream.first_work)) / stream.line_bytes_per_s
            if booking is not None:
                booking.into_s = into_s
            self._first_at(stream, start_s + into_s)
        self.work_done += work
        stream.busy_s += duration_s
        if stream.last:
            self._arrives(stream, stream.end_s + stream.latency_s)

    def _take_off(self, stream: Stream) -> None:
        """Take back what a stream has not moved yet; in turn, those behind it move up."""
        now, bookings = self._clock.now, self._bookings
        if bookings is None:
            stream.work_left = max(0.0, stream.end_s - now) * stream.line_bytes_per_s
        else:
            stream.work_left = bookings.left(stream, now)
        self.work_done -= stream.work_left
        for link in stream.path:
            self.carried[link] -= stream.work_left
        if bookings is None:
            return
        moved: dict[Stream, None] = {}
        for booking in bookings.cancel(stream, now):
            moved[booking.stream] = None
            if booking.into_s >= 0:
                self._first_at(booking.stream, booking.start_s + booking.into_s)
        for other in moved:
            if other.last:
                self._arrives(other, other.end_s + other.latency_s)

    # Max-min sharing.

    def _push_sharing(self, stream: Stream, work: float) -> None:
        now = self._clock.now
        if stream.active and stream.lone and stream.end_s <= now:
            self._settle(stream, stream.end_s)
            stream.since_s = now
        stream.work_left += work
        if stream.active:
            stream.end_s = stream.since_s + stream.work_left / stream.rate
            self._time(stream)
        elif work:
            stream.since_s = now
            self._enter(stream)
        elif stream.last:
            self._arrives(stream, now + stream.latency_s)

    def _enter(self, stream: Stream) -> None:
        now = self._clock.now
        stream.active = stream.lone = True
        for link in stream.path:
            flows = self._flows[link]
            if len(flows) == 1 and flows[0].lone:
                self._meet(flows[0], now)
                flows = self._flows[link]
            if flows:
                stream.lone = False
                flows.append(stream)
            else:
                self._flows[link] = [stream]
            self._demand[link] += stream.line_bytes_per_s
        if stream.lone:
            self._set_rate(stream, stream.line_bytes_per_s)
        else:
            self._rerate([stream])

    def _meet(self, stream: Stream, now: float) -> None:
        """Somebody comes to a link of a lone stream: either that one is gone already, or it is alone no more."""
        if stream.end_s <= now:
            self._settle(stream, stream.end_s)
            self._remove(stream)
        else:
            stream.lone = False
            self._time(stream)

    def _drain(self, stream: Stream) -> None:
        """A stream that shares leaves its links."""
        self._settle(stream, stream.end_s)
        self._leave(stream)
        if stream.last:
            self._arrives(stream, self._clock.now + stream.latency_s)

    def _leave(self, stream: Stream) -> None:
        """Take a stream off its links; those it held back go faster."""
        held_back: dict[Stream, None] = {}
        for link in stream.path:
            if self._binds(link):
                for other in self._flows[link]:
                    held_back[other] = None
        self._remove(stream)
        held_back.pop(stream, None)
        if held_back:
            self._rerate(list(held_back))

    def _remove(self, stream: Stream) -> None:
        stream.active = False
        stream.rate = 0.0
        for link in stream.path:
            flows = self._flows[link]
            if len(flows) > 1:
                flows.remove(stream)
                self._demand[link] -= stream.line_bytes_per_s
            else:
                self._flows[link] = _NO_STREAMS
                self._demand[link] = 0.0

    def _binds(self, link: int) -> bool:
        """Whether the streams of a link could want more than it has; else it limits nobody."""
        return self._demand[link] > self._capacity[link] * _SLACK

    def _rerate(self, seeds: list[Stream]) -> None:
        """New rates for the streams that ``seeds`` are connected with through links that can bind."""
        flows: dict[Stream, None] = dict.fromkeys(seeds)
        found = list(seeds)
        capacity: dict[int, float] = {}
        for stream in found:
            for link in stream.path:
                if link in capacity or not self._binds(link):
                    continue
                capacity[link] = self._capacity[link]
                for other in self._flows[link]:
                    if other not in flows:
                        flows[other] = None
                        found.append(other)
        self.rerated += len(found)
        rates = [stream.line_bytes_per_s for stream in found]
        if capacity:
            paths = [[link for link in stream.path if link in capacity] for stream in found]
            rates = fair_rates(paths, rates, capacity)
        for place, stream in enumerate(found):
            if rates[place] != stream.rate:
                self._set_rate(stream, rates[place])

    def _set_rate(self, stream: Stream, rate: float) -> None:
        now = self._clock.now
        if stream.rate:
            self._settle(stream, now)
        stream.rate = rate
        stream.since_s = now
        stream.end_s = now + stream.work_left / rate
        self._time(stream)

    def _settle(self, stream: Stream, until_s: float) -> None:
        """Book what the stream has moved until then."""
        moved = stream.work_left
        if until_s < stream.end_s:
            moved = min(moved, stream.rate * (until_s - stream.since_s))
        stream.work_left -= moved
        stream.busy_s += until_s - stream.since_s
        stream.since_s = until_s
        self.work_done += moved
        for link in stream.path:
            self.carried[link] += moved

    def _time(self, stream: Stream) -> None:
        """Set a timer to when the stream leaves its links, or where nobody else would know, to when it has arrived."""
        if not stream.lone:
            stream.drains = True
            self._clock.set(stream, stream.end_s)
        elif stream.last:
            self._arrives(stream, stream.end_s + stream.latency_s)
        else:
            self._clock.cancel(stream)
        if stream.first_arrived is not None:
            self._time_first(stream)

    def _time_first(self, stream: Stream) -> None:
        if 0 <= stream.first_at_s <= stream.since_s or stream.work < stream.first_work:
            return
        moved = stream.work - stream.work_left
        self._first_at(stream, stream.since_s + max(stream.first_work - moved, 0.0) / stream.rate)

    def _first_at(self, stream: Stream, time_s: float) -> None:
        """The head of a stream leaves the links at ``time_s``, not when it was to before."""
        stream.first_at_s = time_s
        if stream.first_timer is not None:
            self._clock.cancel(stream.first_timer)
        stream.first_timer = self._clock.schedule(time_s + stream.latency_s, callback=partial(self._first, stream))
