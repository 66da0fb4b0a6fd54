"""The studies of memory on the terminal: a table and a sentence each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvsim.report.labels import number, percent

Study = Mapping[str, Any]
ENOUGH = 0.98
"""Of the hits that memory without end would give: more is called all of them."""


def print_tier_studies(console: Console, studies: Mapping[str, Study]) -> None:
    """Print every study of ``report["studies"]``."""
    printers: dict[str, tuple[Callable[[Study], Table], Callable[[Study], str]]] = {
        "capacity": (_capacity, capacity_sentence),
        "tiers": (_tiers, tiers_sentence),
        "eic": (_eic, eic_sentence),
        "contexts": (_contexts, contexts_sentence),
    }
    for name, study in studies.items():
        table, sentence = printers[name]
        console.print(table(study))
        console.print(Text(sentence(study), style="bold"))
        console.print()


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _capacity(study: Study) -> Table:
    policies = list(study["rows"][0]["policies"]) if study["rows"] else ["any policy"]
    table = _table("Hit rate and mean TTFT (ms) over host memory, nothing below it", "GB a host", *policies)
    without = f"{percent(study['without']['hit_rate'])} {number(study['without']['ttft_mean_ms'])}"
    table.add_row("0", *[without for _ in policies])
    for row in study["rows"]:
        cells = [f"{percent(f['hit_rate'])} {number(f['ttft_mean_ms'])}" for f in row["policies"].values()]
        table.add_row(number(row["capacity_gb_per_host"]), *cells)
    return table


def capacity_sentence(study: Study) -> str:
    """Where the knee is, what all of it would give, and the widest gap to the oracle."""
    rows, knee = study["rows"], study["knee_gb_per_host"]
    base, whole = study["without"]["hit_rate"], study["whole"]["hit_rate"]
    if not rows:
        return "nothing reaches host memory: no chunk of a prompt was written to it"
    if whole - base < 0.005:
        return "host memory adds next to nothing: the instances' own caches hold what is asked for again"
    wanted = base + ENOUGH * (whole - base)
    enough = next((row for row in rows if row["policies"]["lru"]["hit_rate"] >= wanted), None)
    full = "no size tried" if enough is None else f"{number(enough['capacity_gb_per_host'])} GB a host"
    bend = "there is no knee" if knee is None else f"the curve bends at {number(knee)} GB a host"
    gaps = [(found["lru"], row) for row, found in zip(rows, study["gap_to_belady"], strict=True)]
    gap, row = max(gaps, key=lambda pair: pair[0]["hit_points"])
    head = (
        f"under LRU {bend}, and {full} gives all that memory without end would ({percent(whole)} against "
        f"{percent(base)} without); "
    )
    if gap["hit_points"] <= study["noise_hit_points"]:
        return head + (
            f"policies are not told apart: hit rates fall by up to {study['noise_hit_points']:.1f} points where more "
            "memory can only raise them, and LRU is nowhere farther from the oracle"
        )
    return head + (
        f"LRU is farthest from the oracle at {number(row['capacity_gb_per_host'])} GB: "
        f"{gap['hit_points']:.1f} points of hit rate, {number(gap['ttft_mean_ms'])} ms of mean TTFT"
    )


def _tiers(study: Study) -> Table:
    table = _table("What each tier adds", "tiers", "hit rate", "TTFT mean ms", "p99", "used GB", "ms saved", "ms a TB")
    for row in study["rows"]:
        added = row.get("added")
        extra = (
            [number(added["used_gb"]), number(added["ttft_mean_ms"]), number(added["ttft_mean_ms_per_tb"])]
            if added
            else ["", "", ""]
        )
        name = f"+ {row['tiers'][-1]}" if added else " + ".join(row["tiers"])
        table.add_row(name, percent(row["hit_rate"]), number(row["ttft_mean_ms"]), number(row["ttft_p99_ms"]), *extra)
    return table


def tiers_sentence(study: Study) -> str:
    """Which of them saves most."""
    added = [row for row in study["rows"] if row.get("added")]
    if not added:
        return "there are no tiers below the instances' own caches"
    best = max(added, key=lambda row: row["added"]["ttft_mean_ms"])
    if best["added"]["ttft_mean_ms"] <= 0.01 * best["ttft_mean_ms"]:
        return "no tier lowers mean TTFT by more than 1%: the instances' own caches hold what is asked for again"
    return (
        f"{best['tiers'][-1]} saves most: {number(best['added']['ttft_mean_ms'])} ms of mean TTFT and "
        f"{best['added']['hit_points']:.1f} points of hit rate, with {number(best['added']['used_gb'])} GB in use"
    )


def _eic(study: Study) -> Table:
    table = _table(
        "The rack's pool: hits, and TTFT by mean and p99",
        *("beside", "GB a rack", "hits", "by pool", "mean ms", "p99 ms", "busiest", "wait ms"),
    )
    for row in study["rows"]:
        table.add_row(
            " + ".join(row["beside"]),
            number(row["pool_gb_per_rack"]),
            percent(row["hit_rate"]),
            percent(row["by_tier"].get("eic", 0.0)),
            number(row["ttft_mean_ms"]),
            number(row["ttft_p99_ms"]),
            percent(row["busiest_share"].get("eic", 0.0)),
            number(row["mean_wait_ms"].get("eic", 0.0)),
        )
    return table


def eic_sentence(study: Study) -> str:
    """What the pool changes, and that a small one does not."""
    alone = [row for row in study["rows"] if row["beside"] == ["hbm"]]
    off = next((row for row in alone if not row["pool_gb_per_rack"]), alone[0])
    largest = max(alone, key=lambda row: row["pool_gb_per_rack"])
    said = [
        f"beside the instances' own caches alone, a pool of {number(largest['pool_gb_per_rack'])} GB a rack takes the "
        f"hit rate from {percent(off['hit_rate'])} "
        f"to {percent(largest['hit_rate'])} and mean TTFT from {number(off['ttft_mean_ms'])} to "
        f"{number(largest['ttft_mean_ms'])} ms"
    ]
    for small in study["smaller_than_an_instance"]:
        row = next(row for row in alone if row["pool_gb_per_rack"] == small)
        share = (row["hit_rate"] - off["hit_rate"]) / max(largest["hit_rate"] - off["hit_rate"], 1e-9)
        said.append(
            f"one of {number(small)} GB, less than the {number(study['hbm_kv_gb_per_instance'])} GB that one instance "
            f"holds itself, buys {percent(max(share, 0.0))} of those hits"
        )
    if largest["busiest_share"].get("eic", 0.0) > 0.9:
        said.append("its port is the bottleneck")
    return "; ".join(said + _beside_memory(study))


def _beside_memory(study: Study) -> list[str]:
    """What the largest pool adds where hosts have memory too."""
    beside = [row for row in study["rows"] if len(row["beside"]) > 1]
    if not beside:
        return []
    off, largest = beside[0], max(beside, key=lambda row: row["pool_gb_per_rack"])
    return [
        f"beside host memory, which hits {percent(off['hit_rate'])}, {percent(largest['hit_rate'])} and "
        f"{number(off['ttft_mean_ms'])} to {number(largest['ttft_mean_ms'])} ms"
    ]


def _contexts(study: Study) -> Table:
    table = _table("Contexts", "tokens", "hit rate", "TTFT mean ms", "p99", "no tiers: hit rate", "TTFT mean ms", "p99")
    for row in study["rows"]:
        cells = []
        for which in ("with_tiers", "without"):
            found = row[which]
            cells += [percent(found["hit_rate"]), number(found["ttft_mean_ms"]), number(found["ttft_p99_ms"])]
        table.add_row(f"{row['context_tokens']:,}", *cells)
    return table


def contexts_sentence(study: Study) -> str:
    """Where tiers matter most, as a share of what TTFT is there without them."""
    if not study["rows"]:
        return "no context length fits the model"
    shares = [(1 - row["with_tiers"]["ttft_mean_ms"] / row["without"]["ttft_mean_ms"], row) for row in study["rows"]]
    share, row = max(shares, key=lambda pair: pair[0])
    if share < 0.01:
        return "tiers lower mean TTFT by less than 1% at every context"
    saved_ms = row["without"]["ttft_mean_ms"] - row["with_tiers"]["ttft_mean_ms"]
    return (
        f"tiers save most at contexts of {row['context_tokens']:,} tokens: {percent(share)} of mean TTFT, "
        f"{number(saved_ms)} ms"
    )
