"""``--pd``: prefill/decode separation next to unified serving, from the flags to the report and the exit code."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvsim.cli.entry import BAD_INPUT, DONE, OTHER, one_line
from kvsim.cli.idle import Uses, idle
from kvsim.cli.options import STUDIES, STUDIES_OF
from kvsim.cli.outputs import Outputs
from kvsim.cli.usage import FlagError
from kvsim.errors import nearest
from kvsim.failures import Failures
from kvsim.report.atomic import is_stdout, reaching_stdout

if TYPE_CHECKING:
    from kvsim.config import Config, LoadedConfig
    from kvsim.modes.pd import Experiment
    from kvsim.report.json_report import RunClock
    from kvsim.workload.traffic import TraceSource


@dataclass(frozen=True)
class PdCommand:
    """One ``--pd`` run as the flags describe it."""

    config: Path | None
    profile: Path | None
    preset: str | None
    sets: tuple[str, ...]
    trace: TraceSource | None
    load: float | None
    load_of: str | None
    systems: tuple[str, ...]
    """What ``--pd`` runs: of ``unified`` and ``pd``, in this order."""
    replicas: int | None
    stepwise: bool
    studies: tuple[str, ...] | None
    """``None``: all of them."""
    no_studies: bool
    skip_context_sweep: bool
    comparisons: tuple[str, ...]
    """``KEY=V1,V2`` each."""
    report_json: Path | None
    report_csv: Path | None
    out: Path | None
    plots: bool
    show_plots: bool
    quiet: bool
    train_mode: str | None
    """How the learned policy is trained on this run's requests; ``None``: not at all."""
    train_fraction: float
    given: Mapping[str, str]
    """The flags that were given, as parameter to spelling."""


def trace_source(path: Path | None, **reading: Any) -> TraceSource | None:
    """The trace to serve and how it is read, ``None`` for synthetic traffic."""
    if path is None:
        return None
    from kvsim.workload.traffic import TraceSource

    return TraceSource(path=path, **reading)


def run_command(command: PdCommand, clock: RunClock) -> int:
    """Simulate, print, write; returns the exit code: 1 when interrupted or when a conservation law is violated."""
    from kvsim.config import load_config

    loaded = load_config(command.config, command.profile, command.preset, command.sets, "pd")
    studies = _studies(command)
    if command.comparisons and len(command.systems) < 2:
        raise FlagError("--compare tells what a setting changes in both systems; give --systems unified,pd")
    _check_enabled(command)
    outputs = _outputs(command, loaded.config)
    outputs.check(inputs_of(command))
    experiment = _simulate(command, loaded.config, without_skipped(command, studies))
    report = build(clock, loaded, experiment)
    uses = Uses("pd", studies, outputs.needs_folder, learned=False, trainable=False)
    return handed_over(command, loaded, outputs, report, experiment, partial(_print, report), uses)


def handed_over(
    command: PdCommand,
    loaded: LoadedConfig,
    outputs: Outputs,
    report: Mapping[str, Any],
    experiment: Experiment,
    show: Callable[..., None],
    uses: Uses,
) -> int:
    """Write the files, ``show(quiet=...)`` the report; what fails of that leaves the rest. Returns the exit code.

    Flags without an effect are told once the run has succeeded, so that bad input stays one line.
    """
    unwritten, unshown = Failures(), Failures()
    written = outputs.write(report, experiment.results, unwritten)
    unshown.attempt("the report on the terminal", partial(_shown, partial(show, quiet=command.quiet)))
    say(command, loaded, written, idle(command.given, uses))
    if command.quiet:
        for failure in experiment.failures:
            _stderr(f"warning: {failure.sentence()}")
    failed = [*unwritten.found, *unshown.found]
    for failure in failed:
        _stderr(f"error: {failure.sentence() if failure.is_defect else failure.why}")
    if any(not failure.is_defect for failure in failed):
        return BAD_INPUT
    sound = all(result["conservation"]["ok"] for result in report["results"])
    defects = any(failure.is_defect for failure in (*failed, *experiment.failures))
    return OTHER if experiment.incomplete or defects or not sound else DONE


def _shown(show: Callable[[], None]) -> None:
    with reaching_stdout():
        show()


def _outputs(command: PdCommand, config: Config) -> Outputs:
    folder = command.out or Path(config.pd_experiments.output_dir)
    return Outputs(command.report_json, command.report_csv, folder, command.plots)


def inputs_of(command: PdCommand) -> dict[str, Path]:
    """What a run reads, by what it is."""
    inputs = {"the configuration": command.config, "the calibration profile": command.profile}
    if command.trace is not None:
        inputs["the trace"] = Path(command.trace.path)
    return {what: path for what, path in inputs.items() if path is not None}


def _studies(command: PdCommand) -> tuple[str, ...]:
    """The names of those to run, one that is skipped included."""
    if command.no_studies:
        return ()
    possible = STUDIES_OF[command.systems]
    for name in command.studies or ():
        if name not in STUDIES:
            raise FlagError(f"--studies: '{name}' is no study of this mode; {nearest(name, STUDIES)}")
        if name not in possible:
            raise FlagError(f"--studies {name} cannot be made with --systems {','.join(command.systems)} alone")
    return possible if command.studies is None else command.studies


def without_skipped(command: PdCommand, studies: tuple[str, ...]) -> tuple[str, ...]:
    """``studies``, but for one that a flag skips."""
    return tuple(name for name in studies if not (command.skip_context_sweep and name == "context"))


def _check_enabled(command: PdCommand) -> None:
    """A configuration may leave PD disabled for ``--pd`` to enable; flags that contradict each other are refused."""
    from kvsim.config.load import set_values

    if "pd" in command.systems and set_values(command.sets).get("pd_separation.enabled") is False:
        raise FlagError("--set pd_separation.enabled=false contradicts --pd; --systems unified runs unified alone")


def _simulate(command: PdCommand, config: Config, studies: tuple[str, ...]) -> Experiment:
    from kvsim.config.comparison import read_comparison
    from kvsim.modes.pd import run_pd
    from kvsim.report.progress import progress_bar

    if threading.current_thread() is threading.main_thread():
        # A shell script's background jobs start with SIGINT ignored; a run must end with a report there too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run_pd(
        config,
        trace=command.trace,
        load=command.load,
        load_of=command.load_of,
        systems=command.systems,
        replicas=command.replicas,
        stepwise=command.stepwise,
        progress=partial(progress_bar, quiet=command.quiet),
        studies=studies,
        comparisons=[read_comparison(text) for text in command.comparisons],
    )


def build(clock: RunClock, loaded: LoadedConfig, experiment: Experiment, mode: str = "pd") -> dict[str, Any]:
    """The JSON report of a run."""
    from kvsim.config import dump
    from kvsim.record.summary import summarise
    from kvsim.report.json_report import build_report
    from kvsim.units import MILLI

    config = loaded.config
    slo_ttft_s, slo_tpot_s = config.slo.ttft_ms * MILLI, config.slo.tpot_ms * MILLI
    gpus = experiment.plan.num_gpus
    results = [summarise(r, slo_ttft_s=slo_ttft_s, slo_tpot_s=slo_tpot_s, gpus=gpus) for r in experiment.results]
    status = "incomplete" if experiment.incomplete else None
    preset, seed = loaded.provenance.preset, config.seed
    return build_report(
        run=clock.section(mode=mode, preset=preset, seed=seed, results=experiment.results, status=status)
        | {"failures": [failure.report() for failure in experiment.failures]},
        config=dump(config),
        calibration=calibration_section(loaded),
        workload=_workload_section(experiment),
        cluster=experiment.cluster | {"warnings": list(experiment.warnings)},
        results=results,
        studies=experiment.studies,
    )


def calibration_section(loaded: LoadedConfig) -> dict[str, Any]:
    """How the step times are known, and how far they can be trusted."""
    profile = loaded.provenance
    warnings = list(profile.warnings)
    readiness = _readiness(loaded)
    if profile.name is None:
        warnings.append(f"{readiness}; set times against measurements before trusting them")
    return {
        "profile": profile.name,
        "method": loaded.config.steptime.method,
        "sources": profile.sources,
        "validity": profile.validity,
        "readiness": readiness,
        "warnings": warnings,
        "description": profile.description,
        "provenance": profile.provenance,
        "fit_error": profile.fit_error,
        "notes": list(profile.notes),
    }


def _readiness(loaded: LoadedConfig) -> str:
    profile, config = loaded.provenance, loaded.config
    if profile.name is not None:
        fit = "fitted to measurements" if profile.fit_error is not None else "fitted to no run, its error is not known"
        return f"profile {profile.name}: {fit}"
    if config.steptime.method == "fitted":
        return "uncalibrated: fitted coefficients of unknown origin"
    from kvsim.config import load_config

    shipped = load_config().config
    same = (config.steptime, config.pd_separation.compute) == (shipped.steptime, shipped.pd_separation.compute)
    return f"uncalibrated: roofline with {'default' if same else 'configured'} efficiencies"


def _workload_section(experiment: Experiment) -> dict[str, Any]:
    import numpy as np

    workload = experiment.workload
    info = workload.info
    lint = [f"line {found.line}: {found.message}" if found.line else found.message for found in info.lint]
    return {
        "source": info.source,
        "format": info.format,
        "sha256": info.sha256,
        "requests": len(workload),
        "span_s": workload.span_s,
        "prompt_tokens": int(workload.prompt_tokens.sum(dtype=np.int64)),
        "output_tokens": int(workload.output_tokens.sum(dtype=np.int64)),
        "infinite_cache_hit_rate": info.infinite_cache_hit_rate,
        "lint": lint,
        "notes": [*info.notes, *experiment.notes],
        "infinite_cache_hit_rate_full_blocks": info.infinite_cache_hit_rate_full_blocks,
        "infinite_cache_hit_rate_tokens": info.infinite_cache_hit_rate_tokens,
        "hash_block_tokens": info.hash_block_tokens,
        "load": experiment.load,
    }


def _print(report: Mapping[str, Any], *, quiet: bool) -> None:
    """The tables, or under ``--quiet`` the conclusion alone: it carries its own reservations."""
    if quiet:
        from kvsim.report.conclusion import conclude

        print(conclude(report))
        return
    from rich.console import Console

    from kvsim.report.tables import print_report

    print_report(Console(highlight=False), report)


def say(command: PdCommand, loaded: LoadedConfig, written: list[Path], warnings: Sequence[str]) -> None:
    """What concerns the flags and the files rather than the cluster."""
    for warning in warnings:
        _stderr(f"warning: {warning}")
    if not command.quiet:
        for note in loaded.provenance.notes:
            _stderr(f"note: {note}")
        for path in written:
            if not is_stdout(path):
                _stderr(f"wrote {path}")
    if command.show_plots:
        from kvsim.cli.pictures import show

        why = show([path for path in written if path.suffix == ".png"])
        if why is not None:
            _stderr(f"warning: pictures are not shown: {why}")


def _stderr(message: str) -> None:
    print(f"kvsim: {one_line(message)}", file=sys.stderr)
