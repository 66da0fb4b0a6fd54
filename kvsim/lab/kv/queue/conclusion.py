"""What a run of the queue lab ends in: one sentence, true of its rows to the digits that it shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvsim.lab.kv.queue.outcome import Outcome
from kvsim.record.labels import counted, listed, number, percent

_MS_PER_S = 1e3
NEAR = 1.05
"""Times the latency of the largest budget: that near is as good."""


def conclusion(outcomes: Sequence[Outcome]) -> str:
    """Who is fastest and who keeps deadlines under one budget; what each scheduler needs where there are several."""
    budgets = list(dict.fromkeys(one.budget for one in outcomes))
    about = f"[{counted(outcomes[0].requests, 'request')}, at most {counted(outcomes[0].seats, 'seat')}]"
    if len(budgets) == 1:
        return f"under {budgets[0]} of KV, {'; '.join(_of_one(outcomes))} {about}"
    return f"{_of_several(outcomes, budgets)} {about}"


def _of_one(outcomes: Sequence[Outcome]) -> Iterator[str]:
    if len(outcomes) == 1:
        one = outcomes[0]
        yield (
            f"{one.scheduler} answers in {_s(one.latency_mean_ms)} s in the mean, {_s(one.queue_mean_ms)} s of it in "
            f"the queue, and holds {percent(one.memory_mean_share)} of the budget in the mean, "
            f"{percent(one.memory_peak_share)} at most"
        )
        if one.deadlines:
            yield f"{one.deadline_misses} of {counted(one.deadlines, 'deadline')} are missed"
    else:
        yield _fastest(outcomes)
        if outcomes[0].deadlines:
            yield _punctual(outcomes)
    preempted = [f"{one.scheduler} {counted(one.preemptions, 'time')}" for one in outcomes if one.preemptions]
    if preempted:
        yield f"requests are preempted by {listed(preempted)}"


def _fastest(outcomes: Sequence[Outcome]) -> str:
    """By mean latency, to the digits shown."""
    least = min(one.latency_mean_ms for one in outcomes)
    first, others = _parted(outcomes, [_s(one.latency_mean_ms) == _s(least) for one in outcomes])
    if not others:
        return f"{_all(first)} answer in {_s(least)} s in the mean, all alike"
    rest = listed([f"{_s(one.latency_mean_ms)} s by {one.scheduler}" for one in others])
    return f"answers take {_s(least)} s in the mean by {listed([one.scheduler for one in first])}, {rest}"


def _punctual(outcomes: Sequence[Outcome]) -> str:
    least, deadlines = min(one.deadline_misses for one in outcomes), counted(outcomes[0].deadlines, "deadline")
    first, others = _parted(outcomes, [one.deadline_misses == least for one in outcomes])
    if not others:
        return f"{least} of {deadlines} are missed by each"
    rest = listed([f"{one.deadline_misses} by {one.scheduler}" for one in others])
    return f"of {deadlines} {listed([one.scheduler for one in first])} {_misses(first, least)}, {rest}"


def _misses(first: Sequence[Outcome], least: int) -> str:
    return f"miss {least} each" if len(first) > 1 else f"misses {least}"


def _of_several(outcomes: Sequence[Outcome], budgets: Sequence[str]) -> str:
    """The smallest budget of each scheduler that serves nearly as fast as the largest."""
    enough: dict[str, list[str]] = {}
    for scheduler in dict.fromkeys(one.scheduler for one in outcomes):
        rows = sorted((one for one in outcomes if one.scheduler == scheduler), key=lambda one: one.budget_bytes)
        most_ms = NEAR * rows[-1].latency_mean_ms
        enough.setdefault(next(one.budget for one in rows if one.latency_mean_ms <= most_ms), []).append(scheduler)
    found = [f"{budget} for {listed(enough[budget])}" for budget in budgets if budget in enough]
    return (
        f"the smallest KV budget tried whose mean latency is at most 5% above that of {budgets[-1]}, the largest, is "
        f"{', '.join(found)}"
    )


def _parted(outcomes: Sequence[Outcome], is_first: Sequence[bool]) -> tuple[list[Outcome], list[Outcome]]:
    first = [one for one, chosen in zip(outcomes, is_first, strict=True) if chosen]
    return first, [one for one, chosen in zip(outcomes, is_first, strict=True) if not chosen]


def _all(outcomes: Sequence[Outcome]) -> str:
    return listed([one.scheduler for one in outcomes])


def _s(time_ms: float) -> str:
    return number(time_ms / _MS_PER_S)
