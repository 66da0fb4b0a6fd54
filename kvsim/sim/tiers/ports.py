"""Ports of memory devices, the routes through them, and what is on its way there.

Either ports serve transfers in turn: then their times are known when they are booked, by what is here. Or transfers
share them: ``kvsim.sim.tiers.transfers``.
"""

from __future__ import annotations

from typing import Final

from kvsim.sim.clock import Timer
from kvsim.sim.network.jitter import Jitter


class Port:
    """One direction of a device, or a device that does one thing at a time: what it is busy with."""

    __slots__ = (
        "busy_s",
        "bytes_moved",
        "free_s",
        "lone",
        "name",
        "queues",
        "shared",
        "transfers",
        "waited_s",
    )

    def __init__(self, name: str, *, queues: bool = True) -> None:
        """``queues``: whether transfers hold each other up."""
        self.name, self.queues = name, queues
        self.free_s = 0.0
        """When what was booked so far is done; endless while transfers get less than they could take."""
        self.busy_s = self.waited_s = 0.0
        self.bytes_moved = 0.0
        self.transfers = 0
        self.lone: SharedTransfer | None = None
        """Shared: who was alone here until ``free_s``."""
        self.shared: dict[SharedTransfer, float] = {}
        """Otherwise: who is here, and the seconds of the port that a byte of it takes."""


class Channel:
    """A port at a rate: bytes/s, and seconds of latency."""

    __slots__ = ("bytes_per_s", "jitter", "latency_s", "port")

    def __init__(self, port: Port, bytes_per_s: float, latency_s: float = 0.0, jitter: Jitter | None = None) -> None:
        """``jitter``: of a network; nobody expects it, and each transfer has its own."""
        self.port, self.bytes_per_s, self.latency_s, self.jitter = port, bytes_per_s, latency_s, jitter


Route = tuple[Channel, ...]
"""The channels that a transfer occupies together."""


class Watcher:
    """Somebody who wants to know when transfers will have arrived."""

    def retimed(self) -> None:
        """Take note that one of them arrives at another time than was known."""
        raise NotImplementedError


class Transfer:
    """Some bytes on one route."""

    __slots__ = ("arrives_s",)

    def __init__(self, arrives_s: float) -> None:
        self.arrives_s = arrives_s
        """Time at which, by what is known now, its last byte has come; seconds."""

    def watch(self, watcher: Watcher) -> None:
        """Let ``watcher`` know of other times from now on; in turn there are none."""


class SharedTransfer(Transfer):
    """A transfer that shares ports with others."""

    __slots__ = (
        "end_s",
        "factor",
        "latency_s",
        "left_bytes",
        "num_bytes",
        "others",
        "rate",
        "route",
        "seconds",
        "since_s",
        "start_s",
        "timer",
        "watcher",
    )

    def __init__(self, route: Route, num_bytes: float, start_s: float) -> None:
        super().__init__(start_s)
        self.route, self.num_bytes, self.start_s = route, num_bytes, start_s
        self.factor = 1.0
        """Jitter: how much longer it takes on channels that have one."""
        self.seconds = 0.0
        """Seconds that it takes alone, without latency."""
        self.latency_s = 0.0
        self.end_s = start_s
        """Time at which, by what is known now, it leaves its ports; seconds."""
        self.left_bytes = self.rate = self.since_s = 0.0
        """Held up: what was left at ``since_s``, and its bytes per second from there on."""
        self.timer: Timer | None = None
        self.watcher: Watcher | None = None
        self.others: list[Watcher] = _NO_WATCHERS

    def watch(self, watcher: Watcher) -> None:
        if self.watcher is None:
            self.watcher = watcher
        else:
            self.others = [*self.others, watcher]


_NO_WATCHERS: Final[list[Watcher]] = []


_KNUTH: Final = 2654435761


class Routes:
    """How one instance reaches a device, in either direction."""

    __slots__ = ("_read", "_write", "spreads")

    def __init__(self, read: Route, write: Route) -> None:
        self._read, self._write = read, write
        self.spreads = False
        """Whether chains take different routes."""

    def read(self, chain: int) -> Route:
        """The route of a transfer. ``chain``: what it carries, by which one of many devices is chosen."""
        return self._read

    def write(self, chain: int) -> Route:
        return self._write

    def farthest(self) -> Route:
        """The route from whichever of the devices is farthest."""
        return self._read


class Spread:
    """One direction of devices over which what is stored is spread, as one instance reaches them."""

    __slots__ = ("_devices", "_far", "_near", "_near_end", "_near_first", "_own", "_own_route", "_uplinks")

    def __init__(
        self,
        devices: list[Channel],
        own: int,
        own_channel: Channel,
        near: range,
        channels: tuple[Channel, Channel],
        uplinks: tuple[Channel, list[Channel]] | None = None,
    ) -> None:
        """``own``: the device that is reached directly, over ``own_channel``. ``channels``: what is occupied on the
        route to the others in ``near``, and to those beyond; to these also ``uplinks``, of one's own group and of each
        device's.
        """
        self._devices, self._own, self._own_route, self._uplinks = devices, own, (own_channel,), uplinks
        self._near_first, self._near_end = near.start, near.stop
        self._near, self._far = channels

    def route(self, chain: int) -> Route:
        """Chunks of a chain on one device, chains on all of them (Knuth's multiplicative hash)."""
        number = chain if chain >= 0 else -chain
        return self._to((number * _KNUTH >> 7) % len(self._devices))

    def farthest(self) -> Route:
        """The route to a device beyond those that are near, else to one that is not one's own, where there are any."""
        ends = (0, len(self._devices) - 1)
        far = [device for device in ends if not self._near_first <= device < self._near_end]
        return self._to((far or [device for device in ends if device != self._own] or [self._own])[0])

    def _to(self, device: int) -> Route:
        if device == self._own:
            return self._own_route
        if self._near_first <= device < self._near_end:
            return (self._near, self._devices[device])
        if self._uplinks is not None:
            own, others = self._uplinks
            return (self._far, own, others[device], self._devices[device])
        return (self._far, self._devices[device])


class SpreadRoutes(Routes):
    """How one instance reaches devices over which what is stored is spread."""

    __slots__ = ("_reads", "_writes")

    def __init__(self, reads: Spread, writes: Spread) -> None:
        super().__init__((), ())
        self.spreads = True
        self._reads, self._writes = reads, writes

    def read(self, chain: int) -> Route:
        return self._reads.route(chain)

    def write(self, chain: int) -> Route:
        return self._writes.route(chain)

    def farthest(self) -> Route:
        return self._reads.farthest()


def ends_s(route: Route, now_s: float, num_bytes: float) -> float:
    """In turn: when a transfer booked now would have arrived."""
    done_s, latency_s = now_s, 0.0
    for channel in route:
        latency_s += channel.latency_s
        free_s = channel.port.free_s
        channel_s = (free_s if free_s > now_s else now_s) + num_bytes / channel.bytes_per_s
        if channel_s > done_s:
            done_s = channel_s
    return done_s + latency_s


def book(route: Route, now_s: float, num_bytes: float) -> float:
    """In turn: let it happen; returns when it will have arrived, all latencies after the last of its ports is done.

    Each port serves what it is asked for in order, and none waits for another: bytes are passed on as they come. So a
    transfer that its own channel keeps slow takes no more of a fast port than its bytes.
    """
    done_s, seconds, latency_s = now_s, 0.0, 0.0
    for channel in route:
        port, channel_s, channel_latency_s = channel.port, num_bytes / channel.bytes_per_s, channel.latency_s
        if channel.jitter is not None:
            factor = channel.jitter.factor()
            channel_s *= factor
            channel_latency_s *= factor
        latency_s += channel_latency_s
        if channel_s > seconds:
            seconds = channel_s
        port_done_s = (port.free_s if port.free_s > now_s else now_s) + channel_s
        if port.queues:
            port.free_s = port_done_s
        if port_done_s > done_s:
            done_s = port_done_s
        port.busy_s += channel_s
        port.bytes_moved += num_bytes
        port.transfers += 1
    waited_s = done_s - now_s - seconds
    if waited_s > 0:
        for channel in route:
            channel.port.waited_s += waited_s
    return done_s + latency_s
