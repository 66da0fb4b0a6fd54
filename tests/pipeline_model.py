"""An engine of several stages, written once more as one loop over turns: no events, no blocks, no classes of kvsim.

Prompts share nothing and every block fits. Batches are lists of (request, tokens, KV that its decode reads).
"""

from __future__ import annotations

from dataclasses import dataclass

PAUSE_S = 0.001
KV_TOKEN_S = 0.0000625
"""Seconds of a stage for each token of KV that a decode reads."""


@dataclass
class Stages:
    """Seconds of each stage: of a batch, and of each of its tokens; and of the way to the next one."""

    times: list[tuple[float, float]]
    send: tuple[float, float]
    is_async: bool

    def __post_init__(self) -> None:
        self.free_s, self.given_s = [0.0] * len(self.times), [0.0] * len(self.times)

    def end_s(self, now: float, tokens: int, kv: int, gives: bool) -> float:
        """When a batch has passed that starts now; they are asked one after the other, empty ones too."""
        at = max(now, self.given_s[-len(self.times)]) if self.is_async else now
        for stage, (batch_s, token_s) in enumerate(self.times):
            if tokens:
                at = max(at, self.free_s[stage]) + batch_s + token_s * tokens + KV_TOKEN_S * kv
                at += self.send[0] + self.send[1] * tokens if stage + 1 < len(self.times) else 0.0
                self.free_s[stage] = at
        self.given_s.append(at if tokens and gives else 0.0)
        return at if tokens else now


def end_times(
    requests: list[tuple[float, int, int]], stages: Stages, budget: int, seats: int
) -> tuple[list[float], list[float]]:
    """First and last token of each request (arrival, prompt, output), in the order of their arrivals."""
    everybody = range(len(requests))
    scheduled, given, ahead, eligible = ([0] * len(requests) for _ in range(4))
    first_s, last_s = [-1.0] * len(requests), [-1.0] * len(requests)
    now, turn, untold = 0.0, 0, False
    size, room = len(stages.times), len(stages.times) + stages.is_async
    queue: list[tuple[list[int], float]] = []
    while min(last_s) < 0:
        here = [i for i in everybody if requests[i][0] <= now and last_s[i] < 0]
        tokens = 0
        if here or untold:
            turn, untold, kv, gives, left = turn + 1, False, 0, [], budget
            running = [i for i in here if scheduled[i]]
            for i in running + [i for i in here if not scheduled[i]][: seats - len(running)]:
                (_, prompt, output), known = requests[i], requests[i][1] + given[i]
                is_decode = scheduled[i] >= prompt
                if is_decode and stages.is_async:
                    over = ahead[i] and scheduled[i] + 2 - ahead[i] >= prompt + output
                    count = 0 if over or turn < eligible[i] else 1
                else:
                    count = min(known - scheduled[i], left)
                count = min(count, left)
                kv += scheduled[i] + 1 if count and is_decode else 0
                scheduled[i], left = scheduled[i] + count, left - count
                if count and scheduled[i] >= known:
                    gives.append(i)
                    ahead[i] += stages.is_async
                    eligible[i] = turn + size
            tokens = budget - left
            queue.append((gives, stages.end_s(now, tokens, kv, bool(gives))))
        elif not queue:
            now = min(requests[i][0] for i in everybody if requests[i][0] > now)
            continue
        if len(queue) == room or not (tokens or here):
            gives, end_s = queue.pop(0)
            now = max(now, end_s)
            for i in [i for i in gives if last_s[i] < 0]:
                given[i] += 1
                ahead[i] -= stages.is_async
                first_s[i] = now if given[i] == 1 else first_s[i]
                if given[i] == requests[i][2]:
                    last_s[i], untold = now, True
        waits = any(requests[i][0] <= now and last_s[i] < 0 for i in here)
        now += PAUSE_S if not tokens and (waits or untold) else 0.0
    return first_s, last_s
