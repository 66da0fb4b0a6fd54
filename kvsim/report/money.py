"""What a terminal says of money and energy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from kvsim.record.figures import Cost, SystemSummary
from kvsim.record.labels import number, system_label


def cost_lines(results: Sequence[SystemSummary]) -> Iterator[str]:
    """A line of money and one of energy, all systems in each; none of what is not known."""
    known = {system_label(result.name): result.cost for result in results if result.cost is not None}
    priced = {name: cost for name, cost in known.items() if cost.usd is not None}
    measured = {name: cost for name, cost in known.items() if cost.energy is not None}
    for first in list(priced.values())[:1]:
        memory = ", tiers added" if any(cost.memory_usd is not None for cost in priced.values()) else ""
        price = f"at {number(first.gpu_usd_per_hour)} USD a GPU-hour ({first.price_source}{memory})"
        yield f"Money {price}: {_each({name: _money(cost) for name, cost in priced.items()})}."
    for first in list(measured.values())[:1]:
        told = _each({name: _joules(cost) for name, cost in measured.items()})
        yield f"Energy, GPUs alone ({first.power_source}): {told}."


def _each(said: Mapping[str, str]) -> str:
    """What is said of each, once where it is the same; of many systems the first alone, as the JSON has the others."""
    by_words: dict[str, list[str]] = {}
    for name, words in said.items():
        by_words.setdefault(words, []).append(name)
    if len(by_words) == 1:
        alike = f", {len(said)} systems alike" if len(said) > 1 else ""
        return f"{next(iter(by_words))}{alike}"
    if len(said) == 2:
        return "; ".join(f"{name} {words}" for name, words in said.items())
    first, words = next(iter(said.items()))
    return f"{first} {words} (the other {len(said) - 1} in the JSON report)"


def _money(cost: Cost) -> str:
    """Output tokens and, of a thousand requests within the SLO, as much as there are in the window."""
    good = cost.usd_per_1000_good_requests
    within = f"{number(good)} per 1,000 requests within the SLO" if good is not None else "no request within the SLO"
    return f"{number(cost.usd_per_million_output_tokens)} USD per million output tokens, {within}"


def _joules(cost: Cost) -> str:
    energy = cost.energy
    assert energy is not None, "only systems whose energy is known are told of"
    return f"{number(energy.joules_per_output_token)} J per output token, {number(energy.mean_gpu_power_w)} W a GPU"
