"""A study, run: its answer with the configuration it holds for, and the files that tell it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvsim._version import __version__
from kvsim.capacity.sources import WordSource
from kvsim.config import LoadedConfig, dump
from kvsim.config.disturbed import disturbances
from kvsim.errors import ConfigError
from kvsim.experiments.bench import Bench
from kvsim.experiments.files import Writer, csv_of, write_each, write_text
from kvsim.experiments.standalone import StandaloneStudy
from kvsim.failures import Failures
from kvsim.modes.variants import Layers
from kvsim.record.plain import plain
from kvsim.report.json_report import write_json
from kvsim.report.plots import write_figure
from kvsim.sim.executor import Executor
from kvsim.study.words import ran_of
from kvsim.workload.traffic import TraceSource

SMOKE = "smoke"


@dataclass(frozen=True)
class Finding:
    """What a study found."""

    study: StandaloneStudy[Any]
    loaded: LoadedConfig
    answer: Any
    has_trace: bool = False
    """Whether requests came as they were recorded."""

    @property
    def sentence(self) -> str:
        """The conclusion, and behind it what it holds for: the instance, how many, how often each was run."""
        config, runs = self.loaded.config, self.answer.runs
        engine, model = config.engine, f"{config.model.name} {config.model.weight_dtype}"
        where = f"{model} on {engine.tensor_parallel_size} x {config.hardware.gpu}, {ran_of(self.answer)}"
        sure = f"{runs.confidence:.0%} intervals"
        return f"{self.study.sentence(self.answer)} [{', '.join([where, *self._driven(), sure])}]"

    def _driven(self) -> list[str]:
        """How hard, where that is the same for all of it."""
        config, name = self.loaded.config, self.study.mode.name
        traffic = {"single": config.trace, "cluster": config.cluster_trace}.get(name, config.pd_trace)
        if not self.study.at_load or self.has_trace or traffic.qps is not None:
            return []
        return [f"driven at {config.load.rho:g} of the maximum rate"]

    def as_json(self) -> dict[str, object]:
        """Everything that is known of it."""
        return {
            "study": self.study.name,
            "question": self.study.question,
            "conclusion": self.sentence,
            "version": __version__,
            "mode": self.study.mode.name,
            "preset": self.loaded.provenance.preset,
            "profile": self.loaded.provenance.name,
            "seed": self.loaded.config.seed,
            "answer": plain(self.answer),
            "config": dump(self.loaded.config),
        }

    def as_csv(self) -> str:
        """A line a row."""
        return csv_of(self.study.rows(self.answer))

    def write(self, folder: Path, failures: Failures, *, plots: bool = True) -> list[Path]:
        """``NAME.json``, ``NAME.csv`` and ``NAME.png`` into the existing ``folder``; returns what was written."""
        name = self.study.name
        writers: dict[str, Writer] = {
            f"{name}.json": lambda path: write_json(path, self.as_json()),
            f"{name}.csv": lambda path: write_text(path, self.as_csv()),
        }
        if plots and self.study.rows(self.answer):
            writers[f"{name}.png"] = lambda path: write_figure(path, self.study.figure(self.answer))
        return write_each(folder, writers, failures)


def find_out(
    study: StandaloneStudy[Any], layers: Layers, trace: TraceSource | WordSource | None, executor: Executor
) -> Finding:
    """Run ``study`` with the configuration of ``layers``, and what it sets itself where nobody chose anything.

    Raises a ``KvsimError`` for what cannot be built, read or answered.
    """
    if trace is not None and study.own_requests:
        raise ConfigError(f"study {study.name} draws its own requests; another workload has no place in it")
    loaded = own_configuration(study, layers)
    for key in disturbances(loaded.config):
        raise ConfigError(f"{key}: studies ask what it is like while nothing happens to instances; leave it out")
    answer = study.ask(Bench(study.mode, loaded, executor, trace))
    return Finding(study, loaded, answer, isinstance(trace, TraceSource))


def own_configuration(study: StandaloneStudy[Any], layers: Layers) -> LoadedConfig:
    """What the study runs on."""
    chosen = layers.load(study.mode.name).chosen
    own = (*study.sets, *(study.smoke if layers.preset == SMOKE else ()))
    more = [text for text in own if text.partition("=")[0] not in chosen]
    whole = Layers(layers.config, layers.profile, layers.preset, layers.engine, (*more, *layers.sets))
    return whole.load(study.mode.name)
