"""A network with nothing around it: how long transfers take that begin at given times, whatever engines would do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from kvsim.plan.plan import Plan
from kvsim.sim.clock import Clock
from kvsim.sim.network.build_network import build_network
from kvsim.sim.network.network import Network
from kvsim.sim.network.stream import Stream


class Send(NamedTuple):
    """One transfer, all of whose bytes are there when it begins."""

    start_s: float
    source: int
    target: int
    """Instances of the PD system, in the order of ``Plan.places``."""
    num_bytes: float


def transfer_times_s(plan: Plan, sends: Sequence[Send], seed: int, request_latency_s: float = 0.0) -> list[float]:
    """From the first byte's leaving to the last one's arrival, seconds, one for each of ``sends``, which are in order.

    ``request_latency_s``: what each takes beside the network's own latency. Links, contention and jitter are those of
    the configuration.
    """
    clock = Clock()
    network = build_network(plan, clock, np.random.default_rng(seed))
    took_s = [0.0] * len(sends)
    for place, send in enumerate(sends):
        clock.schedule(send.start_s, callback=partial(_begin, clock, network, send, took_s, place, request_latency_s))
    clock.run_to_stop()
    return took_s


def _begin(
    clock: Clock, network: Network, send: Send, took_s: list[float], place: int, latency_s: float, _: object
) -> None:
    landed = partial(_landed, clock, send.start_s, took_s, place)
    stream = network.open(send.source, send.target, landed, latency_s)
    network.push(stream, send.num_bytes, True)


def _landed(clock: Clock, start_s: float, took_s: list[float], place: int, _: Stream) -> None:
    took_s[place] = clock.now - start_s
