"""kvsim from Python: one function for what the command runs, without its files and its terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvsim.capacity.sources import WordSource
from kvsim.config import Config, load_config
from kvsim.config.load import set_values
from kvsim.errors import ConfigError, nearest
from kvsim.launch import LaunchLine
from kvsim.modes.experiment import Experiment, ExperimentSpec, Variant, run_experiment
from kvsim.modes.models import model_runs, run_models
from kvsim.modes.prediction import PredictionSpec, run_prediction
from kvsim.modes.variants import Layers, variants_of
from kvsim.plan.deployment import launch_of, launch_words, load_deployment
from kvsim.plan.mode import MODES, PREDICT, Mode
from kvsim.report.build import build
from kvsim.report.models import build_models
from kvsim.report.report import Report
from kvsim.report.run_clock import RunClock
from kvsim.sim.executor import Executor, Processes
from kvsim.sim.run import SYSTEMS
from kvsim.simulation import ModelsSimulation, Simulation
from kvsim.study.catalogue import chosen
from kvsim.workload.read import read_trace
from kvsim.workload.traffic import TraceSource
from kvsim.workload.words import USUAL, word_of
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvsim.config import LoadedConfig
    from kvsim.plan.mode import ModeName
    from kvsim.sim.run import SystemName

__all__ = [
    "Config",
    "ModelsSimulation",
    "Report",
    "Simulation",
    "Workload",
    "load_config",
    "load_workload",
    "simulate",
    "simulate_models",
]

load_workload = read_trace


def simulate(
    what: str = "pd",
    *,
    gpu: str | None = None,
    instances: int = 1,
    engine: str | None = None,
    gpus: int | None = None,
    tp: int | None = None,
    workload: str | Path | None = None,
    rate: float | None = None,
    concurrency: int | None = None,
    requests: int | None = None,
    slo: Mapping[str, float] | None = None,
    config: Path | str | Mapping[str, Any] | Config | None = None,
    profile: Path | str | None = None,
    preset: str | None = None,
    sets: Sequence[str] | Mapping[str, Any] = (),
    trace: TraceSource | Path | str | None = None,
    load: float | None = None,
    load_of: SystemName | None = None,
    systems: Sequence[SystemName] | None = None,
    policy: str | None = None,
    replicas: int | None = None,
    studies: Sequence[str] | None = (),
    replications: int | None = None,
    searches_rate: bool = True,
    finds_binding: bool = True,
    detail: bool | None = None,
    jobs: int = 1,
) -> Simulation:
    """Predict a server, or run a mode, as the command does with the flags of these names; nothing is written.

    ``what`` is a server's command line (``"vllm serve MODEL ..."``), as ``kvsim predict`` takes it, or a mode: ``pd``,
    ``cluster`` or ``single``.

    A server: ``gpu`` in any spelling, ``instances`` of it behind one router; ``workload`` a word (``sharegpt``,
    ``in=2000,out=300``; by default ``chat``, as in ``pd``) or a trace file, at ``rate`` a second or for ``concurrency``
    users, ``requests`` of them; ``searches_rate``, ``finds_binding``: also find the largest rate within the SLO, what
    binds. A mode: ``engine`` a server's command line, ``gpu``, ``gpus`` in all, ``tp`` GPUs an instance; ``workload`` a
    word or ``trace`` a file, at ``rate`` or at ``load``, a share of the maximum rate of ``load_of``; ``studies`` are
    names, ``None`` for all of the mode; ``replications``: repeat what is compared on other requests, at most so often.

    ``slo``: ``{"ttft": ms, "tpot": ms}``. ``config`` (a file, a mapping as in config.yaml, or a ``Config``),
    ``profile``, ``preset`` and ``sets`` (``section.key=value`` each, or a mapping by dotted key) are laid over
    config.yaml in this order. ``detail``: keep steps, timelines and transfers; by default of a server alone. ``jobs``:
    simulations at a time; the report is the same but for its section ``run``.

    Raises a ``KvsimError``, one line, for what cannot be built or read. What fails beside the run itself, or a Ctrl-C
    after something has been simulated, leaves the rest: ``report.run`` says so in ``failures`` and ``status``.
    """
    _check_numbers(what, concurrency, rate=rate, load=load)
    _check_counts(instances=instances, gpus=gpus, tp=tp, concurrency=concurrency, requests=requests, jobs=jobs)
    if workload is None and trace is None and what not in MODES:
        workload = USUAL
    asked = _Asked(
        source=_source(workload, trace, concurrency, requests),
        rate_per_s=rate,
        load=load,
        profile=_path(profile),
        sets=(*_slo_sets(slo), *_assignments(sets)),
        detail=detail,
        jobs=jobs,
    )
    if what in MODES:
        _refuse({"instances": None if instances == 1 else instances}, "of a server; a mode takes gpus")
        given = config if isinstance(config, Mapping | Config) else _path(config)
        layers = Layers(given, asked.profile, preset, sets=asked.sets)
        layers = layers.with_server(MODES[what].name, _launch(engine), gpu, gpus, tp)
        return asked.mode(MODES[what], layers, engine, load_of, systems, policy, replicas, studies, replications)
    if " " not in what.strip():
        raise ConfigError(f"mode is '{what}'; {nearest(what, list(MODES))}, or a line such as 'vllm serve MODEL'")
    foreign: dict[str, object] = {"engine": engine, "gpus": gpus, "tp": tp, "preset": preset, "load_of": load_of}
    foreign |= {"policy": policy, "systems": systems, "replicas": replicas, "config": config}
    foreign |= {"studies": studies or None, "replications": replications}
    _refuse(foreign, "of the modes; a server has none")
    return asked.server(what, gpu, instances, searches_rate, finds_binding)


def simulate_models(
    what: str = "pd",
    *,
    config: Path | str | Mapping[str, Any] | Config,
    profile: Path | str | None = None,
    preset: str | None = None,
    sets: Sequence[str] | Mapping[str, Any] = (),
    workload: str | Path | None = None,
    requests: int | None = None,
    trace: TraceSource | Path | str | None = None,
    rate: float | None = None,
    load: float | None = None,
    load_of: SystemName | None = None,
    systems: Sequence[SystemName] | None = None,
    policy: str | None = None,
    replicas: int | None = None,
    slo: Mapping[str, float] | None = None,
    detail: bool = False,
    jobs: int = 1,
) -> ModelsSimulation:
    """Run a mode with several models in one cluster, as the command does; nothing is written.

    ``config`` has a list ``models`` (docs/several_models.md). ``trace``, ``workload``, ``requests`` and ``rate`` are of
    all models together and dealt to them; ``load`` is each one's own. All else is as in :func:`kvsim.simulate`, and so
    are errors; those of one model begin with its name.
    """
    clock = RunClock()
    _check_numbers(what, None, rate=rate, load=load)
    _check_counts(requests=requests, replicas=replicas, jobs=jobs)
    if what not in MODES:
        raise ConfigError(f"mode is '{what}'; {nearest(what, list(MODES))}")
    mode, assigned = MODES[what], (*_slo_sets(slo), *_assignments(sets))
    _check(mode.name, systems, load_of, policy, assigned)
    given = config if isinstance(config, Mapping | Config) else Path(config)
    layers = Layers(given, _path(profile), preset, sets=assigned)
    several = layers.several()
    if several is None:
        raise ConfigError("config has no models; kvsim.simulate runs one")
    asked = ExperimentSpec(
        mode,
        (),
        trace=_source(workload, trace, None, requests),
        rate_per_s=rate,
        load=load,
        load_of=load_of,
        replicas=replicas,
        keeps_detail=detail,
    )
    runs = model_runs(several, layers, asked, systems or SYSTEMS, policy)
    with Processes(jobs) as executor:
        found = run_models(runs, executor)
        report = build_models(clock, found, mode.name, executor.cpu_s)
    simulations = {name: Simulation(own, found.experiments[name]) for name, own in report.models.items()}
    return ModelsSimulation(report, simulations)


class _Asked:
    """What is asked of a server and of a mode alike."""

    def __init__(
        self,
        source: TraceSource | WordSource | None,
        rate_per_s: float | None,
        load: float | None,
        profile: Path | None,
        sets: tuple[str, ...],
        detail: bool | None,
        jobs: int,
    ) -> None:
        self._clock = RunClock()
        if jobs < 1:
            raise ConfigError(f"jobs is {jobs}; allowed: a whole number >= 1")
        self._source, self._rate_per_s, self._load = source, rate_per_s, load
        self.profile, self.sets, self._detail, self._jobs = profile, sets, detail, jobs

    def server(
        self, line: str, gpu: str | None, instances: int, searches_rate: bool, finds_binding: bool
    ) -> Simulation:
        launch = launch_of(line, None)
        loaded = load_deployment(launch, gpu=gpu, instances=instances, profile=self.profile, sets=self.sets)
        spec = ExperimentSpec(
            PREDICT,
            [Variant("unified", "unified", loaded.config)],
            self._source,
            rate_per_s=self._rate_per_s,
            load=self._load,
            keeps_detail=self._detail is not False,
        )
        run = partial(run_prediction, PredictionSpec(spec, searches_rate, finds_binding))
        return self._ran(loaded, run, "predict", (launch_words(line, None), launch))

    def mode(
        self,
        mode: Mode,
        layers: Layers,
        engine: str | None,
        load_of: SystemName | None,
        systems: Sequence[SystemName] | None,
        policy: str | None,
        replicas: int | None,
        studies: Sequence[str] | None,
        repeats: int | None,
    ) -> Simulation:
        _check(mode.name, systems, load_of, policy, self.sets)
        _check_counts(replications=repeats)
        loaded = layers.load(mode.name)
        spec = ExperimentSpec(
            mode=mode,
            variants=variants_of(mode, loaded, layers, systems or SYSTEMS, policy),
            trace=self._source,
            rate_per_s=self._rate_per_s,
            load=self._load,
            load_of=load_of,
            replicas=replicas,
            studies=chosen(mode.name, studies, systems or ()),
            repeats=repeats or 0,
            balances=layers.balances(mode, loaded, systems or SYSTEMS),
            keeps_detail=bool(self._detail),
        )
        launch = _launch(engine)
        words = None if launch is None or engine is None else (launch_words(engine, None), launch)
        return self._ran(loaded, partial(run_experiment, spec), mode.name, words)

    def _ran(
        self,
        loaded: LoadedConfig,
        run: Callable[[Executor], Experiment],
        mode: ModeName,
        launch: tuple[str, LaunchLine] | None,
    ) -> Simulation:
        with Processes(self._jobs) as executor:
            experiment = run(executor)
            return Simulation(build(self._clock, loaded, experiment, mode, executor.cpu_s, launch), experiment)


def _check_numbers(what: object, concurrency: int | None, **given: float | None) -> None:
    if not isinstance(what, str):
        raise ConfigError(f"what is {what!r}; a mode ({', '.join(MODES)}), or a line such as 'vllm serve MODEL'")
    for name, value in given.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
            raise ConfigError(f"{name} is {value!r}; must be a number")
    if given["rate"] is not None and (concurrency is not None or given["load"] is not None):
        raise ConfigError("rate excludes concurrency and load; give one")


def _check_counts(**given: int | None) -> None:
    for name, value in given.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
            raise ConfigError(f"{name} is {value!r}; must be a whole number, 1 or more")


def _launch(engine: str | None) -> LaunchLine | None:
    return None if engine is None else launch_of(engine, None)


def _source(
    workload: str | Path | None, trace: TraceSource | Path | str | None, concurrency: int | None, requests: int | None
) -> TraceSource | WordSource | None:
    """What is served; ``None``: the mode's own traffic."""
    if workload is not None and trace is not None:
        raise ConfigError("workload and trace exclude each other; give one")
    is_trace = trace is not None or (workload is not None and Path(workload).is_file() and concurrency is None)
    if is_trace or workload is None:
        _refuse({"concurrency": concurrency, "requests": requests}, "of a workload in a word; give one")
    if isinstance(trace, TraceSource):
        return trace
    if is_trace:
        return TraceSource(trace or workload or "")
    if workload is None:
        return None
    return WordSource(word_of(str(workload)), concurrency, num_requests=requests)


def _refuse(given: Mapping[str, object], why: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"{name} is {why}")


def _slo_sets(slo: Mapping[str, float] | None) -> tuple[str, ...]:
    for name in slo or {}:
        if name not in ("ttft", "tpot"):
            raise ConfigError(f"slo has '{name}'; {nearest(name, ['ttft', 'tpot'])}")
    return tuple(f"slo.{name}_ms={json.dumps(value)}" for name, value in (slo or {}).items())


def _assignments(sets: Sequence[str] | Mapping[str, Any]) -> tuple[str, ...]:
    if isinstance(sets, Mapping):
        return tuple(f"{key}={json.dumps(value)}" for key, value in sets.items())
    return tuple(sets)


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
