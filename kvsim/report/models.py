"""The report of a cluster of several models: each model's own, and the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvsim.modes.models import ModelExperiments
from kvsim.record.cluster_figures import ClusterTotals
from kvsim.record.plain import plain
from kvsim.report.build import build
from kvsim.report.cluster_totals import OneModel, totals_of
from kvsim.report.json_report import json_text, write_json
from kvsim.report.report import Report
from kvsim.report.run_clock import RunClock
from kvsim.workload.by_model import PartOfTrace

if TYPE_CHECKING:
    from kvsim.plan.mode import ModeName


ONE_TIME = 0.8
"""Part of the longest window that has to be of all models, for their rates to be those of one time."""


@dataclass(frozen=True, kw_only=True)
class WholeCluster:
    """What there is to say of all models together."""

    status: str
    """``complete`` or ``incomplete``: an interrupt cut short or left out a model."""
    results: tuple[ClusterTotals, ...]
    """For each system that served every model, in the order of the first's; none where a model is missing."""
    notes: tuple[str, ...]
    caveat: str


@dataclass(frozen=True, kw_only=True)
class ModelsReport:
    """What a run of several models found out."""

    models: Mapping[str, Report]
    """By name, in the order in which they are described."""
    cluster: WholeCluster

    def to_json(self) -> str:
        """The report as ``--report-json`` writes it."""
        return json_text(plain(self))

    def write_json(self, path: Path | str) -> None:
        """Write :meth:`to_json`, whole or not at all; a path that cannot be written raises a ``KvsimError``."""
        write_json(Path(path), plain(self))


CAVEAT = (
    "models share GPUs, caches, tiers and links with no other: traffic of two models on one rack's uplink or in its "
    "memory pool does not meet"
)


def build_models(clock: RunClock, found: ModelExperiments, mode: ModeName, others_cpu_s: float = 0.0) -> ModelsReport:
    """The report of what was run; ``clock`` and ``others_cpu_s``, what other processes took, are of all of it."""
    runs = [run for run in found.asked.runs if run.name in found.experiments]
    reports = {run.name: build(clock, run.loaded, found.experiments[run.name], mode, others_cpu_s) for run in runs}
    whole = WholeCluster(
        status="incomplete" if found.incomplete else "complete",
        results=() if found.incomplete else _totals(found, reports),
        notes=(*found.asked.notes, *_windows_apart(found, reports)),
        caveat=CAVEAT,
    )
    return ModelsReport(models=reports, cluster=whole)


def _totals(found: ModelExperiments, reports: Mapping[str, Report]) -> tuple[ClusterTotals, ...]:
    systems: dict[str, list[OneModel]] = {}
    for name, report in reports.items():
        experiment = found.experiments[name]
        for told, result, plan in zip(report.results, experiment.results, experiment.plans, strict=True):
            systems.setdefault(told.name, []).append(OneModel(told, result, plan))
    whole = (models for models in systems.values() if len(models) == len(reports))
    return tuple(totals_of(models, found.asked.is_one_clock) for models in whole)


def _windows_apart(found: ModelExperiments, reports: Mapping[str, Report]) -> tuple[str, ...]:
    """What is to be known of rates that are added though requests of a trace came at unlike times."""
    is_trace = all(isinstance(run.spec.trace, PartOfTrace) for run in found.asked.runs)
    if found.incomplete or not is_trace or not found.asked.is_one_clock:
        return ()
    windows = {name: [told.window_s for told in own.results] for name, own in reports.items()}
    every = [window for own in windows.values() for window in own]
    shared_s = min(window.end for window in every) - max(window.start for window in every)
    if shared_s >= ONE_TIME * max(window.end - window.start for window in every):
        return ()
    told = ", ".join(f"{name} {own[0].start:,.0f} to {own[0].end:,.0f} s" for name, own in windows.items() if own)
    return (
        f"models are measured at unlike times of the trace ({told}): what is said of all adds the rates of each in its "
        "own window, and at no moment need all have been so",
    )
