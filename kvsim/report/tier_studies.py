"""The studies of memory on the terminal: a table and a sentence each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvsim.report.labels import number, percent
from kvsim.report.studies import budget_spent, change, instances_of, preamble, runs_of, said_of
from kvsim.report.whole import print_whole

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
    if studies:
        console.print(Text(preamble(studies)))
        console.print()
    for name, study in studies.items():
        table, sentence = printers[name]
        print_whole(console, table(study))
        console.print(Text(sentence(study), style="bold"))
        console.print()


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        min_width=max(map(len, title.splitlines())),
    )
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table


def _capacity(study: Study) -> Table:
    policies = list(study["rows"][0]["policies"]) if study["rows"] else ["any policy"]
    title = f"Hit rate and mean TTFT (ms) over host memory, nothing below it\n{_scale(study)}, one run each"
    table = _table(title, "GB a host", *policies)
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
    return (
        f"in one run each, under LRU {bend}, and {full} gives all that memory without end would ({percent(whole)} "
        f"against {percent(base)} without); {_gap(study)}{_growing(('without host memory', study['without']))}"
    )


def _growing(*runs: tuple[str, Mapping[str, Any]]) -> str:
    """What to add to a sentence where most runs of some memory were overloaded, named by it."""
    over = [name for name, found in runs if found["growing_share"] >= 0.5]
    if not over:
        return ""
    return f"; {', '.join(over)}: the run's rate is too much there, and TTFT grows with the length of runs"


def _gap(study: Study) -> str:
    """What the policies are from the oracle."""
    widest = study["widest_gap"]
    if widest is None:
        return (
            f"policies are not told apart: hit rates fall by up to {study['noise_hit_points']:.1f} points where more "
            "memory can only raise them, and LRU is nowhere farther from the oracle"
        )
    where = f"at {number(widest['capacity_gb_per_host'])} GB, where LRU is farthest from the oracle"
    hits, ttft = widest["hit_rate"], widest["ttft_mean_ms"]
    if hits["verdict"] not in ("lower", "higher"):
        words = "tie in hit rate" if hits["tie"] else "are not told apart"
        return f"{where}, the two {words} in {runs_of(widest)}{budget_spent(widest)}"
    points = {**hits, **{name: 100 * hits[name] for name in ("mean", "half_width")}}
    return (
        f"{where}, {runs_of(widest)} give the oracle {said_of(points, ' points')} of hit rate; mean TTFT: "
        f"{said_of(ttft)}{budget_spent(widest)}"
    )


def _scale(study: Study) -> str:
    return f"{instances_of(study)}, {study['requests']:,} requests a run"


def _sample(study: Study) -> str:
    return f"{instances_of(study)}, {runs_of(study)}"


def _tiers(study: Study) -> Table:
    title = f"What each tier adds\n{_sample(study)}"
    table = _table(title, "tiers", "hit rate", "TTFT mean ms", "p99", "used GB", "TTFT change", "ms a TB")
    for row in study["rows"]:
        added = row.get("added")
        extra = (
            [number(added["used_gb"]), change(added["ttft_difference_ms"]), number(added["ttft_mean_ms_per_tb"])]
            if added
            else ["", "", ""]
        )
        name = f"+ {row['tiers'][-1]}" if added else " + ".join(row["tiers"])
        table.add_row(name, percent(row["hit_rate"]), number(row["ttft_mean_ms"]), number(row["ttft_p99_ms"]), *extra)
    return table


def tiers_sentence(study: Study) -> str:
    """What each of them saves."""
    added = [row for row in study["rows"] if row.get("added")]
    if not added:
        return "there are no tiers below the instances' own caches"
    growing = _growing(*((" + ".join(row["tiers"]), row) for row in study["rows"]))
    saving = [row for row in added if row["added"]["ttft_difference_ms"]["verdict"] == "lower"]
    unclear = [row["tiers"][-1] for row in added if row["added"]["ttft_difference_ms"]["verdict"] == "open"]
    if not saving and not unclear:
        share = f"{100 * study['tie_share']:g}%"
        none = f"no tier lowers mean TTFT by more than {share}: those above it hold what is asked for again"
        return none + growing
    said = [
        f"{row['tiers'][-1]} saves {_width(row['added']['ttft_difference_ms'])} ms of mean TTFT and "
        f"{row['added']['hit_points']:.1f} points of hit rate, with {number(row['added']['used_gb'])} GB in use"
        for row in saving
    ]
    said += [f"what {', '.join(unclear)} saves of mean TTFT is not told apart from nothing"] if unclear else []
    return "; ".join(said) + growing + budget_spent(study)


def _width(saved: Mapping[str, Any]) -> str:
    """What is saved, as a number above zero; with its half width where that is not as narrow as was wanted."""
    width = "" if saved["precise"] else f" ± {number(saved['half_width'])}"
    return f"{number(-saved['mean'])}{width}"


def _eic(study: Study) -> Table:
    table = _table(
        f"The rack's pool: hits, and TTFT by mean and p99\n{_sample(study)}",
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
        f"hit rate from {percent(off['hit_rate'])} to {percent(_beside_off(largest, off, 'hit_rate'))} and mean TTFT "
        f"from {number(off['ttft_mean_ms'])} to {number(_beside_off(largest, off, 'ttft_mean_ms'))} "
        f"ms{_verdict(largest)}"
    ]
    for small in study["smaller_than_an_instance"]:
        row = next(row for row in alone if row["pool_gb_per_rack"] == small)
        if largest["over_no_pool"]["hit_rate"]["verdict"] != "higher":
            continue
        gains = [found["over_no_pool"]["hit_rate"]["mean"] for found in (row, largest)]
        share = gains[0] / gains[1]
        said.append(
            f"one of {number(small)} GB, less than the {number(study['hbm_kv_gb_per_instance'])} GB that one instance "
            f"holds itself, buys {percent(max(share, 0.0))} of those hits"
        )
    if largest["busiest_share"].get("eic", 0.0) > 0.9:
        said.append("its port is the bottleneck")
    beside = [(f"{' + '.join(row['beside'])}, {number(row['pool_gb_per_rack'])} GB", row) for row in study["rows"]]
    return "; ".join(said + _beside_memory(study)) + _growing(*beside) + budget_spent(study)


def _beside_off(row: Mapping[str, Any], off: Mapping[str, Any], metric: str) -> float:
    """What no pool has, and the difference to it: it may have been run more often than ``row``."""
    found: float = off[metric] + row["over_no_pool"][metric]["mean"]
    return found


def _verdict(row: Mapping[str, Any]) -> str:
    """Whether that much less or more TTFT than without a pool is one."""
    words = {"same": ", which is the same", "tie": ", a tie", "open": ", which are not told apart"}
    return words.get(row["over_no_pool"]["ttft_mean_ms"]["verdict"], "")


def _beside_memory(study: Study) -> list[str]:
    """What the largest pool adds where hosts have memory too."""
    beside = [row for row in study["rows"] if len(row["beside"]) > 1]
    if not beside:
        return []
    off, largest = beside[0], max(beside, key=lambda row: row["pool_gb_per_rack"])
    return [
        f"beside host memory, which hits {percent(off['hit_rate'])}, "
        f"{percent(_beside_off(largest, off, 'hit_rate'))} and {number(off['ttft_mean_ms'])} to "
        f"{number(_beside_off(largest, off, 'ttft_mean_ms'))} ms{_verdict(largest)}"
    ]


def _contexts(study: Study) -> Table:
    title = f"Contexts, with tiers and without: hits, mean TTFT (ms)\n{_sample(study)}"
    table = _table(title, "tokens", "hits", "TTFT", "p99", "without", "TTFT", "p99", "change")
    for row in study["rows"]:
        cells = []
        for which in ("with_tiers", "without"):
            found = row[which]
            cells += [percent(found["hit_rate"]), number(found["ttft_mean_ms"]), number(found["ttft_p99_ms"])]
        table.add_row(f"{row['context_tokens']:,}", *cells, change(row["saved"]))
    return table


def contexts_sentence(study: Study) -> str:
    """What tiers save at each length, as a share of what TTFT is there without them too."""
    if not study["rows"]:
        return "no context length fits the model"
    growing = _growing(*((f"without tiers at {row['context_tokens']:,}", row["without"]) for row in study["rows"]))
    saving = [row for row in study["rows"] if row["saved"]["verdict"] == "lower"]
    unclear = [row for row in study["rows"] if row["saved"]["verdict"] == "open"]
    if not saving and not unclear:
        return f"tiers lower mean TTFT by less than {100 * study['tie_share']:g}% at every context{growing}"
    said = [
        f"at {row['context_tokens']:,} tokens tiers save {_width(row['saved'])} ms of mean TTFT, "
        f"{percent(-row['saved']['mean'] / row['without']['ttft_mean_ms'])}"
        for row in saving
    ]
    if unclear:
        lengths = ", ".join(f"{row['context_tokens']:,}" for row in unclear)
        said.append(f"at {lengths} tokens with and without tiers are not told apart")
    return "; ".join(said) + growing + budget_spent(study)
