"""``kvsim predict``: a server's command line in, what it would give out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli import options, served
from kvsim.cli.usage import FlagError

if TYPE_CHECKING:
    from kvsim.cli.outputs import Outputs
    from kvsim.config import LoadedConfig
    from kvsim.export.base import Exporter
    from kvsim.modes.prediction import PredictionSpec


@dataclass(frozen=True, kw_only=True)
class PredictFlags(options.ReadingFlags):
    """The flags of ``predict``."""

    line: Annotated[
        str | None,
        typer.Argument(metavar="LINE", help="The server's command line, quoted: 'vllm serve MODEL --flag ...'."),
    ] = None
    engine_args: Annotated[
        Path | None, typer.Option(metavar="FILE", help="vLLM's arguments as YAML, in place of LINE or below its flags.")
    ] = None
    gpu: options.Gpu = None
    instances: Annotated[
        int, typer.Option(metavar="N", parser=options.count, help="So many such servers behind one router.")
    ] = 1
    workload: served.Workload = served.DEFAULT_WORKLOAD
    rate: served.Rate = None
    concurrency: served.Concurrency = None
    requests: Annotated[
        int | None, typer.Option(metavar="N", parser=options.count, help="How many; default: an hour's.")
    ] = None
    slo: Annotated[
        str | None, typer.Option(metavar="ttft=MS,tpot=MS", help="Limits of a good request; default: slo.*.")
    ] = None
    client_timeout: options.ClientTimeout = None
    retries: options.Retries = None
    no_search: Annotated[bool, typer.Option("--no-search", help="Do not look for the largest rate within the SLO.")] = (
        False
    )
    calibration_profile: options.CalibrationProfile = None
    set_: options.Sets = None
    seed: served.Seed = None
    report_json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=options.or_stdout, help="Write the report as JSON; -: to stdout."),
    ] = None
    report_csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=options.or_stdout, help="Write one row per request; -: to stdout."),
    ] = None
    report_html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=options.or_stdout, help="Write a page with charts: one file, offline."),
    ] = None
    export: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=FILE", help="Write the run for another tool, as kvsim --export does; repeatable."),
    ] = None
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the pictures; without, none.")] = None
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Write no pictures.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", help="Conclusions alone, a line each.")] = False
    jobs: Annotated[
        int | None, typer.Option(metavar="N", parser=options.count, help="Simulations at a time; default: the cores.")
    ] = None


@options.taking(PredictFlags)
def predict(flags: PredictFlags) -> int:
    """Predict what a server gives.

    kvsim predict "vllm serve meta-llama/Llama-3.1-8B-Instruct" --gpu h100-sxm
    """
    from kvsim.cli.handing_over import hand_over, simulated
    from kvsim.export.registry import target_of
    from kvsim.modes.prediction import run_prediction
    from kvsim.plan.deployment import launch_of, launch_words, load_deployment
    from kvsim.report.build import build
    from kvsim.report.run_clock import RunClock

    clock = RunClock()
    served.ensure_one_pace(flags.rate, flags.concurrency)
    launch, profile = launch_of(flags.line, flags.engine_args), flags.calibration_profile
    seed = () if flags.seed is None else (f"seed={flags.seed}",)
    sets = (*slo_sets(flags.slo), *options.client_sets(flags.client_timeout, flags.retries), *(flags.set_ or ()), *seed)
    loaded = load_deployment(launch, gpu=flags.gpu, instances=flags.instances, profile=profile, sets=sets)
    exports = tuple(target_of(text) for text in flags.export or ())
    outputs = _outputs(flags, exports)
    spec = spec_of(loaded, flags, keeps_detail=outputs.need_detail)
    workers = options.cores() if flags.jobs is None else flags.jobs
    experiment, others_cpu_s = simulated(partial(run_prediction, spec), workers, quiet=flags.quiet)
    line = launch_words(flags.line, flags.engine_args)
    report = build(clock, loaded, experiment, "predict", others_cpu_s, (line, launch))
    return hand_over(loaded, outputs, report, experiment, (), quiet=flags.quiet)


def _outputs(flags: PredictFlags, exports: tuple[tuple[Exporter, Path], ...]) -> Outputs:
    """Where its files go, checked: pictures only into a folder that is given."""
    from kvsim.cli.outputs import Outputs, Reports

    plots = flags.out is not None and not flags.no_plot
    folder = flags.out or Path("results")
    reports = Reports(flags.report_json, flags.report_csv, flags.report_html)
    outputs = Outputs(reports, folder, plots, exports, ("unified",))
    inputs = {"the workload": Path(flags.workload), "the engine's arguments": flags.engine_args}
    inputs["the profile"] = flags.calibration_profile
    outputs.check({what: path for what, path in inputs.items() if path is not None})
    return outputs


def spec_of(loaded: LoadedConfig, flags: PredictFlags, *, keeps_detail: bool) -> PredictionSpec:
    """What is asked of a prediction. Raises a ``KvsimError``."""
    from kvsim.modes.experiment import ExperimentSpec, Variant
    from kvsim.modes.prediction import PredictionSpec
    from kvsim.plan.mode import PREDICT

    variants = [Variant("unified", "unified", loaded.config)]
    source = served.source_of(flags.workload, served.reading_of(flags), flags.concurrency, flags.requests)
    run = ExperimentSpec(PREDICT, variants, source, rate_per_s=flags.rate, keeps_detail=keeps_detail)
    return PredictionSpec(run, searches_rate=not flags.no_search)


def slo_sets(text: str | None) -> tuple[str, ...]:
    """``ttft=MS,tpot=MS`` as assignments, either alone too."""
    found = []
    for part in (text or "").split(",") if text is not None else ():
        name, equals, value = part.strip().partition("=")
        if name not in ("ttft", "tpot") or not equals:
            raise FlagError(f"--slo: {part.strip()!r}; allowed: ttft=MS,tpot=MS")
        found.append(f"slo.{name}_ms={value}")
    return tuple(found)
