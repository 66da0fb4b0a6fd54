"""The rows of the side-by-side table: what is compared, in which unit, and which way is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from kvsim.record.labels import NOTHING, number, percent, relative_difference, system_label
from kvsim.report.conclusion import GOODPUT_TIE, LATENCY_TIE, good_alike, is_chance, is_overloaded

Result = Mapping[str, Any]
_SHOWN = ("mean", "p50", "p90", "p99")
"""Figures shown of each latency; the JSON report has more."""


@dataclass(frozen=True)
class Row:
    """One line: ``read`` gives a result's figure, or those of its sides, and ``show`` writes one."""

    label: str
    read: Callable[[Result], float | list[float | None] | None]
    show: Callable[[float | None], str] = number
    better: str | None = None
    """``lower``, ``higher``, or ``None`` where neither is a merit."""
    tie: float = LATENCY_TIE
    """Relative difference below which two figures are called equal."""
    holds_in_overload: bool = False
    """Whether one may be called better where latencies grow with the length of the run."""
    alike: Callable[[Result, Result], bool] | None = None
    """Whether two results differ in this by chance alone."""

    def cells(self, results: Sequence[Result]) -> list[str]:
        """The label, a figure for each result and, for two results, which is better by how much."""
        values = [self.read(result) for result in results]
        sides = [value if isinstance(value, list) else [value] for value in values]
        cells = [self.label, *(" / ".join(map(self.show, side)) for side in sides)]
        return [*cells, self._better(results, sides[0][0], sides[1][0])] if len(results) == 2 else cells

    def _better(self, results: Sequence[Result], a: float | None, b: float | None) -> str:
        if self.better is None or a is None or b is None:
            return ""
        if any(map(is_overloaded, results)) and not self.holds_in_overload:
            return ""
        if relative_difference(a, b) < self.tie or (self.alike is not None and self.alike(*results)):
            return "tie"
        low, high = sorted((a, b))
        winner = results[0] if (a < b) == (self.better == "lower") else results[1]
        return f"{system_label(winner['name'])} {self._margin(low, high)}"

    def _margin(self, low: float, high: float) -> str:
        if self.show is percent:
            return f"{number((high - low) * 100)} points {self.better}"
        if low <= 0:
            return self.better or ""
        if high >= 2 * low:
            return f"{number(high / low)}x {self.better}"
        change = high / low - 1 if self.better == "higher" else 1 - low / high
        return f"{percent(change)} {self.better}"


def groups(results: Sequence[Result]) -> list[list[Row]]:
    """The rows in groups: one per latency, the rates, the use of the machines, the caches, the transfers."""
    blocks = [
        [Row(f"{name} {which} ({unit})", _latency(key, which, scale), better="lower") for which in _SHOWN]
        for name, key, unit, scale in (
            ("TTFT", "ttft_ms", "ms", 1.0),
            ("TPOT", "tpot_ms", "ms", 1.0),
            ("ITL", "itl_ms", "ms", 1.0),
            ("E2E", "e2e_ms", "s", 1e-3),
        )
    ]
    blocks += [_rates(), _caches(results), _utilisation(results)]
    if any(result["transfer"] for result in results):
        blocks.append(_transfers())
    return [*blocks, _requests(results)]


def _rates() -> list[Row]:
    throughput = (
        ("throughput (requests/s)", "requests_per_s"),
        ("output (tokens/s)", "output_tokens_per_s"),
        ("output (tokens/s/GPU)", "tokens_per_s_per_gpu"),
    )
    row = partial(Row, better="higher", tie=GOODPUT_TIE)
    return [
        *(row(label, _at("throughput", key), alike=is_chance, holds_in_overload=True) for label, key in throughput),
        row("goodput (requests/s)", _at("goodput", "requests_per_s"), alike=good_alike),
        row("within SLO", _at("goodput", "share"), percent),
    ]


def _caches(results: Sequence[Result]) -> list[Row]:
    """Tiers have a line each where there are any."""
    tiers = dict.fromkeys(tier for result in results for tier in result["cache"].get("tiers") or ())
    return [
        Row("prefix hit rate", _at("cache", "prefix_hit_rate"), percent, better="higher", tie=GOODPUT_TIE),
        *(Row(f"of it from {tier}", _from_tier(tier), percent) for tier in tiers),
        Row("evictions (blocks)", _at("cache", "evictions"), _count),
        Row("preemptions", lambda result: result["preemptions"], _count, better="lower"),
    ]


def _utilisation(results: Sequence[Result]) -> list[Row]:
    """A figure for each side of a system, in the order the label gives."""
    most = max((list(result["utilisation"]) for result in results), key=len)
    sides = f" ({' / '.join(most)})" if len(most) > 1 else ""
    measures = (("busy", "busy"), ("KV held", "kv_usage"), ("load", "load"))
    return [Row(f"{name}{sides}", _use(key), percent) for name, key in measures]


def _transfers() -> list[Row]:
    return [
        Row("KV moved (GB)", _scaled(_at("transfer", "bytes_sent"), 1e-9)),
        Row("transfer mean (ms)", _scaled(_at("transfer", "mean_s"), 1e3)),
        Row("transfer hidden", _at("transfer", "hidden_share"), percent),
        Row("NIC out busy", _at("transfer", "nic_out_utilisation"), percent),
        Row("NIC in busy", _at("transfer", "nic_in_utilisation"), percent),
        Row("waits for decode room", _at("transfer", "reservation_waits"), _count),
    ]


def _requests(results: Sequence[Result]) -> list[Row]:
    """Failed and unfinished requests have a line only where there are any."""
    fates = [fate for fate in ("failed", "in_flight") if any(result["requests"][fate] for result in results)]
    return [Row(f"requests {fate.replace('_', ' ')}", _at("requests", fate), _count) for fate in ("completed", *fates)]


def _at(section: str, key: str) -> Callable[[Result], float | None]:
    """Reads ``result[section][key]``; ``None`` where the system has no such section (no transfers when unified)."""

    def read(result: Result) -> float | None:
        found: float | None = result[section][key] if result[section] is not None else None
        return found

    return read


def _from_tier(tier: str) -> Callable[[Result], float | None]:
    return lambda result: result["cache"]["by_tier"].get(tier)


def _latency(key: str, which: str, scale: float) -> Callable[[Result], float | None]:
    return _scaled(_at(key, which), scale)


def _use(key: str) -> Callable[[Result], list[float | None]]:
    return lambda result: [side[key] for side in result["utilisation"].values()]


def _scaled(read: Callable[[Result], float | None], scale: float) -> Callable[[Result], float | None]:
    def scaled(result: Result) -> float | None:
        value = read(result)
        return None if value is None else value * scale

    return scaled


def _count(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}"
