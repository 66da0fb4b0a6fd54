"""Sentences about paired differences: each says what it holds for, and what cannot be told."""

from __future__ import annotations

from collections.abc import Mapping

from kvsim.lab.kv.analysis.growth import Growth
from kvsim.lab.kv.analysis.metrics import BY_NAME
from kvsim.lab.kv.analysis.paired import OVER_CONTROL, Effect
from kvsim.lab.kv.analysis.stability import OrderEffect
from kvsim.record.labels import counted, number, percent

KEY = ("ttft_mean_ms", "e2e_mean_ms", "output_tokens_per_s", "hit_share")
"""Metrics of key results."""
_LEAST_SHARE = 0.001


def where(at: Mapping[str, float]) -> str:
    """What stands before a sentence that holds at one point."""
    return ", ".join(f"{name} {value:,.12g}" for name, value in at.items()) + ": " if at else ""


def figure(value: float | None, metric: str, *, unit: bool = True) -> str:
    """A value or a difference of a metric as people read it."""
    known = BY_NAME[metric]
    scale = 100 if known.unit == "points" else 1
    text = number(None if value is None else scale * value)
    return f"{text} {known.unit}" if unit and known.unit else text


def interval_words(low: float, high: float, metric: str, confidence: float) -> str:
    """``95% interval 1 to 2 ms``."""
    low_text, high_text = figure(low, metric, unit=False), figure(high, metric)
    return f"{percent(confidence)} interval {low_text} to {high_text}"


def effect_claim(effect: Effect, confidence: float) -> str:
    """One difference, in a sentence that is true of these rows."""
    told = f"{where(effect.at)}{_named(effect)}: "
    pairs = counted(effect.pairs, "repeat" if effect.unit == "repeats" else "pair") + (
        "" if effect.unit == "repeats" else " of requests"
    )
    alone = "" if effect.unit == "repeats" else ", which holds for this one repeat alone"
    lacking = f"; {counted(effect.lacking, 'repeat')} left out, without it in both" if effect.lacking else ""
    if effect.pairs == 0:
        return f"{told}cannot be told, {_nowhere(effect)}"
    if effect.verdict == "same":
        return f"{told}no difference in {_any(effect, pairs)}{alone}{lacking}"
    apart = figure(effect.difference, effect.metric)
    if effect.low is None or effect.high is None:
        why = "one pair has" if effect.pairs == 1 else "there is"
        return f"{told}{apart} in {pairs}; whether that is chance cannot be told, {why} no interval{alone}{lacking}"
    span = f"{interval_words(effect.low, effect.high, effect.metric, confidence)}, {pairs}"
    if effect.low == effect.high:
        span = f"the same in each of {pairs}"
    return f"{told}{apart} ({span}){_share(effect)}: {_verdict(effect)}{alone}{lacking}"


def _named(effect: Effect) -> str:
    label = BY_NAME[effect.metric].label
    if effect.phase == OVER_CONTROL:
        return f"{label}, what the cache changes in the family less what it changes in the control"
    return f"{label}, {effect.phase} less {effect.base}"


def _nowhere(effect: Effect) -> str:
    if effect.phase == OVER_CONTROL:
        return "no repeat has it in all four phases"
    what = "repeat has it in both phases" if effect.unit == "repeats" else "request has it in both phases"
    return f"no {what}"


def _any(effect: Effect, pairs: str) -> str:
    if effect.pairs == 1:
        return "the one repeat that has it" if effect.unit == "repeats" else "the one pair of requests that has it"
    return f"any of {pairs}"


def _share(effect: Effect) -> str:
    """How much it is of the base; of shares and of what is itself a difference that would say nothing."""
    if effect.metric == "hit_share" or effect.phase == OVER_CONTROL or not effect.base_mean:
        return ""
    share = (effect.difference or 0.0) / abs(effect.base_mean)
    if abs(share) < _LEAST_SHARE:
        return f", less than {percent(_LEAST_SHARE)} of {effect.base}"
    return f", {'-' if share < 0 else '+'}{percent(abs(share))} of {effect.base}"


def _verdict(effect: Effect) -> str:
    if effect.verdict == "open":
        return "not told apart, the interval holds zero"
    if effect.phase == OVER_CONTROL:
        return f"{effect.verdict} than in the control"
    if (effect.base, effect.phase) == ("first", "second"):
        return f"{effect.verdict} in second though both are alike: chance, or what the first leaves behind"
    return f"{effect.verdict} in {effect.phase}"


def order_claim(effect: OrderEffect, confidence: float) -> str:
    """Whether a difference depends on which phase came first."""
    label = BY_NAME[effect.metric].label
    told = f"{where(effect.at)}{label}, {effect.phase} less {effect.base}, by what came first: "
    if effect.half_width is None or effect.difference is None:
        return f"{told}cannot be told, {effect.why_unknown}"
    low, high = effect.difference - effect.half_width, effect.difference + effect.half_width
    sides = (
        f"{figure(effect.base_first_mean, effect.metric)} in {counted(effect.base_first, 'repeat')} that began with "
        f"{effect.base}, {figure(effect.phase_first_mean, effect.metric)} in {effect.phase_first:,} that began with "
        f"{effect.phase}"
    )
    if low == high == 0:
        return f"{told}{sides}: no difference"
    verdict = "not told apart" if low <= 0 <= high else "the order matters"
    span = interval_words(low, high, effect.metric, confidence)
    return f"{told}{sides}, {figure(effect.difference, effect.metric)} apart ({span}): {verdict}"


def growth_claim(found: Growth, confidence: float) -> str:
    """Whether an effect changes with the number of requests."""
    label = BY_NAME[found.metric].label
    told = f"{where(found.others)}{label}, {found.phase} less {found.base}, by the number of requests: "
    if not found.pairs:
        return f"{told}cannot be told, no repeat has it at {found.fewest:,g} and at {found.most:,g}"
    sides = (
        f"{figure(found.at_fewest, found.metric)} at {found.fewest:,g}, "
        f"{figure(found.at_most, found.metric)} at {found.most:,g}"
    )
    if found.verdict == "same":
        return f"{told}{sides}: no difference in {counted(found.pairs, 'repeat')}"
    if found.low is None or found.high is None:
        return f"{told}{sides}; whether that is chance cannot be told from {counted(found.pairs, 'repeat')}"
    verdict = "not told apart" if found.verdict == "open" else _growth_verdict(found)
    span = interval_words(found.low, found.high, found.metric, confidence)
    pairs = counted(found.pairs, "repeat")
    return f"{told}{sides}, {figure(found.difference, found.metric)} apart ({span}, {pairs}): {verdict}"


def _growth_verdict(found: Growth) -> str:
    few, many = found.at_fewest or 0.0, found.at_most or 0.0
    if few * many < 0:
        return "the effect turns round"
    return "the effect grows in size" if abs(many) > abs(few) else "the effect shrinks in size"
