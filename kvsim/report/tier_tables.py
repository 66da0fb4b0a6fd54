"""Tables of policies and memories compared: a line a variant, where hits and misses come from, what tiers did."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from kvsim.record.figures import SystemSummary
from kvsim.record.labels import counted, number, percent
from kvsim.report.tier_conclusion import MISS_LABELS, ORACLE, hit_rate


def _grid(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def variants_table(results: Sequence[SystemSummary]) -> Table:
    oracle = next((result for result in results if result.name == ORACLE), None)
    columns = ["hits", "TTFT mean ms", "p50", "p99", "TPOT ms", "goodput a s"]
    table = _grid("", [*columns, "oracle points", "oracle ms"] if oracle else columns)
    for result in results:
        ttft = result.ttft_ms
        cells = [
            percent(hit_rate(result)),
            number(ttft.mean),
            number(ttft.p50),
            number(ttft.p99),
            number(result.tpot_ms.mean),
            number(result.goodput.requests_per_s),
        ]
        if oracle is not None:
            cells += _gap(result, oracle)
        table.add_row(result.name, *cells)
    return table


def _gap(result: SystemSummary, oracle: SystemSummary) -> list[str]:
    """What the oracle hits more, and by how much its TTFT is longer."""
    points = 100 * (hit_rate(oracle) - hit_rate(result))
    longer_ms = (oracle.ttft_ms.mean or 0.0) - (result.ttft_ms.mean or 0.0)
    # Adding zero takes the sign from a rounded minus zero.
    return [f"{round(points, 1) + 0.0:+.1f}", f"{round(longer_ms, 1) + 0.0:+,.1f}"]


def sources_table(results: Sequence[SystemSummary]) -> Table:
    """Where the tokens of prompts came from; misses are counted when one is looked up, hits when it is served."""
    tiers = list(results[0].cache.by_tier)
    shown = [key for key in MISS_LABELS if any(result.cache.misses.get(key) for result in results)]
    table = _grid("Where prompt tokens come from", [result.name.replace("_", "_\n") for result in results])
    for name in dict.fromkeys([*tiers, *(tier for result in results for tier in result.cache.by_tier)]):
        table.add_row(f"hit in {name}", *(percent(result.cache.by_tier.get(name, 0.0)) for result in results))
    for key in shown:
        cells = [percent(result.cache.misses.get(key, 0.0)) for result in results]
        table.add_row(MISS_LABELS[key], *cells)
    return table


def tiers_table(result: SystemSummary) -> Table:
    columns = ["size TB", "used", "read GB", "written GB", "evicted", "busiest", "wait ms"]
    table = _grid(f"Tiers: {result.name}", columns)
    for name, tier in result.cache.tiers.items():
        used = tier.held_bytes / tier.capacity_bytes if tier.capacity_bytes else None
        table.add_row(
            f"{tier.tiers:,} x {name}",
            number(tier.capacity_bytes / 1e12),
            percent(used),
            number(tier.read_bytes / 1e9),
            number(tier.written_bytes / 1e9),
            f"{tier.evicted_chunks:,}",
            percent(tier.busiest_share),
            number(tier.mean_wait_s * 1e3),
        )
    active = result.cache.active
    table.caption = f"{counted(active.instances, 'instance')} in {counted(active.racks, 'rack')} served requests"
    table.caption_justify = "left"
    return table
