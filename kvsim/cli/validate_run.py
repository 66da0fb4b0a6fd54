"""``validate run``: one measured run against what kvsim predicts for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvsim.cli.options import JsonOut

if TYPE_CHECKING:
    from kvsim.config import LoadedConfig
    from kvsim.measured.predict import Prediction
    from kvsim.measured.run import MeasuredRun

UNITS = {"ttft": "TTFT", "ttft_from_queued": "TTFT from queued", "tpot": "TPOT", "e2e": "E2E"}


def validate_run(
    measured: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the run: meta.json, requests.jsonl.")],
    workload: Annotated[Path, typer.Option(metavar="FILE", help="The requests that were sent, with token ids.")],
    profile: Annotated[Path, typer.Option(metavar="PROFILE", help="Step times: a file, or a shipped profile's name.")],
    model_config: Annotated[Path | None, typer.Option(metavar="FILE", help="The model's config.json.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="As for a run; comes last.")] = None,
    json_out: JsonOut = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw predicted against measured.")] = None,
) -> int:
    """Predict a measured run, request by request: errors of TTFT, TPOT and E2E."""
    _check(json_out, plot, {"the workload": workload, "the profile": profile})
    from kvsim.measured.predict import configured, predict
    from kvsim.measured.run import read_run
    from kvsim.workload.read import read_trace

    run = read_run(measured)
    loaded = configured(run, profile, model_config, sets or [])
    prediction = predict(run, read_trace(workload, "sharegpt"), loaded)
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
        check_file("--json", json_out, taken)
        taken = taken | {"also that of --json": json_out}
    if plot is not None:
        check_file("--plot", plot, taken)


def _report(run: MeasuredRun, loaded: LoadedConfig, prediction: Prediction) -> dict[str, Any]:
    import numpy as np

    from kvsim.config import dump
    from kvsim.measured.errors import percent
    from kvsim.measured.predict import compared, means

    measured = run.requests
    tokens = float(measured.output_tokens.sum())
    spans_s = np.nanmax(prediction.last_token_s), measured.last_token_s.max()
    return {
        "run": run.name,
        "vllm_version": run.vllm_version,
        "requests": len(measured.arrival_s),
        "failed": int(np.isnan(prediction.last_token_s).sum()),
        "errors": compared(run, prediction),
        "means": means(run, prediction),
        "throughput": {
            "measured_output_tokens_per_s": tokens / float(spans_s[1]),
            "predicted_output_tokens_per_s": tokens / float(spans_s[0]),
            "error_pct": percent(1 / float(spans_s[0]), 1 / float(spans_s[1])),
        },
        "kv_blocks": prediction.kv_blocks,
        "preemptions": prediction.preemptions,
        "prefix_hit_tokens": prediction.hit_tokens,
        "engine_steps": prediction.steps,
        "cpu_s": prediction.sim_cpu_s,
        "profile": loaded.provenance.name,
        "warnings": _warnings(loaded, prediction),
        "config": dump(loaded.config),
    }


def _warnings(loaded: LoadedConfig, prediction: Prediction) -> list[str]:
    found = list(loaded.provenance.warnings)
    validity = loaded.provenance.validity
    if not isinstance(validity, dict) or "gpu" not in validity:
        used = loaded.config.hardware.gpu
        found.append(f"the profile names no known GPU: memory and multiprocessors are {used}'s; see --set hardware.gpu")
    if prediction.implausible is not None:
        found.append(prediction.implausible)
    return found


def _print(report: dict[str, Any]) -> None:
    write = sys.stdout.write
    whose = f"vLLM {report['vllm_version']}, profile {report['profile']}"
    write(f"{report['run']}: {report['requests']} requests, {whose}\n")
    for warning in report["warnings"]:
        write(f"warning: {warning}\n")
    write(f"{'error of prediction (%)':<26}{'mean':>8}{'p50':>8}{'p90':>8}{'p95':>8}{'p99':>8}{'per request':>13}\n")
    for name, errors in report["errors"].items():
        figures = "".join(f"{errors[f'{key}_pct']:+8.1f}" for key in ("mean", "p50", "p90", "p95", "p99"))
        write(f"{UNITS[name]:<26}{figures}{errors['mape_pct']:>13.1f}\n")
    rate = report["throughput"]["error_pct"]
    write(f"output tokens/s {rate:+.1f}%; {report['kv_blocks']:,} KV blocks, {report['preemptions']} preemptions, ")
    write(f"{report['engine_steps']:,} steps in {report['cpu_s']:.2f} s of CPU\n")
    if report["failed"]:
        write(f"warning: {report['failed']} requests failed in the simulation: they do not fit the engine\n")
