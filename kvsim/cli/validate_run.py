"""``validate run``: one measured run against what kvsim predicts for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvsim.cli.options import JsonOut, reads_traces
from kvsim.cli.validate_text import figure, points, wrapped
from kvsim.workload.reading import Reading

if TYPE_CHECKING:
    from kvsim.config import LoadedConfig
    from kvsim.validate.predict import Prediction
    from kvsim.validate.run import MeasuredRun

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
    from kvsim.validate.predict import configured, predict
    from kvsim.validate.run import read_run
    from kvsim.workload.read import read_workload

    run = read_run(measured)
    loaded = configured(run, profile, model_config, sets or [])
    prediction = predict(run, read_workload(workload, reading.default_format("sharegpt")), loaded)
    report = _report(run, loaded, prediction)
    _print(report)
    if json_out is not None:
        from kvsim.report.json_report import write_json

        write_json(json_out, report)
    if plot is not None:
        from kvsim.report.validation_plots import draw_run

        draw_run(run, prediction, plot)
    return 0


def _check(json_out: Path | None, plot: Path | None, taken: dict[str, Path]) -> None:
    from kvsim.cli.outputs import check_file

    if json_out is not None:
        check_file("--json", json_out, taken, "JSON")
        taken = taken | {"also that of --json": json_out}
    if plot is not None:
        check_file("--plot", plot, taken, "PNG")


def _report(run: MeasuredRun, loaded: LoadedConfig, prediction: Prediction) -> dict[str, Any]:
    import numpy as np

    from kvsim.config import dump
    from kvsim.validate.errors import percent
    from kvsim.validate.predict import compared, means

    measured, errors = run.requests, compared(run, prediction)
    tokens = float(measured.output_tokens.sum())
    ours_s, theirs_s = float(np.nanmax(prediction.last_token_s)), float(measured.last_token_s.max())
    return {
        "run": run.name,
        "vllm_version": run.vllm_version,
        "requests": len(measured.arrival_s),
        "failed": int(np.isnan(prediction.last_token_s).sum()),
        "errors": errors,
        "means": means(run, prediction),
        "throughput": {
            "measured_output_tokens_per_s": tokens / theirs_s if theirs_s > 0 else None,
            "predicted_output_tokens_per_s": tokens / ours_s,
            "error_pct": percent(1 / ours_s, 1 / theirs_s) if theirs_s > 0 else None,
        },
        "kv_blocks": prediction.kv_blocks,
        "preemptions": prediction.preemptions,
        "prefix_hit_tokens": prediction.hit_tokens,
        "engine_steps": prediction.steps,
        "cpu_s": prediction.sim_cpu_s,
        "profile": loaded.provenance.name,
        "gpu": run.gpu,
        "warnings": _warnings(run, loaded, prediction, errors["tpot"]["mean_pct"]),
        "config": dump(loaded.config),
    }


def _warnings(run: MeasuredRun, loaded: LoadedConfig, prediction: Prediction, tpot_pct: float | None) -> list[str]:
    from kvsim.plan.unmodelled import unmodelled
    from kvsim.validate.doubts import gpu_doubts, model_doubts, profile_doubts, size_doubts, version_doubts

    config = loaded.config
    found = [
        *profile_doubts(loaded),
        *model_doubts(run.name, run.model or None, config),
        *gpu_doubts(run.name, run.gpu, config),
        *version_doubts(run.name, run.vllm_version),
        *size_doubts(tpot_pct, config),
        *unmodelled(config),
    ]
    return found if prediction.implausible is None else [*found, prediction.implausible]


def _print(report: dict[str, Any]) -> None:
    """Means side by side, and how far the mean and percentiles are off."""
    write = sys.stdout.write
    version = report["vllm_version"] or "of an unknown version"
    write(wrapped(f"{report['run']}: {report['requests']} requests, vLLM {version}, profile {report['profile']}"))
    for warning in report["warnings"]:
        write(wrapped(f"warning: {warning}"))
    write(f"{'mean (ms), error (%)':<21}{'measured':>10}{'predicted':>10}{'mean':>6}{'p50':>6}{'p90':>6}{'p95':>6}")
    write(f"{'p99':>6}{'each':>6}\n")
    for name, errors in report["errors"].items():
        means = report["means"][name]
        write(f"{UNITS[name]:<21}{figure(means['measured_ms'], 10)}{figure(means['predicted_ms'], 10)}")
        write("".join(points(errors[f"{key}_pct"], 6) for key in ("mean", "p50", "p90", "p95", "p99")))
        write(f"{points(errors['mape_pct'], 6, signed=False)}\n")
    rates = report["throughput"]
    speeds = [rates[f"{side}_output_tokens_per_s"] for side in ("measured", "predicted")]
    write(f"{'output tokens/s':<21}{figure(speeds[0], 10)}{figure(speeds[1], 10)}")
    write(f"{points(rates['error_pct'], 6)}\n")
    write("each: mean over requests of the absolute error. One token has no TPOT.\n")
    write(f"{report['kv_blocks']:,} KV blocks, {report['preemptions']} preemptions, ")
    write(f"{report['engine_steps']:,} steps in {report['cpu_s']:.2f} s of CPU\n")
    if report["failed"]:
        write(f"warning: {report['failed']} requests failed in the simulation: they do not fit the engine\n")
