"""``validate load``: what a load client measured against what kvsim predicts for it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli.options import JsonOut, count
from kvsim.cli.validate_text import check_json, compared_rows, wrapped, write_json

if TYPE_CHECKING:
    from kvsim.validate.clients.result import ClientResult
    from kvsim.validate.compare_loads import LoadComparison
    from kvsim.validate.predict_load import LoadPrediction, Server


def validate_load(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="A client's JSON, or a folder of stage_*.json.")],
    profile: Annotated[Path, typer.Option(metavar="PROFILE", help="Step times: a file, or a shipped profile's name.")],
    model: Annotated[str, typer.Option(help="A known model, a Hugging Face id, or a config.json.")],
    degree: Annotated[int, typer.Option("--tensor-parallel", parser=count, help="GPUs of the instance.")] = 1,
    vllm_version: Annotated[str, typer.Option(help="Of the server; without it a present one, from 0.14 on.")] = "",
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="As for a run; comes last.")] = None,
    json_out: JsonOut = None,
) -> int:
    """Predict loads on one instance that vLLM's `bench serve`, inference-perf, AIPerf or GuideLLM measured."""
    check_json(json_out, {} if results.is_dir() else {"the results": results})
    from kvsim.validate.clients.read import read_client_results
    from kvsim.validate.compare_loads import compare_load, server_warnings
    from kvsim.validate.predict_load import load_server

    loads = read_client_results(results)
    server = load_server(profile, model, degree, vllm_version, sets or [])
    warnings = server_warnings(server, loads)
    sys.stdout.write(_head(server, vllm_version))
    for warning in warnings:
        sys.stdout.write(wrapped(f"warning: {warning}"))
    comparisons = []
    for load in loads:
        comparisons.append(compare_load(load, server))
        sys.stdout.write(_block(comparisons[-1]))
    head = {"profile": server.loaded.provenance.name, "warnings": warnings}
    write_json(json_out, head | {"loads": [found.dump() for found in comparisons]})
    return 0


def _head(server: Server, vllm_version: str) -> str:
    config = server.loaded.config
    what = f"{config.model.name} on {config.engine.tensor_parallel_size} x {config.hardware.gpu}"
    version = vllm_version or "of today"
    return wrapped(f"predicted: {what}, vLLM {version}, profile {server.loaded.provenance.name}")


def _block(found: LoadComparison) -> str:
    load, lines = found.measured, ["\n"]
    if found.refusal is not None:
        lines.append(wrapped(f"{load.name}: {found.refusal}"))
    lines.append(wrapped(f"{load.name}: {_sent(load)}"))
    if load.assumed:
        lines.append(wrapped(f"assumed: {'; '.join(load.assumed)}"))
    lines += [wrapped(f"warning: {warning}") for warning in found.warnings]
    if found.predicted is not None:
        lines += compared_rows(_rows(load, found.predicted, found.error_pct))
    return "".join(lines)


def _sent(load: ClientResult) -> str:
    traffic = load.traffic
    rate = f"{traffic.rate_per_s:g} requests/s, {traffic.gaps}"
    if math.isinf(traffic.rate_per_s):
        rate = "all at once"
    parts = [load.client, rate, f"{traffic.requests:,} sent"]
    if traffic.max_in_flight is not None:
        parts.append(f"at most {traffic.max_in_flight:,} in flight")
    parts.append(f"{traffic.prompt_tokens:,.0f} tokens in, {traffic.output_tokens:,.1f} out")
    if traffic.shared is not None:
        parts.append(traffic.shared.words)
    return ", ".join(parts)


def _rows(
    load: ClientResult, found: LoadPrediction, errors: dict[str, float]
) -> Iterator[tuple[str, float | None, float | None, float | None]]:
    """Name and unit, measured, predicted, error; of what was measured."""
    yield "requests/s", load.requests_per_s, found.requests_per_s, errors.get("requests_per_s")
    if load.failures or found.gave_up:
        predicted = found.gave_up / load.traffic.requests
        yield "without an answer (%)", 100 * load.failed_share, 100 * predicted, None
    for metric, theirs, ours in (("ttft", load.ttft_s, found.ttft_s), ("e2e", load.e2e_s, found.e2e_s)):
        unit, unit_s = ("ms", 1e-3) if metric == "ttft" else ("s", 1.0)
        for name in [name for name in ("mean", "p50", "p90", "p99") if name in theirs]:
            predicted_s = ours.get(name)
            scaled = None if predicted_s is None else predicted_s / unit_s
            yield f"{metric.upper()} {name} ({unit})", theirs[name] / unit_s, scaled, errors.get(f"{metric}_{name}")
        if metric == "ttft" and load.tpot_mean_s is not None:
            tpot_ms = None if found.tpot_mean_s is None else found.tpot_mean_s * 1e3
            yield "TPOT mean (ms)", load.tpot_mean_s * 1e3, tpot_ms, errors.get("tpot_mean")
