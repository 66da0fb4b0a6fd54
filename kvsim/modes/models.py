"""Several models in one cluster: each has GPUs of its own, and is a run of its own beside the others.

A gateway sends a request to the instances of the model that it asks, and these serve no other. So models share neither
queues nor caches, and what one does is what it would do alone with its part of the requests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from kvsim.capacity.sources import WordSource, check_rate
from kvsim.config import Config, LoadedConfig, derived
from kvsim.config.load import Several, set_values
from kvsim.config.models_keys import ModelItem
from kvsim.config.tree import dump, get, has
from kvsim.errors import ConfigError, KvsimError
from kvsim.modes.experiment import Experiment, ExperimentSpec, run_experiment
from kvsim.modes.variants import Layers, variants_of
from kvsim.plan.mode import Mode
from kvsim.sim.executor import Executor
from kvsim.sim.run import SYSTEMS
from kvsim.workload.by_model import PartOfTrace, Taker, TraceWithModels, parted
from kvsim.workload.traffic import TraceSource, TraceTraffic


@dataclass(frozen=True)
class ModelRun:
    """One model of a cluster of several, and what is asked of it."""

    name: str
    loaded: LoadedConfig
    spec: ExperimentSpec


@dataclass(frozen=True)
class ModelRuns:
    """All of them, in the order of their items."""

    runs: tuple[ModelRun, ...]
    is_one_clock: bool
    """Whether one moment of simulated time is the same of all models: their requests were not moved apart."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ModelExperiments:
    """What came of the models, in their order."""

    asked: ModelRuns
    experiments: Mapping[str, Experiment]
    """By model; of one that an interrupt left out there is none."""

    @property
    def incomplete(self) -> bool:
        """Whether an interrupt cut short or left out a model."""
        is_missing = len(self.experiments) < len(self.asked.runs)
        return is_missing or any(each.incomplete for each in self.experiments.values())


def model_runs(
    several: Several,
    layers: Layers,
    asked: ExperimentSpec,
    systems: Sequence[str] = SYSTEMS,
    policy: str | None = None,
) -> ModelRuns:
    """What each of ``several`` models runs of what is ``asked`` of all: a trace, a word or a rate are of them together,
    a load is each one's own. The variants of ``asked`` are none. Raises a ``KvsimError``.
    """
    mode, dealt = asked.mode, _dealt(several, layers, asked)
    runs = []
    for item, (spec, sets) in zip(several.items, dealt.each, strict=True):
        with _of_model(item.name):
            own = replace(layers, model=item.name, sets=(*layers.sets, *sets))
            loaded = own.load(mode.name)
            variants = variants_of(mode, loaded, own, systems, policy)
        runs.append(ModelRun(item.name, loaded, replace(spec, variants=variants)))
    _check_gpus(runs, several.common, mode)
    return ModelRuns(tuple(runs), dealt.is_one_clock, dealt.notes)


def run_models(asked: ModelRuns, executor: Executor) -> ModelExperiments:
    """Run one model after the other, each as :func:`kvsim.modes.experiment.run_experiment` does.

    After an interrupt the models behind are left out. Raises what that raises, with the model's name.
    """
    found: dict[str, Experiment] = {}
    for run in asked.runs:
        try:
            with _of_model(run.name):
                found[run.name] = run_experiment(run.spec, executor)
        except KeyboardInterrupt:
            if not found:
                raise
            break
        if found[run.name].incomplete:
            break
    return ModelExperiments(asked, found)


@contextmanager
def _of_model(name: str) -> Iterator[None]:
    """A ``KvsimError`` of the block says whose it is."""
    try:
        yield
    except KvsimError as error:
        raise type(error)(f"model {name}: {error}") from error


@dataclass(frozen=True)
class _Dealt:
    """What each model is asked, and further assignments of its configuration."""

    each: Sequence[tuple[ExperimentSpec, tuple[str, ...]]]
    notes: tuple[str, ...] = ()
    is_one_clock: bool = True


def _dealt(several: Several, layers: Layers, asked: ExperimentSpec) -> _Dealt:
    """``asked``, to be shared by the models."""
    if isinstance(asked.trace, TraceSource):
        return _of_trace(several, asked, asked.trace)
    if asked.rate_per_s is not None:
        check_rate(asked.rate_per_s, "--rate")
    if isinstance(asked.trace, WordSource):
        return _of_word(several, asked, asked.trace)
    if asked.rate_per_s is not None:
        return _Dealt([(spec, ()) for spec in _at_shares(several, asked, asked.rate_per_s)])
    return _of_own(several, layers, asked)


def _of_trace(several: Several, asked: ExperimentSpec, source: TraceSource) -> _Dealt:
    """Brought to its rate whole, then dealt; at a load each model's part is brought to its own."""
    seed = int(np.random.SeedSequence(several.common.seed).spawn(5)[0].generate_state(1)[0])
    kept = TraceWithModels(source.path, source.reading)
    replicas = asked.replicas if asked.load is None else None
    traffic = TraceTraffic(kept, replicas, seed, derived.answer_s_per_token(several.common))
    if asked.rate_per_s is None:
        whole = traffic.own()
    else:
        check_rate(asked.rate_per_s, "--rate")
        whole = traffic.at_rate(asked.rate_per_s)
    takers = [Taker(item.name, item.share, item.names_in_traces) for item in several.items]
    parts: list[PartOfTrace] = parted(kept, whole, takers, several.common.seed)
    left = asked.replicas if asked.load is not None else None
    each = [(replace(asked, trace=part, rate_per_s=None, replicas=left), ()) for part in parts]
    notes = _unused_shares(several, "the trace says which model each request asks") if whole.model is not None else ()
    return _Dealt(each, notes, is_one_clock=asked.load is None)


def _of_word(several: Several, asked: ExperimentSpec, source: WordSource) -> _Dealt:
    if source.concurrency is not None:
        raise ConfigError(
            "concurrency is of one model's users: whom they ask next among several nobody says; give a rate"
        )
    if asked.rate_per_s is None and source.num_requests is None:
        return _at_own_loads(several, asked)
    specs = [asked] * len(several.items)
    if asked.rate_per_s is not None:
        specs = _at_shares(several, asked, asked.rate_per_s)
    if source.num_requests is not None:
        fractions = _fractions(several.items, "the number of requests")
        counts = [max(1, round(source.num_requests * fraction)) for fraction in fractions]
        specs = [
            replace(spec, trace=replace(source, num_requests=count)) for spec, count in zip(specs, counts, strict=True)
        ]
    return _Dealt([(spec, ()) for spec in specs])


def _of_own(several: Several, layers: Layers, asked: ExperimentSpec) -> _Dealt:
    """Synthetic traffic: at the load, at an item's own qps, or at its share of the qps of all."""
    key = _qps_key(asked.mode, several.common)
    whole = get(dump(several.common), key)
    if asked.load is not None or whole is None:
        return _at_own_loads(several, asked)
    is_last = key in set_values(layers.sets)
    owns = [not is_last and has(item.config or {}, key) for item in several.items]
    if all(owns):
        return _Dealt([(asked, ())] * len(owns), _unused_shares(several, f"each has {key} of its own"))
    sharing = [item for item, own in zip(several.items, owns, strict=True) if not own]
    fractions = dict(zip((item.name for item in sharing), _fractions(sharing, key), strict=True))
    sets = [(f"{key}={whole * fractions[item.name]!r}",) if item.name in fractions else () for item in several.items]
    return _Dealt([(asked, own) for own in sets])


def _at_own_loads(several: Several, asked: ExperimentSpec) -> _Dealt:
    """Each at a load of its own, or at its own qps."""
    why = "each model runs at its own load or qps; --rate, or a qps of all, is shared"
    return _Dealt([(asked, ())] * len(several.items), _unused_shares(several, why))


def _at_shares(several: Several, asked: ExperimentSpec, rate_per_s: float) -> list[ExperimentSpec]:
    fractions = _fractions(several.items, "the rate")
    return [replace(asked, rate_per_s=rate_per_s * fraction) for fraction in fractions]


def _fractions(items: Sequence[ModelItem], what: str) -> list[float]:
    """The part of ``what`` that falls to each, all of it to one alone. Raises ``ConfigError`` where one of several has
    no share.
    """
    if len(items) == 1:
        return [1.0]
    for item in items:
        if item.share is None:
            raise ConfigError(f"models: '{item.name}' has no share; {what} is dealt by shares")
    shares = [item.share or 0.0 for item in items]
    if math.isinf(sum(shares)):
        shares = [share / len(shares) for share in shares]
    whole = sum(sorted(shares))
    return [share / whole for share in shares]


def _unused_shares(several: Several, why: str) -> tuple[str, ...]:
    return (f"shares of models have no effect: {why}",) if any(item.share for item in several.items) else ()


def _qps_key(mode: Mode, config: Config) -> str:
    return "pd_trace.qps" if mode.is_pd else f"{mode.sessions(config)[0]}.qps"


def _check_gpus(runs: Sequence[ModelRun], common: Config, mode: Mode) -> None:
    """Build every plan before anything is run, and refuse more GPUs than the cluster has.

    The single node has no number of them.
    """
    gpus = {}
    for run in runs:
        with _of_model(run.name):
            gpus[run.name] = mode.plan(run.spec.variants[0].config).num_gpus
    if mode.name != "single" and sum(gpus.values()) > common.cluster.total_gpus:
        each = ", ".join(f"{name} {count:,}" for name, count in gpus.items())
        raise ConfigError(
            f"models take {sum(gpus.values()):,} GPUs together ({each}), and cluster.total_gpus is "
            f"{common.cluster.total_gpus:,}; cluster.simulate_racks in the config of an item says how many racks it has"
        )
