"""Sentences on what requests waited for, and what makes them true: the steps of their instances."""

from __future__ import annotations

import numpy as np
from reason_checker import Facts, N, P, same, says
from reason_sentences import PART, part_is

SHORT = (
    r"(the only seat \(max_num_seqs\) was taken"
    rf"|all {N} seats \(max_num_seqs\) were taken"
    rf"|too few of {N} KV blocks were free"
    rf"|a seat and KV blocks were free: requests waited for a step under way or for the token budget of {N})"
)
WHY = rf"(?:; at the end of (at least )?{P} of that time(?: \({N} of {N} that waited looked at\))? {SHORT})?"


LOOKED_AT = rf"(?: \({N} of {N} that waited looked at\))?"


HELD = rf"(?:; requests were held at the router {N} times? until an instance could take them)?"
HUNG = rf"(?:; {N} instances? hung for a while, where requests waited too)?"


@says(rf"Queueing is {PART}{WHY}{HELD}{HUNG}(?:; the rate is {P} of the maximum)?\.")
def queue(facts: Facts, share: str, ms: str, late: str, *why: str | None) -> bool:
    least, told, looked_at, waited, what, seats, blocks, budget, held, hung, load = why
    settings, found = facts.settings, True
    if told is not None and what is not None:
        name = "step or budget" if "a seat and" in what else "kv_blocks" if "KV blocks" in what else "seats"
        found = _is_waited_for(facts, name, told, least) and _is_sample(facts, looked_at, waited)
        sizes = {seats: settings.max_num_seqs, blocks: settings.num_blocks, budget: settings.max_num_batched_tokens}
        found &= all(same(size, true) for size, true in sizes.items() if size is not None)
    fleet = facts.result.fleet
    found &= same(held or "0", 0 if fleet is None else fleet.held)
    incidents = () if fleet is None else fleet.incidents
    found &= same(hung or "0", sum(each.instances for each in incidents if each.kind == "hang"))
    if load is not None:
        found &= same(load, facts.result.roles[0].load)
    return found and part_is(facts, "queue_s", share, ms, late)


@says(
    rf"Waiting to be scheduled is {PART}, (at least )?{P} of it{LOOKED_AT} for the step under way"
    r"( and any scheduled behind it already)?: engine steps are not interrupted, and a seat, KV blocks and token "
    rf"budget were free(?:; the rate is {P} of the maximum)?\."
)
def step_under_way(facts: Facts, share: str, ms: str, late: str, *why: str | None) -> bool:
    least, told, looked_at, waited, behind, load = why
    found = _is_waited_for(facts, "step", told or "", least) and _is_sample(facts, looked_at, waited)
    found &= (behind is not None) == facts.settings.async_scheduling
    if load is not None:
        found &= same(load, facts.result.roles[0].load)
    return found and part_is(facts, "queue_s", share, ms, late)


def _is_sample(facts: Facts, looked_at: str | None, waited: str | None) -> bool:
    if waited is None:
        return True
    return same(waited, int((facts.measured["queue_s"] > 0).sum())) and int(looked_at or 0) <= 400


def _is_waited_for(facts: Facts, name: str, told: str, least: str | None) -> bool:
    more = _waited_for(facts, name) - float(told.strip("<>%")) / 100
    return more > -0.05 and (least is not None or more < 0.05)


def _waited_for(facts: Facts, name: str) -> float:
    """The share of queueing time at whose end that was short, by the engines' own steps."""
    detail, table = facts.result.detail, facts.measured
    assert detail is not None
    steps = detail.steps
    numbers = {one.number: place for place, one in enumerate(detail.instances) if one.role != "decode"}
    rows = {place: np.flatnonzero(steps["instance"] == place) for place in numbers.values()}
    ordered = {place: own[np.argsort(steps["start_s"][own])] for place, own in rows.items()}
    total = short = 0.0
    for row in np.flatnonzero(table["queue_s"] > 0).tolist():
        came_s = table["arrival_s"][row] + table["proxy_s"][row]
        at_s = came_s + table["queue_s"][row] + table["tier_load_s"][row]
        own = ordered[numbers[int(table["prefill_instance"][row])]]
        place = int(np.searchsorted(steps["start_s"][own], at_s - 1e-9)) - 1
        total += table["queue_s"][row]
        short += table["queue_s"][row] * (name in _short(facts, own[: place + 1], came_s))
    return short / total


def _short(facts: Facts, spans: np.ndarray, arrival_s: float) -> set[str]:
    """Why a request was not in the last step of ``spans``, the one before it was admitted."""
    detail, settings = facts.result.detail, facts.settings
    assert detail is not None
    own = {name: float(column[spans[-1]]) for name, column in detail.steps.items()}
    has_come_since = arrival_s > _decided_s(facts, spans) - 1e-9
    has_seats = max(own["running"], _running_before(facts, spans)) < settings.max_num_seqs
    has_tokens = own["prefill_tokens"] + own["decode_seqs"] < settings.max_num_batched_tokens
    if has_come_since and has_seats and has_tokens and own["kv_blocks"] < settings.num_blocks:
        return {"step", "step or budget"}
    if not has_seats:
        return {"seats"}
    return {"step or budget"} if has_come_since or not has_tokens else {"kv_blocks"}


def _decided_s(facts: Facts, spans: np.ndarray) -> float:
    """When the last step of ``spans`` was scheduled: as it began, or, asynchronously, as the one before it did."""
    assert facts.result.detail is not None
    steps, before = facts.result.detail.steps, _before(facts, spans)
    if before is None:
        return _start_s(steps, spans[-1], 1)
    return _start_s(steps, before, 2 if before == spans[-1] else 1)


def _running_before(facts: Facts, spans: np.ndarray) -> float:
    """Seats taken as the last step was scheduled asynchronously: by all in the one under way, who ends with it too, and
    by who begins in the last one."""
    before, detail = _before(facts, spans), facts.result.detail
    assert detail is not None
    if before is None:
        return 0.0
    table, last_s = facts.table, _start_s(detail.steps, spans[-1], 1)
    begins = np.abs(table["arrival_s"] + table["proxy_s"] + table["queue_s"] + table["tier_load_s"] - last_s) < 1e-9
    here = table["prefill_instance"] == detail.instances[int(detail.steps["instance"][before])].number
    return float(detail.steps["running"][before]) + int((begins & here).sum())


def _before(facts: Facts, spans: np.ndarray) -> int | None:
    """Asynchronously: the span of the step during which the last one of ``spans`` was scheduled."""
    assert facts.result.detail is not None
    steps = facts.result.detail.steps
    if not facts.settings.async_scheduling:
        return None
    if steps["num_steps"][spans[-1]] > 1:
        return int(spans[-1])
    follows = len(spans) > 1 and steps["end_s"][spans[-2]] > steps["start_s"][spans[-1]] - 1e-9
    return int(spans[-2]) if follows else None


def _start_s(steps: dict[str, np.ndarray], span: int, behind: int) -> float:
    """When a step of a span began: the last one, or that so many steps before its end."""
    own = {name: float(steps[name][span]) for name in ("end_s", "first_step_s", "num_steps", "slope_s")}
    lasts_s = [own["first_step_s"] + (own["num_steps"] - 1 - place) * own["slope_s"] for place in range(behind)]
    return own["end_s"] - sum(lasts_s)
