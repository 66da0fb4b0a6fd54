"""The terminal report of several models: who they are, one table, what each run concludes, what there is to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kvsim.config import Config
from kvsim.reasons.reason import most_important
from kvsim.record.cluster_figures import ClusterTotals, PeakGpus
from kvsim.record.figures import SideUse, SystemSummary
from kvsim.record.labels import counted, listed, number, percent, system_label
from kvsim.report import caveats
from kvsim.report.cluster_totals import instances_of
from kvsim.report.models import ModelsReport
from kvsim.report.report import Report
from kvsim.report.scaling import scaling_lines
from kvsim.report.tables import facts
from kvsim.report.whole import print_whole

FIRST_REASONS = 2
"""Reasons that are printed of each model; its report has all."""
_TOLD = ("cluster", "model", "step time", "workload", "load", "SLO")
"""What is said of each model before the figures."""


def print_models(console: Console, report: ModelsReport) -> None:
    """Print ``report`` for a person; 80 columns suffice."""
    for name, own in report.models.items():
        console.print(Text(name, style="bold"))
        console.print(Padding(_header(own), (0, 0, 0, 2)))
    for system in _systems(report):
        print_whole(console, models_table(report, system))
    for line in conclusions(report):
        console.print(Text(line, style="bold"))
    for line in advice(report):
        console.print(Text(line))
    for line in _reasons(report):
        console.print(Padding(Text(f"- {line}"), (0, 0, 0, 2)))
    for kind, style in (("violated", "bold white on red"), ("warning", "yellow"), ("note", "dim")):
        for line in _caveats(report, kind):
            console.print(Text(line, style=style))


def conclusions(report: ModelsReport) -> Iterator[str]:
    """What each model's run shows, with its name."""
    for name, own in report.models.items():
        yield f"{name}: {own.conclusion}"


def _header(report: Report) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, text in facts(report):
        if name in _TOLD:
            grid.add_row(name, Text(text))
    return grid


def _systems(report: ModelsReport) -> list[str]:
    return list(dict.fromkeys(result.name for own in report.models.values() for result in own.results))


def models_table(report: ModelsReport, system: str) -> Table:
    """A row a model that ``system`` served, and one of the whole cluster where that is known."""
    several = len(_systems(report)) > 1
    table = Table(
        title=f"Models on {system_label(system)}" if several else None,
        title_justify="left",
        title_style="",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("")
    for heading in _COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, own in report.models.items():
        for told in own.results:
            if told.name == system:
                table.add_row(name, *_cells(told, own))
    for whole in report.cluster.results:
        if whole.name == system:
            table.add_section()
            table.add_row("in all", *_cells_of_all(whole))
    return table


_COLUMNS = (
    "GPUs",
    "inst.",
    "req/s",
    "TTFT p50 ms",
    "TTFT p99 ms",
    "TPOT p50 ms",
    "hits",
    "within SLO",
    "USD/M out",
)


def _cells(told: SystemSummary, report: Report) -> tuple[str, ...]:
    return (
        f"{report.cluster.gpus:,}",
        f"{instances_of(told):,}",
        number(told.throughput.requests_per_s),
        number(told.ttft_ms.p50),
        number(told.ttft_ms.p99),
        number(told.tpot_ms.p50),
        percent(told.cache.prefix_hit_rate),
        percent(told.goodput.share),
        number(None if told.cost is None else told.cost.usd_per_million_output_tokens),
    )


def _cells_of_all(whole: ClusterTotals) -> tuple[str, ...]:
    return (
        f"{whole.gpus:,}",
        f"{whole.instances:,}",
        number(whole.requests_per_s),
        number(whole.ttft_ms.p50),
        number(whole.ttft_ms.p99),
        number(whole.tpot_ms.p50),
        percent(whole.prefix_hit_rate),
        percent(whole.goodput_share),
        number(whole.usd_per_million_output_tokens),
    )


def advice(report: ModelsReport) -> Iterator[str]:
    """Which models miss their SLO, which have GPUs to spare, how they scaled, what all cost, and what a shared pool of
    GPUs would save; with the systems' names where it is not so of all.
    """
    systems = _systems(report)
    said: dict[str, list[str]] = {}
    for system in systems:
        for line in dict.fromkeys(_advice(report, system)):
            said.setdefault(line, []).append(system_label(system))
    for line, whose in said.items():
        yield line if len(whose) == len(systems) else f"{', '.join(whose)}: {line}"


def _advice(report: ModelsReport, system: str) -> Iterator[str]:
    models = {name: (told, own) for name, own in report.models.items() for told in own.results if told.name == system}
    yield from _missed(models)
    yield from _spare(models)
    for name, (told, _) in models.items():
        for line in scaling_lines([told]):
            yield f"{name}: {line.strip()}"
    for whole in report.cluster.results:
        if whole.name == system:
            yield from _cost(whole)
            for peak in whole.peak_gpus or ():
                yield _peak(peak, whole)


Models = Mapping[str, tuple[SystemSummary, Report]]


def _missed(models: Models) -> Iterator[str]:
    for name, (told, own) in models.items():
        share, wanted = told.goodput.share, own.config.slo.share
        if share is not None and share < wanted:
            yield (
                f"Over its SLO: {name} has {_below(share, wanted)} of its requests within it, where {100 * wanted:g}% "
                "(slo.share) are wanted."
            )


def _below(share: float, wanted: float) -> str:
    """A share that is below ``wanted``, with digits enough to see it."""
    told = percent(share)
    if told[0] in "<>" or float(told.rstrip("%")) < 100 * wanted:
        return told
    digits = next((digits for digits in range(1, 15) if round(100 * share, digits) < 100 * wanted), 15)
    return f"{100 * share:.{digits}f}%"


def _spare(models: Models) -> Iterator[str]:
    """By arithmetic alone, and so said: a maximum rate goes with the number of instances."""
    for name, (told, own) in models.items():
        share, sides = told.goodput.share, told.utilisation
        if share is None or share < own.config.slo.share or not told.steady.ok or not _is_plain(told, own):
            continue
        needed = {role: _needed(side, own.config) for role, side in sides.items()}
        gpus = sum(side.gpus // side.instances * (side.instances - needed[role]) for role, side in sides.items())
        if not gpus:
            continue
        now = [percent(side.load) for side in sides.values()]
        then = [percent((side.load or 0.0) * side.instances / needed[role]) for role, side in sides.items()]
        yield (
            f"GPUs to spare: {name} is within its SLO at {' and '.join(now)} of {_maxima(sides)}; without {gpus:,} "
            f"of its {own.cluster.gpus:,} GPUs that would be {' and '.join(then)}, by arithmetic: nothing was run so."
        )


def _maxima(sides: Mapping[str, SideUse]) -> str:
    return "its maximum rate" if len(sides) == 1 else f"the maximum rates of {' and '.join(sides)}"


def _is_plain(told: SystemSummary, own: Report) -> bool:
    """Whether instances are alike, all there all the time, and in no cells, so that a maximum rate goes with their
    number."""
    return (
        told.fleet is None
        and own.config.routing.cells is None
        and not any(side.kinds for side in told.utilisation.values())
    )


def _needed(side: SideUse, config: Config) -> int:
    """The fewest instances that are loaded to ``load.rho`` at the most, in whole data-parallel groups; all where their
    load is not known or above that, or that is no load which a system keeps up with."""
    rho, group = config.load.rho, config.engine.data_parallel_size
    if side.load is None or rho >= 1:
        return side.instances
    needed = max(1, math.ceil(side.load * side.instances / rho))
    return min(side.instances, -(-needed // group) * group)


def _cost(whole: ClusterTotals) -> Iterator[str]:
    if whole.usd_per_hour is not None:
        yield (
            f"Money of the whole cluster: {number(whole.usd_per_hour)} USD an hour, "
            f"{number(whole.usd_per_million_output_tokens)} per million output tokens."
        )
    if whole.joules_per_output_token is not None:
        yield f"Energy of the whole cluster, GPUs alone: {number(whole.joules_per_output_token)} J per output token."


def _peak(peak: PeakGpus, whole: ClusterTotals) -> str:
    kind = f" of {peak.gpu}" if len(whole.peak_gpus or ()) > 1 else ""
    until = f", to {number(peak.until_s)} s, where the first run ends and others had more later" * peak.has_more_later
    said = (
        f"GPUs{kind} in use at one moment{until}: {peak.together:,} at most (at {number(peak.at_s)} s); "
        f"each model's own most, added up: {peak.apart:,}"
    )
    if peak.together == peak.apart:
        return f"{said}: a shared pool of spare GPUs would have saved none."
    saved = peak.apart - peak.together
    return f"{said}: a shared pool of spare GPUs would have had {counted(saved, 'GPU')} fewer."


def _reasons(report: ModelsReport) -> Iterator[str]:
    """The first reasons of each model, with its name, and the system's where several were run."""
    for name, own in report.models.items():
        several = len(own.results) > 1
        for reason in most_important(own.why, FIRST_REASONS):
            system = f", {system_label(reason.system)}" if several and reason.system is not None else ""
            yield f"{name}{system}: {reason.sentence}"


_KINDS: Mapping[str, Callable[[Report], Iterable[str]]] = {
    "violated": caveats.violations,
    "warning": caveats.warnings,
    "note": partial(caveats.notes, with_run=False),
}


def _caveats(report: ModelsReport, kind: str) -> Iterator[str]:
    """Each line once, with the names of the models that it is of; without any where it is of all of several."""
    said: dict[str, list[str]] = {}
    for name, own in report.models.items():
        for line in dict.fromkeys(_KINDS[kind](own)):
            said.setdefault(line, []).append(name)
    head = "CONSERVATION VIOLATED, the figures above are wrong. " if kind == "violated" else f"{kind}: "
    for line, names in said.items():
        yield f"{head}{_whose(names, report.models)}{line}"
    if kind == "warning" and report.cluster.status != "complete":
        yield f"{head}{_missing(report)}"
    if kind == "note":
        last = list(report.models.values())[-1]
        for line in (*caveats.of_run(last), *report.cluster.notes, report.cluster.caveat):
            yield f"{head}{line}"


def _whose(names: Sequence[str], models: Mapping[str, Report]) -> str:
    return "" if len(names) == len(models) > 1 else f"{', '.join(names)}: "


def _missing(report: ModelsReport) -> str:
    return f"interrupted: what there is is of {listed(list(report.models))}; of the whole cluster there is no result"
