"""The main command, in all three modes: from the flags to the report and the exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from kvsim.cli.handing_over import hand_over, simulated
from kvsim.cli.idle import Uses, idle
from kvsim.cli.outputs import Outputs, Reports
from kvsim.cli.usage import FlagError

if TYPE_CHECKING:
    from kvsim.capacity.sources import WordSource
    from kvsim.config import Config, LoadedConfig
    from kvsim.launch import LaunchLine
    from kvsim.modes.experiment import ExperimentSpec
    from kvsim.modes.training import Train
    from kvsim.modes.variants import Layers
    from kvsim.plan.mode import Mode, ModeName
    from kvsim.report.run_clock import RunClock
    from kvsim.workload.traffic import TraceSource


@dataclass(frozen=True)
class Command:
    """One run as the flags describe it."""

    mode: ModeName
    layers: Layers
    launch: tuple[str, LaunchLine] | None
    """The server's command line, and what it says, that ``layers`` has the engine of."""
    trace: TraceSource | WordSource | None
    rate_per_s: float | None
    load: float | None
    load_of: str | None
    systems: tuple[str, ...]
    """What ``--pd`` runs: of ``unified`` and ``pd``, in this order."""
    policy: str | None
    """Names of policy bundles, separated by commas."""
    replicas: int | None
    stepwise: bool
    studies: tuple[str, ...] | None
    """``None``: all of them."""
    no_studies: bool
    skip_context_sweep: bool
    replications: int
    """How often what is compared is repeated on other requests, at the most."""
    comparisons: tuple[str, ...]
    """``KEY=V1,V2`` each."""
    reports: Reports
    exports: tuple[str, ...]
    """``KIND=FILE`` each."""
    out: Path | None
    plots: bool
    show_plots: bool
    quiet: bool
    jobs: int
    """Simulations at a time."""
    train: tuple[str, float | None] | None
    """How the learned policy is trained on this run's requests, and on which share of them (``None``: as configured);
    ``None``: not at all."""
    given: Mapping[str, str]
    """The flags that were given, as parameter to spelling."""

    def inputs(self) -> dict[str, Path]:
        """What is read, by what it is."""
        config = self.layers.config if isinstance(self.layers.config, Path) else None
        inputs = {"the configuration": config, "the calibration profile": self.layers.profile}
        path = getattr(self.trace, "path", None)
        if path is not None:
            inputs["the trace"] = Path(path)
        return {what: path for what, path in inputs.items() if path is not None}


def run_command(command: Command, clock: RunClock) -> int:
    """Simulate, print, write; returns the exit code: 1 when interrupted or when a conservation law is violated."""
    from kvsim.modes.experiment import run_experiment
    from kvsim.plan.mode import MODES
    from kvsim.report.build import build

    mode = MODES[command.mode]
    several = command.layers.several()
    if several is not None:
        from kvsim.cli.several import run_several

        return run_several(command, several, mode, clock)
    loaded = command.layers.load(mode.name)
    studies = _studies(command)
    check_contradictions(command)
    from kvsim.export.registry import target_of

    exports = tuple(target_of(text) for text in command.exports)
    spec = spec_of(command, mode, loaded, _unskipped(command, studies))
    folder = command.out or Path(mode.experiment(loaded.config)[1].output_dir)
    systems = tuple(variant.name for variant in spec.variants)
    outputs = Outputs(command.reports, folder, command.plots, exports, systems)
    outputs.check(command.inputs())
    spec = replace(spec, keeps_detail=outputs.need_detail)
    experiment, others_cpu_s = simulated(partial(run_experiment, spec), command.jobs, quiet=command.quiet)
    report = build(clock, loaded, experiment, mode.name, others_cpu_s, command.launch)
    unused = idle(command.given, uses_of(spec, studies, folder=outputs.needs_folder))
    return hand_over(loaded, outputs, report, experiment, unused, quiet=command.quiet, show_plots=command.show_plots)


def list_studies() -> None:
    """Print the studies of every mode, and what each asks."""
    from kvsim.plan.mode import MODES
    from kvsim.study.catalogue import named

    for mode in MODES:
        print("the single node:" if mode == "single" else f"--{mode}:")
        for name, study in named(mode).items():
            print(fill(study.asks, 80, initial_indent=f"  {name:<16}", subsequent_indent=" " * 18))


def _studies(command: Command) -> tuple[str, ...]:
    """The names of those to run, one that is skipped included."""
    from kvsim.study.catalogue import chosen

    if command.no_studies:
        return ()
    systems = command.systems if command.mode == "pd" else ()
    return chosen(command.mode, command.studies, systems, ("--studies", "--systems"))


def _unskipped(command: Command, studies: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in studies if not (command.skip_context_sweep and name == "context"))


def check_contradictions(command: Command) -> None:
    """A configuration may leave PD disabled for ``--pd`` to enable; flags that contradict each other are refused."""
    from kvsim.config.load import set_values

    if command.comparisons and len(command.systems) < 2:
        raise FlagError("--compare tells what a setting changes in both systems; give --systems unified,pd")
    has_pd = command.mode == "pd" and "pd" in command.systems
    if has_pd and set_values(command.layers.sets).get("pd_separation.enabled") is False:
        raise FlagError("--set pd_separation.enabled=false contradicts --pd; --systems unified runs unified alone")


def spec_of(command: Command, mode: Mode, loaded: LoadedConfig, studies: tuple[str, ...]) -> ExperimentSpec:
    """What the mode is asked. Raises a ``KvsimError``."""
    from kvsim.config.comparison import read_comparison
    from kvsim.modes.experiment import ExperimentSpec
    from kvsim.modes.variants import variants_of

    variants = variants_of(mode, loaded, command.layers, command.systems, command.policy)
    return ExperimentSpec(
        mode=mode,
        variants=variants,
        trace=command.trace,
        rate_per_s=command.rate_per_s,
        load=command.load,
        load_of=command.load_of,
        replicas=command.replicas,
        stepwise=command.stepwise,
        studies=studies,
        comparisons=[read_comparison(text) for text in command.comparisons],
        repeats=command.replications,
        balances=command.layers.balances(mode, loaded, command.systems),
        train=_train(command, variants[0].config),
    )


def _train(command: Command, config: Config) -> Train | None:
    from kvsim.modes.training import Train

    if command.train is None:
        return None
    mode, fraction = command.train
    return Train(mode, config.policies.learned_train_fraction if fraction is None else fraction)


def uses_of(spec: ExperimentSpec, studies: tuple[str, ...], *, folder: bool) -> Uses:
    """What flags that may be idle hang on; ``folder``: something is written into that of pictures."""
    from kvsim.modes.training import is_learned

    configs = [variant.config for variant in spec.variants]
    learned = not spec.mode.is_pd and any(config.policies.eviction == "learned" for config in configs)
    trainable = not spec.mode.is_pd and any(map(is_learned, configs))
    return Uses(spec.mode.name, studies, folder, learned=learned, trainable=trainable)
