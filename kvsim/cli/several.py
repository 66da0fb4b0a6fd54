"""Several models in one cluster, from the flags to the report and the exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kvsim.cli.handing_over import outcome, say_beside, say_lines, simulated
from kvsim.cli.idle import idle
from kvsim.cli.outputs import Outputs, Reports, create_folder
from kvsim.cli.run import Command, check_contradictions, uses_of
from kvsim.cli.usage import FlagError
from kvsim.failures import Failures
from kvsim.report.atomic import is_stdout, reaching_stdout

if TYPE_CHECKING:
    from kvsim.config.load import Several
    from kvsim.export.base import Exporter
    from kvsim.modes.models import ModelExperiments
    from kvsim.plan.mode import Mode
    from kvsim.report.models import ModelsReport
    from kvsim.report.run_clock import RunClock

_BY_ITEM = "config of each item of models says it of its own"
_NO_STUDIES = "none are made of several models"
OF_ONE: Mapping[str, str] = {
    **dict.fromkeys(("engine", "engine_args", "gpu", "gpus", "tp"), f"is of one model: {_BY_ITEM}"),
    **dict.fromkeys(("studies", "compare", "replications", "cpu_budget"), f"is of studies: {_NO_STUDIES}"),
    **dict.fromkeys(
        ("learned_train_mode", "learned_train_fraction"), "trains on one model's requests; run that model alone"
    ),
}
"""Flags that say nothing of several models, and why."""


def run_several(command: Command, several: Several, mode: Mode, clock: RunClock) -> int:
    """Simulate all models, print, write; returns the exit code. Raises a ``KvsimError`` before anything is run."""
    from kvsim.export.registry import target_of
    from kvsim.modes.experiment import ExperimentSpec
    from kvsim.modes.models import model_runs, run_models
    from kvsim.report.models import build_models

    for name, why in OF_ONE.items():
        if name in command.given:
            raise FlagError(f"{command.given[name]} {why}")
    check_contradictions(command)
    names = [item.name for item in several.items]
    folder = command.out or Path(mode.experiment(several.common)[1].output_dir)
    files = _Files.of(command, folder, names, [target_of(text) for text in command.exports])
    asked = ExperimentSpec(
        mode,
        (),
        trace=command.trace,
        rate_per_s=command.rate_per_s,
        load=command.load,
        load_of=command.load_of,
        replicas=command.replicas,
        stepwise=command.stepwise,
        keeps_detail=files.need_detail,
    )
    files.check(command.inputs())
    runs = model_runs(several, command.layers, asked, command.systems, command.policy)
    found, others_cpu_s = simulated(partial(run_models, runs), command.jobs, quiet=command.quiet)
    report = build_models(clock, found, mode.name, others_cpu_s)
    unused = idle(command.given, uses_of(runs.runs[0].spec, (), folder=command.plots))
    return _hand_over(command, files, report, found, unused)


@dataclass(frozen=True)
class _Files:
    """What is written: one JSON and one CSV of all, and of each model its pictures, its page and its exports."""

    whole: Outputs
    each: Mapping[str, Outputs]

    @classmethod
    def of(cls, command: Command, folder: Path, names: list[str], exports: list[tuple[Exporter, Path]]) -> _Files:
        page = command.reports.html
        if page is not None and is_stdout(page):
            raise FlagError("--report-html is '-', stdout; each model has a page of its own, so a file is wanted")
        for exporter, path in exports:
            if is_stdout(path):
                raise FlagError(f"--export {exporter.name} is '-', stdout; a file is wanted")
        each = {
            name: Outputs(
                Reports(None, None, None if page is None else _named(page, name)),
                folder / name,
                command.plots,
                tuple((exporter, _named(path, name)) for exporter, path in exports),
                command.systems if command.mode == "pd" else (),
            )
            for name in names
        }
        return cls(Outputs(replace(command.reports, html=None), folder, plots=False), each)

    @property
    def need_detail(self) -> bool:
        return any(outputs.need_detail for outputs in self.each.values())

    def check(self, inputs: Mapping[str, Path]) -> None:
        """Raise a ``KvsimError`` where something could not be written. Nothing is created."""
        self.whole.check(inputs)
        taken = {f"also that of {flag}": path for flag, path, _ in self.whole.reports.given()}
        for name, outputs in self.each.items():
            outputs.check({**inputs, **taken})
            for flag, path in outputs.files():
                taken[f"also that of {flag} of model {name}"] = path

    def write(self, report: ModelsReport, found: ModelExperiments, failures: Failures, notes: list[str]) -> list[Path]:
        """Write everything that can be; returns the paths written."""
        from kvsim.report.csv_report import write_models_csv

        if self.whole.needs_folder:
            failures.attempt("the folder of results", partial(create_folder, self.whole.folder))
        results = {name: experiment.results for name, experiment in found.experiments.items()}
        writers = {"--report-json": report.write_json, "--report-csv": lambda path: write_models_csv(path, results)}
        written: list[Path] = []
        for flag, path, _ in self.whole.reports.given():
            before = len(failures.found)
            failures.attempt(flag, partial(writers[flag], path))
            written += [path] if len(failures.found) == before else []
        for name, own in report.models.items():
            written += self.each[name].write(own, found.experiments[name], failures, notes)
        return written


def _named(path: Path, name: str) -> Path:
    """The file of one model: ``page.html`` is ``page.chat.html``."""
    return path.with_name(f"{path.stem}.{name}{path.suffix}")


def _hand_over(
    command: Command, files: _Files, report: ModelsReport, found: ModelExperiments, warnings: tuple[str, ...]
) -> int:
    unwritten, unshown = Failures(), Failures()
    notes = [
        f"{run.name}: {note}"
        for run in found.asked.runs
        if run.name in report.models
        for note in run.loaded.provenance.notes
    ]
    written = files.write(report, found, unwritten, notes)
    unshown.attempt("the report on the terminal", partial(_shown, report, quiet=command.quiet))
    say_beside(warnings, notes, written, quiet=command.quiet, show_plots=command.show_plots)
    sound = all(result.conservation.ok for own in report.models.values() for result in own.results)
    parts = [failure for experiment in found.experiments.values() for failure in experiment.failures]
    failed = [*unwritten.found, *unshown.found]
    return outcome(failed, parts, quiet=command.quiet, whole=sound and not found.incomplete)


def _shown(report: ModelsReport, *, quiet: bool) -> None:
    from kvsim.report.models_text import conclusions, print_models

    with reaching_stdout():
        if quiet:
            say_lines(conclusions(report))
            return
        from rich.console import Console

        print_models(Console(highlight=False), report)
