"""``validate load``: what a load client measured against what kvsim predicts for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kvsim.cli.options import JsonOut, count

SHOWN = ("ttft_mean", "ttft_p99", "tpot_mean", "e2e_mean", "e2e_p99", "requests_per_s")


def validate_load(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="A client's JSON, or a folder of stage_*.json.")],
    profile: Annotated[Path, typer.Option(metavar="PROFILE", help="Step times: a file, or a shipped profile's name.")],
    model: Annotated[str, typer.Option(help="A known model, a Hugging Face id, or a config.json.")],
    degree: Annotated[int, typer.Option("--tensor-parallel", parser=count, help="GPUs of the instance.")] = 1,
    vllm_version: Annotated[str, typer.Option(help="Of the server; unknown ones count as older than 0.14.")] = "",
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="As for a run; comes last.")] = None,
    json_out: JsonOut = None,
) -> int:
    """Predict loads that `vllm bench serve` or inference-perf measured on one instance."""
    if json_out is not None:
        from kvsim.cli.outputs import check_file

        check_file("--json", json_out, {} if results.is_dir() else {"the results": results})
    from kvsim.measured.client import read_client_results
    from kvsim.measured.open_loop import load_errors, predict_load, server

    loads = read_client_results(results)
    plan = server(profile, model, degree, vllm_version, sets or [])
    sys.stdout.write(f"{'error of prediction (%)':<24}{'requests/s':>11}{''.join(f'{name:>15}' for name in SHOWN)}\n")
    entries: list[dict[str, Any]] = []
    for load in loads:
        found = predict_load(load, plan)
        errors = load_errors(load, found)
        figures = "".join(f"{errors[name]:>+15.1f}" if name in errors else f"{'-':>15}" for name in SHOWN)
        sys.stdout.write(f"{load.name:<24}{load.requested_rate_per_s:>11.1f}{figures}\n")
        entries.append({"measured": load.__dict__, "predicted": found.__dict__, "error_pct": errors})
    if json_out is not None:
        from kvsim.report.json_report import write_json

        write_json(json_out, {"loads": entries})
    return 0
