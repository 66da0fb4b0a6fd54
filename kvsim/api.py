"""kvsim from Python: one function for what the command runs, without its files and its terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kvsim.config.load import set_values
from kvsim.errors import ConfigError, nearest
from kvsim.modes.experiment import ExperimentSpec, run_experiment
from kvsim.modes.variants import Layers, variants_of
from kvsim.plan.mode import MODES
from kvsim.report.build import build
from kvsim.report.report import Report
from kvsim.report.run_clock import RunClock
from kvsim.sim.executor import Processes
from kvsim.sim.run import SYSTEMS
from kvsim.study.catalogue import chosen
from kvsim.workload.read import read_trace
from kvsim.workload.traffic import TraceSource
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from kvsim.plan.mode import ModeName
    from kvsim.sim.run import SystemName

__all__ = ["Report", "Workload", "load_workload", "simulate"]

load_workload = read_trace


def simulate(
    mode: ModeName = "pd",
    *,
    config: Path | str | None = None,
    profile: Path | str | None = None,
    preset: str | None = None,
    sets: Sequence[str] = (),
    trace: TraceSource | Path | str | None = None,
    load: float | None = None,
    load_of: SystemName | None = None,
    systems: Sequence[SystemName] | None = None,
    policy: str | None = None,
    replicas: int | None = None,
    studies: Sequence[str] | None = (),
    jobs: int = 1,
) -> Report:
    """Run a mode as the command does with the flags of these names, and return its report; nothing is written.

    ``mode`` is ``pd``, ``cluster`` or ``single``. ``sets`` are assignments ``section.key=value``, the seed among them;
    ``config``, ``profile``, ``preset`` and ``sets`` are laid over config.yaml in this order. ``load`` is a share of the
    maximum rate of ``load_of``. ``studies`` are names, ``None`` for all of the mode. ``jobs``: simulations at a time;
    the report is the same but for its section ``run``.

    Raises a ``KvsimError``, one line, for what cannot be built or read. A study that fails, or a Ctrl-C after something
    has been simulated, leaves the rest: ``report.run`` says so in ``failures`` and ``status``.
    """
    clock = RunClock()
    if mode not in MODES:
        raise ConfigError(f"mode is '{mode}'; {nearest(mode, list(MODES))}")
    if jobs < 1:
        raise ConfigError(f"jobs is {jobs}; allowed: a whole number >= 1")
    _check(mode, systems, load_of, policy, sets)
    layers = Layers(_path(config), _path(profile), preset, sets=tuple(sets))
    loaded = layers.load(mode)
    names = chosen(mode, studies, systems or ())
    spec = ExperimentSpec(
        mode=MODES[mode],
        variants=variants_of(MODES[mode], loaded, layers, systems or SYSTEMS, policy),
        trace=TraceSource(trace) if isinstance(trace, Path | str) else trace,
        load=load,
        load_of=load_of,
        replicas=replicas,
        studies=names,
    )
    with Processes(jobs) as executor:
        experiment = run_experiment(spec, executor)
        return build(clock, loaded, experiment, mode, executor.cpu_s)


def _check(
    mode: ModeName,
    systems: Sequence[SystemName] | None,
    load_of: SystemName | None,
    policy: str | None,
    sets: Sequence[str],
) -> None:
    """Raise ``ConfigError`` for what would have no effect, or contradicts something else."""
    if mode == "pd" and policy is not None:
        raise ConfigError("policy is for the modes 'single' and 'cluster'; 'pd' takes 'policies.eviction=...' in sets")
    if mode != "pd" and (systems is not None or load_of is not None):
        raise ConfigError("systems and load_of are for the mode 'pd'; the others run unified instances alone")
    if systems is not None and not systems:
        raise ConfigError(f"systems is empty; allowed: some of {', '.join(SYSTEMS)}")
    for name in systems or ():
        if name not in SYSTEMS:
            raise ConfigError(f"systems has '{name}'; {nearest(name, list(SYSTEMS))}")
    has_pd = mode == "pd" and "pd" in (systems or SYSTEMS)
    if has_pd and set_values(sets).get("pd_separation.enabled") is False:
        raise ConfigError("pd_separation.enabled=false contradicts the system 'pd'; systems=['unified'] runs the other")


def _path(given: Path | str | None) -> Path | None:
    return None if given is None else Path(given)
