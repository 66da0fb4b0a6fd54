"""A recommendation on a terminal, 80 columns wide."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvsim.recommend.answer import Place, Recommendation
from kvsim.record.labels import counted, number, rate
from kvsim.units import MILLI

WIDTH = 80
_SHOWN_POINTS = 8
_ROOMY = 7
"""Columns that leave room beside them."""
_COSTS: tuple[tuple[str, Callable[[Place], float | None]], ...] = (
    ("USD a million", lambda place: place.gpu_usd_per_million_output_tokens),
    ("J each", lambda place: place.joules_per_output_token),
)
"""Columns that stand where a figure is known, of output tokens."""
_BEFORE = ("", "the first", "the second", "the third")
"""Whom a place is held against."""


def print_recommendation(console: Console, found: Recommendation) -> None:
    """All of it, the conclusion first."""
    console.print(Text(found.conclusion), soft_wrap=False)
    console.print(Text(found.reason))
    console.print(_best(found))
    costs = _costs(found)
    if costs is not None:
        console.print(costs)
    if any(point.on_tpot_front or point.on_ttft_front for point in found.pareto):
        console.print(_pareto(found))
    else:
        console.print(Text("No run stays within twice the limits, so there is no front of tokens/s/GPU and latency."))
    for line in _looked(found):
        console.print(Text(line))
    unkept = "" if found.keeps else " (it misses the SLO)"
    console.print(Text(f"To paste{unkept}:", style="bold"))
    for server in found.configuration.vllm:
        times = f"{server.servers} x {server.role}, {counted(server.gpus_each, 'GPU')} each:"
        console.print(Text(times))
        # Lines as a shell takes them, whatever their length.
        console.print(Text(folded(server.command)), soft_wrap=True)
    for note in found.configuration.notes:
        console.print(Text(f"note: {note}"))
    for warning in found.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))


def folded(command: str) -> str:
    """A command over several lines that a shell takes as one: as many flags with their values on each as fit."""
    parts: list[str] = []
    for word in map(shlex.quote, shlex.split(command)):
        if parts and not word.startswith("-"):
            parts[-1] += f" {word}"
        else:
            parts.append(word)
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) < WIDTH - 8:
            lines[-1] += f" {part}"
        else:
            lines.append(part)
    return "  " + " \\\n    ".join(lines)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1), pad_edge=False, width=WIDTH)
    if len(columns) > _ROOMY:
        table.padding = (0, 1, 0, 0)
    for place, name in enumerate(columns):
        table.add_column(
            name, justify="left" if place == 0 else "right", no_wrap=place > 0, ratio=1 if place == 0 else None
        )
    return table


def _best(found: Recommendation) -> Table:
    slo, at = found.asked.slo, rate(found.rate_per_s) if found.asked.rate_per_s else number(found.rate_per_s)
    timed = "TTFT and TPOT" if slo.e2e_ms is None else "TTFT, TPOT and E2E"
    title = f"At {at} requests/s; {timed} are those of {slo.share:.4g} of requests"
    last = () if slo.e2e_ms is None else ("E2E s",)
    table = _table(title, "deployment", "GPUs", "of limits", "good", "TTFT ms", "TPOT ms", *last, "tok/s/GPU")
    for at_place, place in enumerate(found.best):
        behind = "" if place.behind is None else f" ({_behind(place, at_place)})"
        table.add_row(
            f"{_two_lines(place.name)}{behind}",
            str(place.gpus),
            f"{place.slo_use.mean:.0%}",
            f"{place.good_share.mean:.2%}",
            number(place.ttft_ms["late"]),
            number(place.tpot_ms["late"]),
            *(() if slo.e2e_ms is None else (number(place.e2e_ms["late"] * MILLI),)),
            number(place.output_tokens_per_s_per_gpu),
        )
    return table


def _costs(found: Recommendation) -> Table | None:
    """Money and energy of the best; ``None``: neither is known of any."""
    shown = [(name, read) for name, read in _COSTS if any(read(place) is not None for place in found.best)]
    if not shown:
        return None
    table = _table("At that rate, GPUs alone, an output token", "deployment", *(name for name, _ in shown))
    for place in found.best:
        table.add_row(place.name, *(number(read(place)) for _, read in shown))
    return table


def _two_lines(name: str) -> str:
    """What runs where, and with which arguments."""
    structure, _, arguments = name.partition(", ")
    return f"{structure}\n{arguments}"


def _behind(place: Place, at: int) -> str:
    """What may be said of a place against the one before it, or the third."""
    before = _BEFORE[min(at, len(_BEFORE) - 1)]
    if place.behind is None or place.behind.verdict == "open":
        return f"not told apart from {before}"
    if place.behind.tie:
        return f"as good as {before}"
    return f"behind {before}" if place.behind.verdict == "higher" else f"ahead of {before}"


def _pareto(found: Recommendation) -> Table:
    table = _table(
        "Within twice the limits, beaten by none in tokens/s/GPU and latency",
        "deployment",
        "GPUs",
        "tok/s/GPU",
        "TPOT ms",
        "TTFT ms",
        "front",
    )
    front = [point for point in found.pareto if point.on_tpot_front or point.on_ttft_front]
    for point in front[:_SHOWN_POINTS]:
        fronts = [name for name, on in (("TPOT", point.on_tpot_front), ("TTFT", point.on_ttft_front)) if on]
        table.add_row(
            _two_lines(point.name),
            str(point.gpus),
            number(point.output_tokens_per_s_per_gpu),
            number(point.tpot_mean_ms),
            number(point.ttft_late_ms),
            "+".join(fronts),
        )
    if len(front) > _SHOWN_POINTS:
        table.caption = f"and {counted(len(front) - _SHOWN_POINTS, 'further deployment')}, in the JSON"
        table.caption_justify = "left"
    return table


def _looked(found: Recommendation) -> Iterator[str]:
    looked = found.looked
    gpus = f"{counted(found.asked.gpus, 'GPU')} ({found.asked.gpu})"
    yield (
        f"Of {looked.candidates:,} candidates on up to {gpus} {looked.simulated:,} were simulated, in "
        f"{looked.runs:,} runs of up to {looked.requests_of_a_run:,} requests."
    )
    for pruned in looked.pruned:
        yield f"Ruled out: {pruned.sentence}."
    if looked.same:
        yield f"{looked.same:,} gave the same run as another: what they differ in never mattered."
