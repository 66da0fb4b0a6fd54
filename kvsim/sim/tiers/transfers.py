"""Transfers of bytes through ports: each port serves concurrent transfers in turn, or they share it max-min fairly.

Where they share, a transfer that nobody can hold up costs no event: its end is known, and who comes to one of its ports
later looks whether it has passed. Only those on a port of which more is wanted than there is have an event where they
leave, at which others are given new rates.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final

from kvsim.sim.clock import Clock, Timer
from kvsim.sim.network.max_min import fair_rates
from kvsim.sim.tiers.ports import Channel, Port, Route, SharedTransfer, Transfer, book, ends_s

_SLACK: Final = 1 + 1e-9
"""Sums of shares round; this much more than all of a port is rounding."""


class Transfers:
    """All transfers through a system's ports."""

    __slots__ = ("_clock", "_shares")

    def __init__(self, clock: Clock, *, shares: bool) -> None:
        """``shares``: else ports serve transfers in turn."""
        self._clock, self._shares = clock, shares

    def start(self, route: Route, num_bytes: float) -> Transfer:
        """Let bytes leave now."""
        now = self._clock.now
        return self._start(route, num_bytes, now) if self._shares else Transfer(book(route, now, num_bytes))

    def _start(self, route: Route, num_bytes: float, now: float) -> SharedTransfer:
        transfer = SharedTransfer(route, num_bytes, now)
        seconds = latency_s = 0.0
        is_alone = True
        for channel in route:
            port, channel_s, channel_latency_s = channel.port, num_bytes / channel.bytes_per_s, channel.latency_s
            if channel.jitter is not None:
                transfer.factor = factor = channel.jitter.factor()
                channel_s *= factor
                channel_latency_s *= factor
            latency_s += channel_latency_s
            if channel_s > seconds:
                seconds = channel_s
            port.busy_s += channel_s
            port.bytes_moved += num_bytes
            port.transfers += 1
            if port.free_s > now:
                is_alone = False
            elif port.shared:
                port.shared.clear()
        transfer.seconds, transfer.latency_s = seconds, latency_s
        transfer.end_s = end_s = now + seconds
        transfer.arrives_s = end_s + latency_s
        if is_alone:
            for channel in route:
                if channel.port.queues:
                    channel.port.free_s, channel.port.lone = end_s, transfer
        else:
            self._join(transfer, now)
        return transfer

    def backlog_s(self, route: Route) -> float:
        """Seconds that a transfer which came now would be held up on its route by others, at most."""
        backlog_s, now = 0.0, self._clock.now
        for channel in route:
            port = channel.port
            if port.free_s > now:
                port_s = port_backlog_s(port, now) if self._shares else port.free_s - now
                if port_s > backlog_s:
                    backlog_s = port_s
        return backlog_s

    def ends_s(self, route: Route, num_bytes: float) -> float:
        """When a transfer that came now would have arrived, if no more followed; shared, at the latest.

        Nobody expects jitter.
        """
        now = self._clock.now
        if not self._shares:
            return ends_s(route, now, num_bytes)
        seconds = latency_s = 0.0
        for channel in route:
            latency_s += channel.latency_s
            channel_s = num_bytes / channel.bytes_per_s
            port = channel.port
            if port.free_s > now:
                channel_s += min(port_backlog_s(port, now), max(len(port.shared), 1) * channel_s)
            if channel_s > seconds:
                seconds = channel_s
        return now + seconds + latency_s

    def _join(self, transfer: SharedTransfer, now: float) -> None:
        """Let a transfer share ports with those that are there already."""
        for channel in transfer.route:
            port = channel.port
            if not port.queues:
                continue
            if port.free_s <= now:
                port.free_s, port.lone = transfer.end_s, transfer
                continue
            if port.lone is not None:
                port.shared[port.lone] = _weight_on(port.lone, port)
                port.lone = None
            port.shared[transfer] = _weight(transfer, channel)
            if transfer.end_s > port.free_s:
                port.free_s = transfer.end_s
        binds = False
        for channel in transfer.route:
            if channel.port.shared and _binds(channel.port, now):
                binds = True
                for other in list(channel.port.shared):
                    if other.timer is None:
                        self._share(other, now)
        if binds:
            self._rerate([transfer], now)

    def _share(self, transfer: SharedTransfer, now: float) -> None:
        """Note that a transfer may get less than it could take from now on: its end becomes an event."""
        transfer.rate = transfer.num_bytes / transfer.seconds
        left = transfer.num_bytes - transfer.rate * (now - transfer.start_s)
        transfer.left_bytes, transfer.since_s = max(left, 0.0), now
        for channel in transfer.route:
            port = channel.port
            if port.queues:
                port.shared[transfer] = _weight(transfer, channel)
                port.free_s, port.lone = math.inf, None
        self._set_timer(transfer)

    def _set_timer(self, transfer: SharedTransfer) -> None:
        if transfer.timer is not None:
            self._clock.cancel(transfer.timer)
        transfer.timer = self._clock.schedule(transfer.end_s, callback=partial(self._leave, transfer))

    def _leave(self, transfer: SharedTransfer, _: Timer) -> None:
        """Take a transfer whose last byte has left off its ports; those it held back go faster."""
        now = self._clock.now
        waited_s = max(now - transfer.start_s - transfer.seconds, 0.0)
        held_back: dict[SharedTransfer, None] = {}
        for channel in transfer.route:
            port = channel.port
            port.waited_s += waited_s
            if not port.queues:
                continue
            if _binds(port, now):
                held_back.update(dict.fromkeys(port.shared))
            del port.shared[transfer]
            port.free_s = max([other.end_s if other.timer is None else math.inf for other in port.shared], default=now)
        transfer.timer = None
        held_back.pop(transfer, None)
        if held_back:
            self._rerate(list(held_back), now)

    def _rerate(self, seeds: list[SharedTransfer], now: float) -> None:
        """New rates for the transfers that ``seeds`` are connected with through ports that can bind."""
        known: dict[SharedTransfer, None] = dict.fromkeys(seeds)
        found = list(seeds)
        places: dict[Port, int] = {}
        for transfer in found:
            for channel in transfer.route:
                port = channel.port
                if not port.queues or port in places or not _binds(port, now):
                    continue
                places[port] = len(places)
                for other in port.shared:
                    if other not in known:
                        known[other] = None
                        found.append(other)
        limits = [transfer.num_bytes / transfer.seconds for transfer in found]
        if places:
            paths = [[channel.port for channel in transfer.route if channel.port in places] for transfer in found]
            weights = [[port.shared[transfer] for port in path] for transfer, path in zip(found, paths, strict=True)]
            numbers = [[places[port] for port in path] for path in paths]
            limits = fair_rates(numbers, limits, dict.fromkeys(places.values(), 1.0), weights)
        for place, transfer in enumerate(found):
            if limits[place] != transfer.rate:
                self._set_rate(transfer, limits[place], now)

    def _set_rate(self, transfer: SharedTransfer, rate: float, now: float) -> None:
        left = 0.0
        if now < transfer.end_s:
            left = max(transfer.left_bytes - transfer.rate * (now - transfer.since_s), 0.0)
        transfer.left_bytes, transfer.since_s, transfer.rate = left, now, rate
        transfer.end_s = now + left / rate
        transfer.arrives_s = transfer.end_s + transfer.latency_s
        self._set_timer(transfer)
        if transfer.watcher is not None:
            transfer.watcher.retimed()
            for watcher in transfer.others:
                watcher.retimed()


def port_backlog_s(port: Port, now_s: float) -> float:
    """Seconds that a port still needs for what it has to move."""
    if port.free_s <= now_s:
        return 0.0
    lone = port.lone
    if lone is not None:
        return _weight_on(lone, port) * _left_bytes(lone, now_s)
    if not port.shared:
        return port.free_s - now_s
    return sum(weight * _left_bytes(transfer, now_s) for transfer, weight in port.shared.items())


def _left_bytes(transfer: SharedTransfer, now_s: float) -> float:
    if transfer.timer is None:
        return max(transfer.end_s - now_s, 0.0) * transfer.num_bytes / transfer.seconds
    return max(transfer.left_bytes - transfer.rate * (now_s - transfer.since_s), 0.0)


def _weight(transfer: SharedTransfer, channel: Channel) -> float:
    """Seconds of a channel's port that one byte takes."""
    return (1.0 if channel.jitter is None else transfer.factor) / channel.bytes_per_s


def _weight_on(transfer: SharedTransfer, port: Port) -> float:
    return next(_weight(transfer, channel) for channel in transfer.route if channel.port is port)


def _binds(port: Port, now_s: float) -> bool:
    """Whether those who share a port could take more than all of it; who has left it is forgotten."""
    wanted, gone = 0.0, False
    for transfer, weight in port.shared.items():
        if transfer.timer is None and transfer.end_s <= now_s:
            gone = True
        else:
            wanted += weight * transfer.num_bytes / transfer.seconds
    if gone:
        for transfer in [one for one in port.shared if one.timer is None and one.end_s <= now_s]:
            del port.shared[transfer]
    return wanted > _SLACK
