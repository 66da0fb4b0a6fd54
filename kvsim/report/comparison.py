"""The rows of the side-by-side table: what is compared, in which unit, and which way is better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from kvsim.record.figures import Quantiles, SideUse, SystemSummary
from kvsim.record.labels import NOTHING, number, percent, relative_difference, system_label
from kvsim.record.result import AdapterUse, TransferUse
from kvsim.report.conclusion import GOODPUT_TIE, LATENCY_TIE, good_alike, is_chance, is_overloaded

Read = Callable[[SystemSummary], float | None]
_SHOWN: tuple[tuple[str, Callable[[Quantiles], float | None]], ...] = (
    ("mean", lambda latency: latency.mean),
    ("p50", lambda latency: latency.p50),
    ("p90", lambda latency: latency.p90),
    ("p99", lambda latency: latency.p99),
)
"""Figures shown of each latency; the JSON report has more."""
_LATENCIES: tuple[tuple[str, str, float, Callable[[SystemSummary], Quantiles]], ...] = (
    ("TTFT", "ms", 1.0, lambda result: result.ttft_ms),
    ("TPOT", "ms", 1.0, lambda result: result.tpot_ms),
    ("ITL", "ms", 1.0, lambda result: result.itl_ms),
    ("E2E", "s", 1e-3, lambda result: result.e2e_ms),
)


@dataclass(frozen=True)
class Row:
    """One line: ``read`` gives a result's figure, or those of its sides, and ``show`` writes one."""

    label: str
    read: Callable[[SystemSummary], float | list[float | None] | None]
    show: Callable[[float | None], str] = number
    better: str | None = None
    """``lower``, ``higher``, or ``None`` where neither is a merit."""
    tie: float = LATENCY_TIE
    """Relative difference below which two figures are called equal."""
    holds_in_overload: bool = False
    """Whether one may be called better where latencies grow with the length of the run."""
    alike: Callable[[SystemSummary, SystemSummary], bool] | None = None
    """Whether two results differ in this by chance alone."""

    def cells(self, results: Sequence[SystemSummary]) -> list[str]:
        """The label, a figure for each result and, for two results, which is better by how much."""
        values = [self.read(result) for result in results]
        sides = [value if isinstance(value, list) else [value] for value in values]
        cells = [self.label, *(" / ".join(map(self.show, side)) for side in sides)]
        return [*cells, self._better(results, sides[0][0], sides[1][0])] if len(results) == 2 else cells

    def _better(self, results: Sequence[SystemSummary], a: float | None, b: float | None) -> str:
        if self.better is None or a is None or b is None:
            return ""
        if any(map(is_overloaded, results)) and not self.holds_in_overload:
            return ""
        if relative_difference(a, b) < self.tie or (self.alike is not None and self.alike(*results)):
            return "tie"
        low, high = sorted((a, b))
        winner = results[0] if (a < b) == (self.better == "lower") else results[1]
        return f"{system_label(winner.name)} {self._margin(low, high)}"

    def _margin(self, low: float, high: float) -> str:
        if self.show is percent:
            return f"{number((high - low) * 100)} points {self.better}"
        if low <= 0:
            return self.better or ""
        if high >= 2 * low:
            return f"{number(high / low)}x {self.better}"
        change = high / low - 1 if self.better == "higher" else 1 - low / high
        return f"{percent(change)} {self.better}"


def groups(results: Sequence[SystemSummary]) -> list[list[Row]]:
    """The rows in groups: one per latency, the rates, the use of the machines, the caches, the transfers."""
    blocks = [
        [Row(f"{name} {which} ({unit})", _latency(of, read, scale), better="lower") for which, read in _SHOWN]
        for name, unit, scale, of in _LATENCIES
    ]
    blocks += [_rates(), _caches(results), _utilisation(results)]
    if any(result.adapters is not None for result in results):
        blocks.append(_adapters())
    if any(result.transfer is not None for result in results):
        blocks.append(_transfers())
    return [*blocks, _requests(results)]


def _rates() -> list[Row]:
    row = partial(Row, better="higher", tie=GOODPUT_TIE)
    completed = partial(row, alike=is_chance, holds_in_overload=True)
    return [
        completed("throughput (requests/s)", lambda result: result.throughput.requests_per_s),
        completed("output (tokens/s)", lambda result: result.throughput.output_tokens_per_s),
        completed("output (tokens/s/GPU)", lambda result: result.throughput.tokens_per_s_per_gpu),
        row("goodput (requests/s)", lambda result: result.goodput.requests_per_s, alike=good_alike),
        row("within SLO", lambda result: result.goodput.share, percent),
    ]


def _caches(results: Sequence[SystemSummary]) -> list[Row]:
    """Tiers have a line each where there are any."""
    tiers = dict.fromkeys(tier for result in results for tier in result.cache.tiers)
    return [
        Row("prefix hit rate", lambda result: result.cache.prefix_hit_rate, percent, better="higher", tie=GOODPUT_TIE),
        *(Row(f"of it from {tier}", _from_tier(tier), percent) for tier in tiers),
        Row("evictions (blocks)", lambda result: result.cache.evictions, _count),
        Row("preemptions", lambda result: result.preemptions, _count, better="lower"),
    ]


def _utilisation(results: Sequence[SystemSummary]) -> list[Row]:
    """A figure for each side of a system, in the order the label gives."""
    most = max((list(result.utilisation) for result in results), key=len)
    sides = f" ({' / '.join(most)})" if len(most) > 1 else ""
    return [
        Row(f"busy{sides}", _sides(lambda side: side.busy), percent),
        Row(f"KV held{sides}", _sides(lambda side: side.kv_usage), percent),
        Row(f"load{sides}", _sides(lambda side: side.load), percent),
    ]


def _adapters() -> list[Row]:
    """LoRA adapters that were brought into slots."""
    return [
        Row("adapters from host memory", _loaded(lambda use: use.from_host), _count),
        Row("adapters from disk", _loaded(lambda use: use.from_disk), _count),
        Row("steps waited for them (s)", _loaded(lambda use: use.lost_s)),
    ]


def _loaded(read: Callable[[AdapterUse], float]) -> Read:
    return lambda result: None if result.adapters is None else read(result.adapters)


def _transfers() -> list[Row]:
    return [
        Row("KV moved (GB)", _moved(lambda moved: moved.bytes_sent * 1e-9)),
        Row("transfer mean (ms)", _moved(lambda moved: moved.mean_s * 1e3)),
        Row("transfer hidden", _moved(lambda moved: moved.hidden_share), percent),
        Row("NIC out busy", _moved(lambda moved: moved.nic_out_utilisation), percent),
        Row("NIC in busy", _moved(lambda moved: moved.nic_in_utilisation), percent),
        Row("waits for decode room", _moved(lambda moved: moved.reservation_waits), _count),
    ]


def _requests(results: Sequence[SystemSummary]) -> list[Row]:
    """Failed and unfinished requests have a line only where there are any."""
    rows = [Row("requests completed", lambda result: result.requests.completed, _count)]
    if any(result.requests.failed for result in results):
        rows.append(Row("requests failed", lambda result: result.requests.failed, _count))
    if any(result.requests.in_flight for result in results):
        rows.append(Row("requests in flight", lambda result: result.requests.in_flight, _count))
    return rows


def _moved(read: Callable[[TransferUse], float]) -> Read:
    """``None`` where the system has no transfers, as unified instances have none."""
    return lambda result: None if result.transfer is None else read(result.transfer)


def _from_tier(tier: str) -> Read:
    return lambda result: result.cache.by_tier.get(tier)


def _sides(read: Callable[[SideUse], float | None]) -> Callable[[SystemSummary], list[float | None]]:
    return lambda result: [read(side) for side in result.utilisation.values()]


def _latency(of: Callable[[SystemSummary], Quantiles], read: Callable[[Quantiles], float | None], scale: float) -> Read:
    def scaled(result: SystemSummary) -> float | None:
        value = read(of(result))
        return None if value is None else value * scale

    return scaled


def _count(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.0f}"
