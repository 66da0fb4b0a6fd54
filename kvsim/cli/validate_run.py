"""``validate run``: one measured run against what kvsim predicts for it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli.options import JsonOut, reads_traces
from kvsim.cli.validate_text import check_json, figure, percentage, wrapped, write_json
from kvsim.workload.reading import Reading

if TYPE_CHECKING:
    from kvsim.validate.compare_run import RunComparison

UNITS = {"ttft": "TTFT", "ttft_from_queued": "TTFT from queued", "tpot": "TPOT", "e2e": "E2E"}


@reads_traces
def validate_run(
    measured: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the run: meta.json, requests.jsonl.")],
    workload: Annotated[Path, typer.Option(metavar="FILE", help="The requests that were sent, with token ids.")],
    profile: Annotated[Path, typer.Option(metavar="PROFILE", help="Step times: a file, or a shipped profile's name.")],
    model_config: Annotated[Path | None, typer.Option(metavar="FILE", help="The model's config.json.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="As for a run; comes last.")] = None,
    json_out: JsonOut = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw predicted against measured.")] = None,
    *,
    reading: Reading,
) -> int:
    """Predict a measured run, request by request: errors of TTFT, TPOT and E2E."""
    _check(json_out, plot, {"the workload": workload, "the profile": profile})
    from kvsim.config.disturbed import disturbances
    from kvsim.validate.compare_run import compare_run
    from kvsim.validate.measured_run import read_run
    from kvsim.validate.predict_run import load_run, predict_run
    from kvsim.workload.read import read_workload

    run = read_run(measured)
    loaded = load_run(run, profile, model_config, sets or [])
    prediction = predict_run(run, read_workload(workload, reading.default_format("sharegpt")), loaded)
    report = compare_run(run, loaded, prediction)
    _print(report, disturbances(loaded.config))
    write_json(json_out, asdict(report))
    if plot is not None:
        from kvsim.report.validation_plots import draw_run

        draw_run(run, prediction, plot)
    return 0


def _check(json_out: Path | None, plot: Path | None, taken: dict[str, Path]) -> None:
    from kvsim.cli.outputs import check_file

    check_json(json_out, taken)
    if plot is not None:
        check_file("--plot", plot, taken if json_out is None else taken | {"also that of --json": json_out}, "PNG")


def _print_steps(report: RunComparison) -> None:
    """The run's own steps, by kind and number of sequences."""
    if report.steps_unknown is not None:
        sys.stdout.write(wrapped(f"steps of the run are not known: {report.steps_unknown}"))
        return
    words = {"decode": "decoding", "mixed": "beside prompts"}
    sys.stdout.write(f"{'steps of the run (ms)':<32}{'steps':>7}{'measured':>10}{'predicted':>10}{'error':>8}\n")
    for row in report.steps:
        least, most = row.least_decodes, row.most_decodes
        name = f"{f'{least}' if least == most else f'{least} to {most}'} {words[row.kind]}"
        figures = f"{figure(row.measured_ms, 10)}{figure(row.predicted_ms, 10)}{percentage(row.error_pct, 8)}"
        sys.stdout.write(f"{name:<32}{row.steps:>7,}{figures}\n")


def _print(report: RunComparison, disturbed: Sequence[str]) -> None:
    """Means side by side, and how far the mean and percentiles are off."""
    write = sys.stdout.write
    version = report.vllm_version or "of an unknown version"
    write(wrapped(f"{report.run}: {report.requests} requests, vLLM {version}, profile {report.profile}"))
    for warning in report.warnings:
        write(wrapped(f"warning: {warning}"))
    write(f"{'mean (ms), error (%)':<21}{'measured':>10}{'predicted':>10}{'mean':>6}{'p50':>6}{'p90':>6}{'p95':>6}")
    write(f"{'p99':>6}{'each':>6}\n")
    for name, errors in report.errors.items():
        means = report.means[name]
        write(f"{UNITS[name]:<21}{figure(means.measured_ms, 10)}{figure(means.predicted_ms, 10)}")
        each = (errors.mean_pct, errors.p50_pct, errors.p90_pct, errors.p95_pct, errors.p99_pct)
        write("".join(percentage(error, 6) for error in each))
        write(f"{percentage(errors.mape_pct, 6, signed=False)}\n")
    rates = report.throughput
    speeds = f"{figure(rates.measured_output_tokens_per_s, 10)}{figure(rates.predicted_output_tokens_per_s, 10)}"
    write(f"{'output tokens/s':<21}{speeds}{percentage(rates.error_pct, 6)}\n")
    write("each: mean over requests of the absolute error. One token has no TPOT.\n")
    _print_steps(report)
    write(f"{report.kv_blocks:,} KV blocks, {report.preemptions} preemptions, ")
    write(f"{report.engine_steps:,} steps in {report.cpu_s:.2f} s of CPU\n")
    if report.failed:
        others = f", were given up or had no engine left ({', '.join(disturbed)})" if disturbed else ""
        write(f"warning: {report.failed} requests failed in the simulation: they do not fit the engine{others}\n")
