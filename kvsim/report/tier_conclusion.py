"""The sentence on policies or memories compared: which hits most, what that is worth in TTFT, and what is left."""

from __future__ import annotations

from collections.abc import Sequence

from kvsim.record.figures import SystemSummary
from kvsim.record.labels import listed, number, percent, relative_difference
from kvsim.report.conclusion import LATENCY_TIE, condition, is_overloaded, misfits, overload, reservation, unlike
from kvsim.report.sections import Sections

ORACLE = "belady"
HIT_TIE_POINTS = 0.2
"""Hit rates that are this near are called equal."""
MISS_LABELS = {
    "cold_tokens": "never seen before",
    "partial_tokens": "shorter than a chunk",
    "pending_tokens": "still being computed or written",
    "refused_tokens": "never written: refused or no time",
    "evicted_tokens": "evicted before reuse",
    "elsewhere_tokens": "in memory out of reach",
    "declined_tokens": "faster computed than loaded",
    "gone_tokens": "there when looked up, gone when served",
}


def conclude_tiers(report: Sections) -> str:
    """The best of those that could be had, against the first, and the gap to the oracle where that was run."""
    results = report.results
    if not results:
        return "Nothing was simulated."
    real = [result for result in results if result.name != ORACLE]
    if any(map(is_overloaded, results)):
        clauses = overload(results, condition(report))
    else:
        timed = [result for result in real if result.ttft_ms.mean is not None]
        none = [result.name for result in real if result.ttft_ms.mean is None]
        clauses = [_best(timed, condition(report))] if timed else []
        clauses += [f"of {listed(none)} no request that counts has a first token"] if none else []
        clauses += _oracle_gap(timed, results)
    clauses += misfits(results) + _misses(real or results) + _limit(report, real or results)
    sentence = "; ".join(clauses) + "."
    names = tuple(result.name for result in results)
    head = sentence[0] if sentence.startswith(names) else sentence[0].upper()
    return reservation(results) + unlike(results) + head + sentence[1:]


def hit_rate(result: SystemSummary) -> float:
    """Share of prompt tokens that was hit, in whichever tier."""
    return result.cache.prefix_hit_rate or 0.0


def _ttft(result: SystemSummary) -> float:
    return result.ttft_ms.mean or 0.0


def _best(results: Sequence[SystemSummary], where: str) -> str:
    first = results[0]
    best = min(results, key=_ttft)
    if len(results) == 1:
        return f"{best.name} {_facts(best)} {where}"
    if best is not first and relative_difference(_ttft(best), _ttft(first)) >= LATENCY_TIE:
        lowest = f"{best.name} has the lowest mean TTFT {where}"
        return f"{lowest}: it {_facts(best)}, where {first.name} {_facts(first)}"
    near = [result for result in results[1:] if relative_difference(_ttft(result), _ttft(first)) < LATENCY_TIE]
    longer = [result for result in results[1:] if result not in near]
    if not longer:
        tie = f"{first.name} ties with {listed(_names(near))} in mean TTFT, within {LATENCY_TIE:.0%}"
        return f"{tie}: it {_facts(first)} {where}"
    said = f"no other has a mean TTFT {LATENCY_TIE:.0%} or more below that of {first.name}"
    said += f", which {_facts(first)} {where}"
    if near:
        said += f"; {listed(_names(near))} {'is' if len(near) == 1 else 'are'} within {LATENCY_TIE:.0%} of it"
    return f"{said}; {listed(_names(longer))} {_take(longer)}"


def _names(results: Sequence[SystemSummary]) -> list[str]:
    return [result.name for result in results]


def _take(results: Sequence[SystemSummary]) -> str:
    """How much longer their TTFT is, in words."""
    times_ms = sorted(_ttft(result) for result in results)
    if len(times_ms) == 1:
        return f"takes longer, {number(times_ms[0])} ms"
    return f"take longer, {number(times_ms[0])} to {number(times_ms[-1])} ms"


def _facts(result: SystemSummary) -> str:
    return f"hits {percent(hit_rate(result))} of prompt tokens at a mean TTFT of {number(_ttft(result))} ms"


def _oracle_gap(real: Sequence[SystemSummary], results: Sequence[SystemSummary]) -> list[str]:
    oracle = next((result for result in results if result.name == ORACLE), None)
    if oracle is None or oracle.ttft_ms.mean is None or not real:
        return []
    best = max(real, key=hit_rate)
    points = 100 * (hit_rate(oracle) - hit_rate(best))
    if points < -HIT_TIE_POINTS:
        less = f"the oracle hits {number(-points)} points less than {best.name}"
        return [f"{less}: prompts are routed by what caches hold, and these runs do not tell policies apart"]
    if points < HIT_TIE_POINTS:
        return [f"no policy can gain here: the oracle hits as much as {best.name}"]
    gap_ms = _ttft(best) - _ttft(oracle)
    more = f"the oracle hits {number(points)} points more than {best.name}"
    return [f"{more}, which is worth {number(gap_ms)} ms of mean TTFT"]


def _misses(results: Sequence[SystemSummary]) -> list[str]:
    known = {key: value for key, value in results[0].cache.misses.items() if value}
    if not known:
        return []
    worst = max(known, key=lambda key: known[key])
    reason = f"{MISS_LABELS[worst]} ({percent(known[worst])} of prompt tokens)"
    return [f"most of what {results[0].name} computes is {reason}"]


def _limit(report: Sections, results: Sequence[SystemSummary]) -> list[str]:
    """How far the first is from a cache without end, which is known for the whole of a workload alone."""
    infinite = report.workload.infinite_cache_hit_rate_tokens
    share = hit_rate(results[0]) / infinite if infinite else 2.0
    if share > 1 or results[0].requests.failed:
        return []
    return [f"a cache without end would hit {percent(infinite)}, of which {results[0].name} has {percent(share)}"]
