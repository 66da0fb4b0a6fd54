"""Whole runs of a mode, in this process."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kvsim.capacity.demand import Demand
from kvsim.config import Config
from kvsim.modes.experiment import Experiment, ExperimentSpec, Variant, pd_variants, run_experiment
from kvsim.plan.mode import PD, Mode
from kvsim.plan.plan import Plan
from kvsim.sim.executor import Serial
from kvsim.sim.run import SYSTEMS, ProgressMaker, quiet
from kvsim.study.context import StudyContext
from kvsim.workload.traffic import Traffic
from kvsim.workload.workload import Workload


def run_pd(
    config: Config, systems: tuple[str, ...] = SYSTEMS, progress: ProgressMaker = quiet, **asked: Any
) -> Experiment:
    """``--pd``."""
    return run_experiment(ExperimentSpec(PD, pd_variants(config, systems), **asked), Serial(progress))


def run_tiered(mode: Mode, variants: dict[str, Config], progress: ProgressMaker = quiet, **asked: Any) -> Experiment:
    """The single node or ``--cluster``, with these variants."""
    named = [Variant(name, "unified", config) for name, config in variants.items()]
    return run_experiment(ExperimentSpec(mode, named, **asked), Serial(progress))


def context_of(
    plan: Plan, traffic: Traffic, rate_per_s: float, demand: Demand | None = None, served: Workload | None = None
) -> StudyContext:
    """Where studies of a ``--pd`` run start from that was driven at ``rate_per_s``, of which no more need be known."""
    run = SimpleNamespace(mean_rate_per_s=rate_per_s) if served is None else served
    return StudyContext(PD, plan, run, traffic, demand, 1, Serial())  # type: ignore[arg-type]
