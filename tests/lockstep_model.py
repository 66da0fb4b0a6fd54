"""Engines in lockstep, written once more as one loop over steps: no events, no blocks, no classes of kvsim.

Prompts share nothing and every block fits. Costs are those of ``COSTS``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """Seconds: an engine's own step, its tokens and KV; then what all compute together, and exchange."""

    own_s: float = 0.05
    token_s: float = 0.003
    kv_token_s: float = 0.0007
    expert_token_s: float = 0.004
    exchange_s: float = 0.01
    exchanged_token_s: float = 0.002


COSTS = Costs()


def group_step_s(batches: list[tuple[int, int]], costs: Costs = COSTS) -> float:
    """Of engines' (tokens, KV tokens that decodes read); one without work has (0, 0) and computes a token."""
    own = max(costs.own_s + costs.token_s * (n or 1) + costs.kv_token_s * (kv if n else 1) for n, kv in batches)
    tokens = [n or 1 for n, _ in batches]
    moved = sum(tokens) - min(tokens)
    return own + costs.expert_token_s * sum(tokens) + costs.exchange_s + costs.exchanged_token_s * moved


def end_times(
    requests: list[tuple[float, int, int, int]], engines: int, budget: int, interval: int, is_async: bool
) -> tuple[list[float], list[float]]:
    """First and last token of each request (arrival, prompt, output, engine), in the order of their arrivals."""
    prompted, given = [0] * len(requests), [0] * len(requests)
    first_s, last_s = [-1.0] * len(requests), [-1.0] * len(requests)

    def planned(engine: int, now: float) -> list[tuple[int, int, int]]:
        """(request, tokens, KV that its decode reads), with all that is planned so far taken for done."""
        here = [i for i, r in enumerate(requests) if r[3] == engine and r[0] <= now and given[i] < r[2]]
        decoding = [i for i in here if prompted[i] == requests[i][1]]
        step, left = [(i, 1, requests[i][1] + given[i]) for i in decoding], budget - len(decoding)
        for i in here:
            count = min(requests[i][1] - prompted[i], left)
            if count > 0:
                step.append((i, count, 0))
                left -= count
        for i, count, kv in step:
            prompted[i] += 0 if kv else count
            given[i] += prompted[i] == requests[i][1]
        return step

    now, steps, coming = 0.0, 0, None
    while min(last_s) < 0:
        if not steps:  # Nobody runs: until the next arrival.
            now = max(now, min(r[0] for r, end_s in zip(requests, last_s, strict=True) if end_s < 0))
        running = coming or [planned(engine, now) for engine in range(engines)]
        outputs = list(given)
        coming = [planned(engine, now) for engine in range(engines)] if is_async else None
        now += group_step_s([(sum(n for _, n, _ in step), sum(kv for *_, kv in step)) for step in running])
        for i, _, _ in (item for step in running for item in step):
            if outputs[i] and first_s[i] < 0:
                first_s[i] = now
            if outputs[i] == requests[i][2]:
                last_s[i] = now
        steps += 1
        unfinished = any(r[0] <= now and end_s < 0 for r, end_s in zip(requests, last_s, strict=True))
        if (steps == 1 or steps % interval == 0) and not unfinished:
            steps, coming = 0, None
    return first_s, last_s
