"""The sentence that says which system is better, under which condition and why; and what all conclusions share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from kvsim.record.figures import SystemSummary
from kvsim.record.labels import (
    COMPONENT_LABELS,
    counted,
    listed,
    number,
    percent,
    rate,
    ratio,
    relative_difference,
    system_label,
)
from kvsim.record.windows import GROWS
from kvsim.report.sections import Sections

GOODPUT_TIE = 0.02
LATENCY_TIE = 0.05
BALANCE_TIE = 0.10
"""Relative differences below which two figures are called equal."""
OTHER_RATE = 0.10
"""Relative difference from which on what came is told beside the rate that was asked for: few arrivals at random."""

Read = Callable[[SystemSummary], float | None]
_LATENCIES: tuple[tuple[Read, str], ...] = (
    (lambda result: result.ttft_ms.p99, "p99 TTFT"),
    (lambda result: result.tpot_ms.p99, "p99 TPOT"),
)


def conclude_systems(report: Sections) -> str:
    """One sentence on ``report``: the better system by goodput, else by p99 TTFT, else by p99 TPOT, else a tie.

    It names the load it holds for, what makes the difference, where the loser is the better one, the largest part of
    each p99 TTFT, and the P:D ratio that would balance the sides. More than two systems: the two best by goodput.
    Where one is overloaded latencies have no end and it names what was asked, what is possible and what was completed.
    """
    results = sorted(report.results, key=_goodput, reverse=True)
    if not results:
        return "Nothing was simulated."
    if any(map(is_overloaded, results)):
        clauses = [*overload(report.results, condition(report)), *misfits(results), *_balance_advice(report)]
        return reservation(results) + unlike(results) + sentence_of(clauses)
    if len(results) == 1:
        clauses = [f"{_label(results[0])} gives {_goods(results[0])} {condition(report)}; nothing to compare it with"]
    else:
        clauses = _compare(results[0], results[1], condition(report))
    clauses += misfits(results) + _whole_run(results)
    clauses += _dominating(results[:2]) + _balance_advice(report)
    return reservation(results) + unlike(results) + sentence_of(clauses)


def sentence_of(clauses: Sequence[str]) -> str:
    sentence = "; ".join(clauses) + "."
    return sentence[0].upper() + sentence[1:]


def is_overloaded(result: SystemSummary) -> bool:
    return result.steady.overloaded


def overload(results: Sequence[SystemSummary], where: str) -> list[str]:
    """Which of the systems do not keep up, by how much, and what each completes."""
    over = [result for result in results if is_overloaded(result)]
    are = "is" if len(over) == 1 else "are"
    clauses = [f"{listed(_labels(over))} {are} overloaded {where}: {'; '.join(map(_beyond, over))}"]
    kept = [result for result in results if not is_overloaded(result)]
    if kept:
        clauses.append(f"{listed(_labels(kept))} {'keeps' if len(kept) == 1 else 'keep'} up")
    if any(result.window_s.whole for result in results):
        return [*clauses, "the run is too short to tell what each can complete"]
    by_rate = sorted(results, key=lambda result: result.throughput.requests_per_s or 0.0, reverse=True)
    rates = [f"{_label(result)} {number(result.throughput.requests_per_s)}" for result in by_rate]
    return [*clauses, f"requests completed a second: {', '.join(rates)}"]


def _beyond(result: SystemSummary) -> str:
    """How an overload shows: the rates, where arithmetic says so too, and the growth of TTFT, where there is some."""
    facts = []
    asked, possible = result.steady.asked_requests_per_s, result.steady.possible_requests_per_s
    if asked is not None and possible is not None and asked > possible:
        facts.append(f"{number(asked)} requests/s come, {number(possible)} possible")
    growth = result.steady.ttft_growth_s_per_min
    if growth is not None and growth >= GROWS * 60:
        facts.append(f"TTFT grows with the length of the run, by {number(growth)} s a minute")
    return f"{_label(result)}: {', and '.join(facts)}"


def misfits(results: Sequence[SystemSummary]) -> list[str]:
    """The shares of the requests in the window that fit no instance, and that a fleet lost."""
    lost = {result.name: 0 if result.fleet is None else result.fleet.failed_in_window for result in results}
    return [
        *_failed_shares(
            results, "fit no instance of", lambda result: result.requests.failed_in_window - lost[result.name]
        ),
        *_failed_shares(results, "were given up or had no instance left on", lambda result: lost[result.name]),
    ]


def _failed_shares(results: Sequence[SystemSummary], what: str, count: Callable[[SystemSummary], int]) -> list[str]:
    shares: dict[str, list[SystemSummary]] = {}
    for result in results:
        requests, failed = result.requests, count(result)
        if failed:
            judged = requests.failed_in_window + requests.completed_in_window
            shares.setdefault(percent(failed / judged), []).append(result)
    return [
        f"{share} of requests {what} {listed(_labels(whose))}, and count against the SLO"
        for share, whose in shares.items()
    ]


def _whole_run(results: Sequence[SystemSummary]) -> list[str]:
    """What rates are of where no window is steady."""
    windows = [result.window_s for result in results if result.window_s.whole]
    if not windows:
        return []
    length_s = number(windows[0].end - windows[0].start)
    return [f"rates are over the whole run of {length_s} s, its filling and draining included"]


def lower_latency(first: SystemSummary, second: SystemSummary, p99_of: Read) -> SystemSummary | None:
    """The one with the lower p99 of a latency, or ``None`` when they tie or one has none."""
    a, b = p99_of(first), p99_of(second)
    if a is None or b is None or relative_difference(a, b) < LATENCY_TIE:
        return None
    return first if a < b else second


def _goodput(result: SystemSummary) -> float:
    return result.goodput.requests_per_s or 0.0


def is_chance(first: SystemSummary, second: SystemSummary) -> bool:
    """Whether what two systems complete in one window differs by no more than where a window's edges fall.

    Of n arrivals at random sqrt(n) more or fewer fall on either side of an edge; both edges count.
    """
    counts = [result.requests.completed_in_window for result in (first, second)]
    return abs(counts[0] - counts[1]) <= 2 * math.sqrt(max(counts))


def good_alike(first: SystemSummary, second: SystemSummary) -> bool:
    """Whether as many are within the SLO, but for chance: where as large a share is, counts tell nothing more."""
    high, low = sorted((_goodput(first), _goodput(second)), reverse=True)
    shares = first.goodput.share, second.goodput.share
    same = shares[0] is not None and shares[1] is not None and abs(shares[0] - shares[1]) < GOODPUT_TIE
    return relative_difference(high, low) < GOODPUT_TIE or (same and is_chance(first, second))


def _goods(result: SystemSummary) -> str:
    return f"{number(_goodput(result))} requests/s within the SLO"


def _label(result: SystemSummary) -> str:
    return system_label(result.name)


def _labels(results: Sequence[SystemSummary]) -> list[str]:
    return list(map(_label, results))


def _compare(best: SystemSummary, other: SystemSummary, condition: str) -> list[str]:
    """The verdict and, behind it, every p99 latency in which the loser is better."""
    high, low = _goodput(best), _goodput(other)
    if not good_alike(best, other):
        verdict = f"{_more(best, other)} {condition}, because {_reason(best, other)}"
        return [verdict, *_lower(other, best)]
    pair = f"{_label(best)} and {_label(other)}"
    tie = (
        f"neither {_label(best)} nor {_label(other)} serves a request within the SLO {condition}"
        if high == 0
        else f"{pair} tie in goodput ({number(high)} and {number(low)} requests/s within the SLO) {condition}"
    )
    lower = _lower(best, other) + _lower(other, best)
    if any(p99_of(result) is None for result in (best, other) for p99_of, _ in _LATENCIES):
        return [tie, *lower]
    return [tie, *(lower or [f"their p99 TTFT and TPOT are within {LATENCY_TIE:.0%}"])]


def _more(best: SystemSummary, other: SystemSummary) -> str:
    high, low = _goodput(best), _goodput(other)
    against = f"({number(high)} against {number(low)} requests/s within the SLO)"
    if low == 0:
        return f"{_label(best)} gives {_goods(best)} where {_label(other)} gives none"
    if high >= 2 * low:
        return f"{_label(best)} gives {number(high / low)} times the goodput of {_label(other)} {against}"
    return f"{_label(best)} gives {percent(high / low - 1)} more goodput than {_label(other)} {against}"


def _reason(best: SystemSummary, other: SystemSummary) -> str:
    """Which limit the loser misses more often than the winner, else that it completes less."""
    won, lost, slo = best.goodput, other.goodput, other.goodput.slo
    limits = [
        ("TTFT", slo.ttft_ms, won.ttft_share or 0.0, lost.ttft_share or 0.0),
        ("TPOT", slo.tpot_ms, won.tpot_share or 0.0, lost.tpot_share or 0.0),
    ]
    name, limit_ms, within, without = max(limits, key=lambda limit: limit[2] - limit[3])
    if within - without < 0.01:
        rates = [number(result.throughput.requests_per_s) for result in (other, best)]
        return f"{_label(other)} completes {rates[0]} requests/s and {_label(best)} {rates[1]}"
    limit = f"{name} limit of {limit_ms:,g} ms"
    missed = f"in {percent(1 - without)} of requests and {_label(best)} in {percent(1 - within)}"
    return f"{_label(other)} misses the {limit} {missed}"


def _lower(result: SystemSummary, than: SystemSummary) -> list[str]:
    """The clause on the latencies in which ``result`` beats ``than``."""
    won = [
        f"the lower {label} ({number(p99_of(result))} against {number(p99_of(than))} ms)"
        for p99_of, label in _LATENCIES
        if lower_latency(result, than, p99_of) is result
    ]
    return [f"{_label(result)} has {' and '.join(won)}"] if won else []


def condition(report: Sections) -> str:
    """The load for which the sentence holds, with what came in the measured window, where that is another rate."""
    load, inside = report.workload.load, report.workload.window_requests_per_s
    came_inside = "" if inside is None else f"{number(inside)} in the measured window"
    if load is not None:
        of = f"{load.rho:g} of {system_label(load.of)}'s maximum rate"
        rates = [f"{number(load.requests_per_s)} requests/s", *filter(None, [came_inside])]
        return f"at {of} ({', '.join(rates)})"
    if report.workload.users is not None:
        return f"with {counted(report.workload.users, 'user')}"
    asked = report.workload.asked_requests_per_s
    if asked is not None:
        is_one = report.run.mode == "predict" and report.results  # Elsewhere sentences tell what came.
        came = report.results[0].steady.asked_requests_per_s if is_one else None
        is_other = came is not None and abs(came / asked - 1) > OTHER_RATE
        told = number(came) if is_other else rate(asked)
        beside = [f"{rate(asked)} asked"] if is_other else []
    else:
        requests, span_s = report.workload.requests, report.workload.span_s
        if not span_s:
            return "for this workload"
        own = "" if report.run.mode == "predict" else "the workload's own "
        told, beside = f"{own}{number(requests / span_s)}", []
    beside += filter(None, [came_inside])
    return f"at {told} requests/s ({', '.join(beside)})" if beside else f"at {told} requests/s"


def _dominating(results: Sequence[SystemSummary]) -> list[str]:
    parts = []
    for result in results:
        p99 = {name: value for name, value in result.attribution_ms.p99.items() if value}
        if p99:
            name = max(p99, key=lambda key: p99[key])
            share = percent(p99[name] / sum(p99.values()))
            parts.append(f"{COMPONENT_LABELS[name]} for {_label(result)} ({share} of {number(sum(p99.values()))} ms)")
    return [f"the largest part of p99 TTFT is {' and '.join(parts)}"] if parts else []


def _balance_advice(report: Sections) -> list[str]:
    cluster = report.cluster
    balanced, actual = cluster.balanced_pd_ratio, (cluster.prefill_instances, cluster.decode_instances)
    if not balanced or not all(balanced) or not all(actual):
        return []
    if relative_difference(balanced[0] / balanced[1], actual[0] / actual[1]) < BALANCE_TIE:
        if any(map(is_overloaded, report.results)):
            return []
        return [f"P:D {ratio(actual)} is balanced for this workload"]
    return [f"P:D {ratio(balanced)} would balance the two sides, where {ratio(actual)} was simulated"]


def unlike(results: Sequence[SystemSummary]) -> str:
    """A reservation where not the same happened to all that is compared."""
    left_out = [(result, result.events_left_out or ()) for result in results]
    if len({numbers for _, numbers in left_out}) < 2:
        return ""
    told = [
        f"{_label(result)} without {listed([f'fleet.events[{number}]' for number in numbers])}"
        for result, numbers in left_out
        if numbers
    ]
    return f"[Not under the same failures: {', '.join(told)}] "


def reservation(results: Sequence[SystemSummary]) -> str:
    """What the sentence has to be read with, gravest first."""
    grave = (
        ("Not to be trusted, conservation violated in", [r for r in results if not r.conservation.ok]),
        ("Partial, interrupted:", [r for r in results if r.incomplete]),
        ("Indicative only, not steady:", [r for r in results if not r.steady.ok and not is_overloaded(r)]),
    )
    for words, whom in grave:
        if whom:
            return f"[{words} {', '.join(map(_label, whom))}] "
    return ""
