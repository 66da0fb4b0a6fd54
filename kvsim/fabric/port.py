"""Ports of memory devices: transfers take them one after the other, and their times are known when they are booked."""

from __future__ import annotations

from typing import Final

from kvsim.fabric.jitter import Jitter


class Port:
    """What one direction of a device, or a device that does one thing at a time, is busy with."""

    __slots__ = ("busy_s", "bytes_moved", "free_s", "is_network", "name", "queues", "transfers", "waited_s")

    def __init__(self, name: str) -> None:
        self.name = name
        self.free_s = 0.0
        """When what was booked so far is done."""
        self.busy_s = self.waited_s = 0.0
        self.bytes_moved = 0.0
        self.transfers = 0
        self.queues = True
        """Whether transfers wait for those before them."""
        self.is_network = False
        """It serves others while a transfer waits for a device; what it is booked for is done without a pause."""


class Lane:
    """A way through a port, at a rate."""

    __slots__ = ("bytes_per_s", "jitter", "latency_s", "port")

    def __init__(
        self, port: Port, bytes_per_s: float, latency_s: float = 0.0, jitter: Jitter | None = None
    ) -> None:
        """``jitter``: of a network; nobody expects it, and each transfer has its own."""
        self.port, self.bytes_per_s, self.latency_s, self.jitter = port, bytes_per_s, latency_s, jitter


Way = tuple[Lane, ...]
"""The lanes that a transfer occupies together."""


_KNUTH: Final = 2654435761


class Ways:
    """How one instance reaches a device, in either direction."""

    __slots__ = ("_read", "_write", "spreads")

    def __init__(self, read: Way, write: Way) -> None:
        self._read, self._write = read, write
        self.spreads = False
        """Whether chains go different ways."""

    def read(self, chain: int) -> Way:
        """The way of a transfer. ``chain``: what it carries, by which one of many devices is chosen."""
        return self._read

    def write(self, chain: int) -> Way:
        return self._write

    def farthest(self) -> Way:
        """From whichever of the devices is farthest."""
        return self._read


class Spread:
    """One direction of devices over which what is stored is spread, as one instance reaches them."""

    __slots__ = ("_devices", "_far", "_near", "_near_end", "_near_first", "_own", "_own_way", "_uplinks")

    def __init__(
        self,
        devices: list[Lane],
        own: int,
        own_lane: Lane,
        near: range,
        lanes: tuple[Lane, Lane],
        uplinks: tuple[Lane, list[Lane]] | None = None,
    ) -> None:
        """``own``: the device that is reached directly, over ``own_lane``. ``lanes``: what is occupied on the way to
        the others in ``near``, and to those beyond; to these also ``uplinks``, of one's own group and of each device's.
        """
        self._devices, self._own, self._own_way, self._uplinks = devices, own, (own_lane,), uplinks
        self._near_first, self._near_end = near.start, near.stop
        self._near, self._far = lanes

    def way(self, chain: int) -> Way:
        """Chunks of a chain on one device, chains on all of them (Knuth's multiplicative hash)."""
        number = chain if chain >= 0 else -chain
        return self._to((number * _KNUTH >> 7) % len(self._devices))

    def farthest(self) -> Way:
        """To a device beyond those that are near, else to one that is not one's own, where there are any."""
        ends = (0, len(self._devices) - 1)
        far = [device for device in ends if not self._near_first <= device < self._near_end]
        return self._to((far or [device for device in ends if device != self._own] or [self._own])[0])

    def _to(self, device: int) -> Way:
        if device == self._own:
            return self._own_way
        if self._near_first <= device < self._near_end:
            return (self._near, self._devices[device])
        if self._uplinks is not None:
            own, others = self._uplinks
            return (self._far, own, others[device], self._devices[device])
        return (self._far, self._devices[device])


class SpreadWays(Ways):
    """How one instance reaches devices over which what is stored is spread."""

    __slots__ = ("_reads", "_writes")

    def __init__(self, reads: Spread, writes: Spread) -> None:
        super().__init__((), ())
        self.spreads = True
        self._reads, self._writes = reads, writes

    def read(self, chain: int) -> Way:
        return self._reads.way(chain)

    def write(self, chain: int) -> Way:
        return self._writes.way(chain)

    def farthest(self) -> Way:
        return self._reads.farthest()


def starts_s(way: Way, now_s: float) -> float:
    """When a transfer booked now would begin: once all ports of its way are free."""
    start_s = now_s
    for lane in way:
        if lane.port.free_s > start_s:
            start_s = lane.port.free_s
    return start_s


def ends_s(way: Way, now_s: float, num_bytes: float) -> float:
    """When a transfer booked now would have arrived: at the rate of the slowest lane, and all latencies later."""
    seconds = latency_s = 0.0
    for lane in way:
        latency_s += lane.latency_s
        lane_s = num_bytes / lane.bytes_per_s
        if lane_s > seconds:
            seconds = lane_s
    return starts_s(way, now_s) + seconds + latency_s


def book(way: Way, now_s: float, num_bytes: float) -> float:
    """Let it happen; returns when it will have arrived. A port is free again once its own rate has moved the bytes."""
    return book_from(way, starts_s(way, now_s), now_s, num_bytes)


def book_from(way: Way, start_s: float, now_s: float, num_bytes: float) -> float:
    """The same where ``starts_s`` has been asked already."""
    seconds = latency_s = 0.0
    for lane in way:
        port, lane_s, lane_latency_s = lane.port, num_bytes / lane.bytes_per_s, lane.latency_s
        if lane.jitter is not None:
            factor = lane.jitter.factor()
            lane_s *= factor
            lane_latency_s *= factor
        latency_s += lane_latency_s
        if lane_s > seconds:
            seconds = lane_s
        if port.queues:
            port.free_s = (max(port.free_s, now_s) if port.is_network else start_s) + lane_s
        port.busy_s += lane_s
        port.waited_s += start_s - now_s
        port.bytes_moved += num_bytes
        port.transfers += 1
    return start_s + seconds + latency_s
