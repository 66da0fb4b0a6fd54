"""Max-min fair shares of links (Bertsekas and Gallager, Data Networks, section 6.5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace


def fair_rates(
    paths: Sequence[Sequence[int]],
    limits: Sequence[float],
    capacity: dict[int, float],
    weights: Sequence[Sequence[float]] | None = None,
) -> list[float]:
    """The rate of every flow: no flow can have more without taking from one that has no more than it.

    Flow ``i`` runs over the links ``paths[i]`` of ``capacity`` and never faster than ``limits[i]``. The links fill up
    together; the one with the least to share among its flows that still grow is full first and fixes them. That share
    only rises as others are fixed, so a heap with lazy updates finds it: O((F + L) log L) for short paths.

    ``weights[i]``: what a unit of the flow's rate takes of each link of its path; one each where none are given.
    """
    rates = [-1.0] * len(paths)
    place_of: dict[int, int] = {}
    flows_of: list[list[int]] = []
    left: list[float] = []
    growing: list[float] = []
    for flow, path in enumerate(paths):
        for hop, link in enumerate(path):
            place = place_of.get(link, -1)
            if place < 0:
                place = place_of[link] = len(left)
                flows_of.append([])
                left.append(capacity[link])
                growing.append(0.0)
            flows_of[place].append(flow)
            growing[place] += 1.0 if weights is None else weights[flow][hop]
    unfixed = [len(flows) for flows in flows_of]
    shares = [(left[place] / growing[place], place) for place in range(len(left))]
    heapify(shares)
    for flow in sorted(range(len(paths)), key=limits.__getitem__):
        while rates[flow] < 0:
            share, place = shares[0] if shares else (limits[flow], -1)
            if place >= 0 and not unfixed[place]:
                heappop(shares)
                continue
            if place >= 0 and share != left[place] / growing[place]:
                heapreplace(shares, (left[place] / growing[place], place))
                continue
            rate = min(limits[flow], share)
            for fixed in [flow] if limits[flow] <= share else flows_of[place]:
                if rates[fixed] >= 0:
                    continue
                rates[fixed] = rate
                for hop, link in enumerate(paths[fixed]):
                    crossed, weight = place_of[link], 1.0 if weights is None else weights[fixed][hop]
                    left[crossed] = max(left[crossed] - rate * weight, 0.0)
                    growing[crossed] -= weight
                    unfixed[crossed] -= 1
    return rates
