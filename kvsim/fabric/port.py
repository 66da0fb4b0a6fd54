"""Ports of memory devices: transfers take them one after the other, and their times are known when they are booked."""

from __future__ import annotations

from collections.abc import Sequence


class Port:
    """What one direction of a device, or a device that does one thing at a time, is busy with."""

    __slots__ = ("busy_s", "bytes_moved", "free_s", "name", "transfers", "waited_s")

    def __init__(self, name: str) -> None:
        self.name = name
        self.free_s = 0.0
        """When what was booked so far is done."""
        self.busy_s = self.waited_s = 0.0
        self.bytes_moved = 0.0
        self.transfers = 0


class Lane:
    """A way through a port, at a rate."""

    __slots__ = ("bytes_per_s", "latency_s", "port")

    def __init__(self, port: Port, bytes_per_s: float, latency_s: float = 0.0) -> None:
        self.port, self.bytes_per_s, self.latency_s = port, bytes_per_s, latency_s


Way = Sequence[Lane]
"""The lanes that a transfer occupies together."""


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
    start_s, end_s = starts_s(way, now_s), ends_s(way, now_s, num_bytes)
    for lane in way:
        port, lane_s = lane.port, num_bytes / lane.bytes_per_s
        port.free_s = start_s + lane_s
        port.busy_s += lane_s
        port.waited_s += start_s - now_s
        port.bytes_moved += num_bytes
        port.transfers += 1
    return end_s
