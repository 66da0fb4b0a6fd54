"""Max-min fair shares of links (Bertsekas and Gallager, Data Networks, section 6.5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush


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
    flows_of: dict[int, list[int]] = {}
    growing: dict[int, float] = {}
    for flow, path in enumerate(paths):
        for hop, link in enumerate(path):
            flows_of.setdefault(link, []).append(flow)
            growing[link] = growing.get(link, 0.0) + (1.0 if weights is None else weights[flow][hop])
    left = {link: capacity[link] for link in flows_of}
    unfixed = {link: len(flows) for link, flows in flows_of.items()}
    shares = [(left[link] / growing[link], place, link) for place, link in enumerate(flows_of)]
    heapify(shares)
    slowest_first = sorted(range(len(paths)), key=limits.__getitem__)
    next_flow = 0
    while next_flow < len(slowest_first):
        flow = slowest_first[next_flow]
        if rates[flow] >= 0:
            next_flow += 1
            continue
        share, place, link = shares[0] if shares else (limits[flow], 0, -1)
        if link >= 0 and not unfixed[link]:
            heappop(shares)
            continue
        if link >= 0 and share != left[link] / growing[link]:
            heappop(shares)
            heappush(shares, (left[link] / growing[link], place, link))
            continue
        if limits[flow] <= share:
            fixed, rate = [flow], limits[flow]
        else:
            fixed, rate = [f for f in flows_of[link] if rates[f] < 0], share
        for flow in fixed:
            rates[flow] = rate
            for hop, crossed in enumerate(paths[flow]):
                weight = 1.0 if weights is None else weights[flow][hop]
                left[crossed] = max(left[crossed] - rate * weight, 0.0)
                growing[crossed] -= weight
                unfixed[crossed] -= 1
    return rates
