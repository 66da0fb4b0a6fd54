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
    memory = ", tiers added" if any(cost.memory_usd is not None for cost in priced.values()) else ""
    prices = _alike({name: f"{_price(cost)} ({cost.price_source}{memory})" for name, cost in priced.items()})
    for price, names in prices.items():
        of = f" of {' and '.join(names)}" if len(prices) > 1 else ""
        yield f"Money{of} {price}: {_each({name: _money(priced[name]) for name in names})}."
    sources = _alike({name: cost.power_source for name, cost in measured.items()})
    for source, names in sources.items():
        of = f" of {' and '.join(names)}" if len(sources) > 1 else ""
        told = _each({name: _joules(measured[name]) for name in names})
        yield f"Energy{of}, GPUs alone ({source}): {told}."


def _alike(said: Mapping[str, str]) -> dict[str, list[str]]:
    """Who the same is said of."""
    found: dict[str, list[str]] = {}
    for name, words in said.items():
        found.setdefault(words, []).append(name)
    return found


def _price(cost: Cost) -> str:
    if not cost.kinds:
        return f"at {number(cost.gpu_usd_per_hour)} USD a GPU-hour"
    kinds = [f"{number(kind.gpu_usd_per_hour)} of {kind.gpus:,} x {kind.gpu}" for kind in cost.kinds]
    return f"at {' and '.join(kinds)}, USD a GPU-hour"


def _each(said: Mapping[str, str]) -> str:
    """What is said of each, once where it is the same; of many systems the first alone, as the JSON has the others."""
    by_words = _alike(said)
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
    if cost.usd_per_million_output_tokens is None:
        return f"no output token, {within}"
    return f"{number(cost.usd_per_million_output_tokens)} USD per million output tokens, {within}"


def _joules(cost: Cost) -> str:
    energy = cost.energy
    assert energy is not None, "only systems whose energy is known are told of"
    if energy.joules_per_output_token is None:
        return f"no output token, {number(energy.mean_gpu_power_w)} W a GPU"
    return f"{number(energy.joules_per_output_token)} J per output token, {number(energy.mean_gpu_power_w)} W a GPU"
