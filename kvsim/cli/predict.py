"""``kvsim predict``: a server's command line in, what it would give out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli import options
from kvsim.cli.usage import FlagError
from kvsim.workload.reading import Reading

if TYPE_CHECKING:
    from kvsim.config import LoadedConfig
    from kvsim.modes.prediction import PredictionSpec

DEFAULT_WORKLOAD = "sharegpt"
WHOLE_TRACE = 1_000_000_000
"""Requests that no trace has."""


@options.reads_traces
def predict(
    line: Annotated[
        str | None,
        typer.Argument(metavar="LINE", help="The server's command line, quoted: 'vllm serve MODEL --flag ...'."),
    ] = None,
    engine_args: Annotated[
        Path | None, typer.Option(metavar="FILE", help="vLLM's arguments as YAML, in place of LINE or below its flags.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(metavar="NAME", help="The GPU, e.g. h100-sxm; default: hardware.gpu.")] = (
        None
    ),
    instances: Annotated[
        int, typer.Option(metavar="N", parser=options.count, help="So many such servers behind one router.")
    ] = 1,
    workload: Annotated[
        str,
        typer.Option(
            metavar="W",
            help="sharegpt, chat, rag, agent, summarise, code, in=2000,out=300,prefix=800:10, or a trace file.",
        ),
    ] = DEFAULT_WORKLOAD,
    rate: Annotated[
        float | None, typer.Option(metavar="R", parser=options.positive, help="Requests a second, in all.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="C", parser=options.count, help="Users, each with one request in flight.")
    ] = None,
    requests: Annotated[
        int | None, typer.Option(metavar="N", parser=options.count, help="How many; default: an hour's.")
    ] = None,
    slo: Annotated[
        str | None, typer.Option(metavar="ttft=MS,tpot=MS", help="Limits of a good request; default: slo.*.")
    ] = None,
    no_search: Annotated[
        bool, typer.Option("--no-search", help="Do not look for the largest rate within the SLO.")
    ] = False,
    calibration_profile: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Step times; default: the nearest measured ones. none: data-sheet arithmetic."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One key of the configuration; repeatable.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", parser=options.whole, help="Seed of every random draw.")
    ] = None,
    report_json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=options.or_stdout, help="Write the report as JSON; -: to stdout."),
    ] = None,
    report_csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=options.or_stdout, help="Write one row per request; -: to stdout."),
    ] = None,
    export: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=FILE", help="Write the run for another tool, as kvsim --export does; repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the pictures; without, none.")] = None,
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Write no pictures.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Neither progress nor tables, the conclusion alone.")] = False,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", parser=options.count, help="Simulations at a time; default: the cores.")
    ] = None,
    *,
    reading: Reading,
) -> int:
    """Predict what a server gives: kvsim predict "vllm serve meta-llama/Llama-3.1-8B-Instruct" --gpu h100-sxm."""
    from kvsim.cli.handing_over import hand_over, simulated
    from kvsim.cli.outputs import Outputs
    from kvsim.export.registry import target_of
    from kvsim.modes.prediction import run_prediction
    from kvsim.plan.deployment import launch_of, launch_words, load_deployment
    from kvsim.report.build import build
    from kvsim.report.run_clock import RunClock

    clock = RunClock()
    if rate is not None and concurrency is not None:
        raise FlagError("--rate and --concurrency exclude each other; give one")
    launch = launch_of(line, engine_args)
    sets = (*slo_sets(slo), *(set_ or ()), *(() if seed is None else (f"seed={seed}",)))
    loaded = load_deployment(launch, gpu=gpu, instances=instances, profile=calibration_profile, sets=sets)
    exports = tuple(target_of(text) for text in export or ())
    spec = _spec(loaded, workload, reading, rate, concurrency, requests, searches=not no_search)
    keeps_detail = any(exporter.needs_detail for exporter, _ in exports)
    spec = replace(spec, run=replace(spec.run, keeps_detail=keeps_detail))
    plots = out is not None and not no_plot
    outputs = Outputs(report_json, report_csv, out or Path("results"), plots, exports, ("unified",))
    inputs = {"the workload": Path(workload), "the engine's arguments": engine_args, "the profile": calibration_profile}
    outputs.check({what: path for what, path in inputs.items() if path is not None})
    workers = options.cores() if jobs is None else jobs
    experiment, others_cpu_s = simulated(partial(run_prediction, spec), workers, quiet=quiet)
    report = build(clock, loaded, experiment, "predict", others_cpu_s, (launch_words(line, engine_args), launch))
    return hand_over(loaded, outputs, report, experiment, (), quiet=quiet)


def _spec(
    loaded: LoadedConfig,
    workload: str,
    reading: Reading,
    rate: float | None,
    concurrency: int | None,
    requests: int | None,
    *,
    searches: bool,
) -> PredictionSpec:
    from kvsim.capacity.sources import WordSource
    from kvsim.modes.experiment import ExperimentSpec, Variant
    from kvsim.modes.prediction import PredictionSpec
    from kvsim.plan.mode import PREDICT
    from kvsim.workload.traffic import TraceSource
    from kvsim.workload.words import word_of

    given: TraceSource | WordSource
    is_trace = Path(workload).is_file()
    if is_trace and concurrency is None:
        if requests is not None:
            raise FlagError(
                "--requests is for workloads in a word and for --concurrency; a trace takes --workload-limit"
            )
        given = TraceSource(workload, reading)
    else:
        number = requests or (WHOLE_TRACE if is_trace else None)
        given = WordSource(word_of(workload, reading), concurrency, num_requests=number)
    run = ExperimentSpec(PREDICT, [Variant("unified", "unified", loaded.config)], given, rate_per_s=rate)
    return PredictionSpec(run, searches)


def slo_sets(text: str | None) -> tuple[str, ...]:
    """``ttft=MS,tpot=MS`` as assignments, either alone too."""
    found = []
    for part in (text or "").split(",") if text is not None else ():
        name, equals, value = part.strip().partition("=")
        if name not in ("ttft", "tpot") or not equals:
            raise FlagError(f"--slo: {part.strip()!r}; allowed: ttft=MS,tpot=MS")
        found.append(f"slo.{name}_ms={value}")
    return tuple(found)
