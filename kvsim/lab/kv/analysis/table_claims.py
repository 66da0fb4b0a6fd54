"""Sentences about hits, memory, batches and steadiness."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from kvsim.lab.kv.analysis.claims import figure, where
from kvsim.lab.kv.analysis.growth import BatchRow
from kvsim.lab.kv.analysis.hits import HitCheck
from kvsim.lab.kv.analysis.memory import Bound, Capacity, CurvePoint, bend, curves_of
from kvsim.lab.kv.analysis.metrics import BY_NAME
from kvsim.lab.kv.analysis.stability import MIN_TREND, Stability
from kvsim.lab.kv.analysis.summary import SummaryRow
from kvsim.record.labels import counted, listed, number, percent

_LATENCIES = ("ttft_mean_ms", "tpot_mean_ms", "e2e_mean_ms")
_AS_GOOD = 0.01
"""Share of prompt tokens by which a share of hits may be below the highest and count as it."""


def completion_claims(found: Sequence[SummaryRow]) -> Iterator[str]:
    """What did not start or was not answered, of which no figure tells."""
    for row in found:
        if row.started < row.repeats:
            yield f"{where(row.at)}{row.phase}: the server came up in {row.started:,} of {row.repeats:,} repeats"
        if row.started and row.completed < row.requests:
            yield (
                f"{where(row.at)}{row.phase}: {row.completed:,} of {row.requests:,} requests completed; figures are "
                "those of these"
            )


def hit_claims(found: Sequence[HitCheck]) -> Iterator[str]:
    """Equal to the audit, or by how much not."""
    if not found:
        yield "hits cannot be held against the audit: no phase has both an expected and a counted number"
    for one in found:
        sides: tuple[tuple[str, int, int, float], ...] = (
            ("as answers tell", one.answers_phases, one.answers_expected, one.answers_found),
            ("by the server's counters", one.counters_phases, one.counters_expected, one.counters_found),
        )
        for source, phases, expected, counted_ in sides:
            if phases:
                told = f"{where(one.at)}{one.phase}: hits {source} in {counted(phases, 'repeat')}"
                yield f"{told}: {_against(one, expected, counted_)}"


def hit_conclusion(found: Sequence[HitCheck]) -> Iterator[str]:
    """The audit in a sentence where all is equal; else what is not."""
    wrong = [one for one in found if one.unequal]
    if not found or wrong:
        yield from hit_claims(wrong)
    if found:
        phases = sum(max(one.answers_phases, one.counters_phases) for one in found)
        unequal = sum(len(one.unequal) for one in wrong)
        yield f"hits are exactly the audit's in {phases - unequal:,} of {phases:,} phases that can be held against it"


def _against(one: HitCheck, expected: int, found: float) -> str:
    if found != expected:
        return f"{found:,g} tokens, {found - expected:+,g} against the audit's {expected:,}"
    if one.unequal:
        repeats = listed([str(repeat) for repeat in one.unequal])
        return f"{expected:,} tokens, in sum the audit's, and not in each phase: see repeat {repeats}"
    return f"{expected:,} tokens, exactly the audit's"


def capacity_claims(found: Sequence[Capacity]) -> Iterator[str]:
    """Whether all that is in flight at once has room."""
    for one in found:
        told = f"{where(one.at)}{one.phase}: "
        if one.kv_tokens is None or one.needed_tokens is None:
            yield f"{told}whether requests in flight have room cannot be told"
            continue
        both = f"requests in flight take up to {one.needed_tokens:,} tokens, the KV cache holds {one.kv_tokens:,}"
        room = "room for all" if one.needed_tokens <= one.kv_tokens else "room for all only as far as they share"
        preempted = f"; {counted(one.preemptions, 'preemption')}" if one.preemptions else ""
        yield f"{told}{both}: {room}{preempted}"


def curve_claims(found: Sequence[CurvePoint]) -> Iterator[str]:
    """Where more memory brings hits."""
    for curve in curves_of(found):
        first = curve[0]
        told = f"{where(first.others)}{first.phase}: over {first.key} the share of prompt tokens hit "
        known = [one for one in curve if one.hit_share is not None]
        if len(known) < 2:
            yield f"{told}cannot be followed, {len(known)} of its values has one"
            continue
        bent = bend(curve)
        highest = max(one.hit_share or 0.0 for one in known)
        if bent is None:
            yield f"{told}rises nowhere; it is {percent(highest)} at the most"
            continue
        enough = min(one.value for one in known if (one.hit_share or 0.0) >= highest - _AS_GOOD)
        left, right = bent
        yield (
            f"{told}rises most from {left.value:g} to {right.value:g}, {percent(left.hit_share)} to "
            f"{percent(right.hit_share)}; {percent(highest)}, the highest, is reached within a point at {enough:g}"
        )


def bound_claims(found: Sequence[Bound]) -> Iterator[str]:
    """The least value with which the server starts, as far as it was tried."""
    for one in found:
        told = f"{where(one.others)}{one.key}: "
        why = f" ({one.failure})" if one.failure else ""
        if one.largest_failed is None:
            yield f"{told}the server started with every value tried, down to {one.smallest_started:g}"
        elif one.smallest_started is None:
            yield f"{told}the server started with no value tried, up to {one.largest_failed:g}{why}"
        elif one.monotonic:
            yield f"{told}the server starts with {one.smallest_started:g} and not with {one.largest_failed:g}{why}"
        else:
            yield (
                f"{told}no bound can be given, the server started with {one.smallest_started:g} and failed with "
                f"{one.largest_failed:g}{why}"
            )


def batch_claims(found: Sequence[BatchRow]) -> Iterator[str]:
    """At which limits of a batch means are best; no intervals are behind it."""
    best: tuple[tuple[str, str, Callable[..., BatchRow]], ...] = (
        ("output_tokens_per_s", "most", max),
        ("ttft_mean_ms", "lowest", min),
    )
    for phase in dict.fromkeys(row.phase for row in found):
        for name, word, choose in best:
            known = [row for row in found if row.phase == phase and getattr(row, name) is not None]
            if len(known) < 2:
                continue
            values = [getattr(row, name) for row in known]
            label = BY_NAME[name].label
            if min(values) == max(values):
                yield f"{phase}: {label} is {figure(values[0], name)} at every point"
                continue
            chosen = choose(known, key=lambda row, name=name: getattr(row, name))
            at = where(chosen.at).removesuffix(": ")
            yield f"{phase}: {word} {label} at {at}: {figure(getattr(chosen, name), name)}, a mean without an interval"


def stability_claims(found: Sequence[Stability], confidence: float) -> Iterator[str]:
    """How much latencies vary over repeats, and whether they drift."""
    latencies = [one for one in found if one.metric in _LATENCIES]
    known = [(one.variation, one) for one in latencies if one.variation is not None]
    if not known:
        yield "how steady latencies are cannot be told: no phase has two repeats"
        return
    most, widest = max(known, key=lambda each: each[0])
    yield (
        f"over repeats no mean latency varies by more than {percent(most)} of its mean: {_series(widest)}, from repeat "
        f"{widest.lowest_repeat}, its lowest, to {widest.highest_repeat}, its highest"
        if most
        else "over repeats no mean latency varies at all"
    )
    tested = [(one.drift_p, one) for one in latencies if one.drift_p is not None]
    if not tested:
        yield f"whether latencies drift cannot be told: {MIN_TREND} repeats that differ are wanted"
        return
    limit = 1 - confidence
    drifting = [one for p, one in tested if p < limit]
    chance = f"{number(limit * len(tested))} would by chance"
    if not drifting:
        yield f"none of {len(tested):,} series of mean latencies drifts with the repeat's number (p < {limit:.2g})"
        return
    p, one = min(tested, key=lambda each: each[0])
    way = "up" if (one.drift or 0) > 0 else "down"
    yield (
        f"{len(drifting):,} of {len(tested):,} series of mean latencies drift with the repeat's number "
        f"(p < {limit:.2g}; {chance}), most surely {_series(one)}, {way} (p {p:.2g})"
    )


def _series(one: Stability) -> str:
    at: Mapping[str, float] = one.at
    return f"{where(at)}{BY_NAME[one.metric].label} of {one.phase}"
