"""``validate load``: what a load client measured against what kvsim predicts for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvsim.cli.options import JsonOut, count
from kvsim.cli.validate_text import compared_rows, wrapped

if TYPE_CHECKING:
    from kvsim.validate.clients.result import ClientResult
    from kvsim.validate.open_loop import LoadPrediction, Server


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
    if json_out is not None:
        from kvsim.cli.outputs import check_file

        check_file("--json", json_out, {} if results.is_dir() else {"the results": results}, "JSON")
    from kvsim.validate.clients.read import read_client_results
    from kvsim.validate.open_loop import load_errors, predict_load, server

    loads = read_client_results(results)
    served = server(profile, model, degree, vllm_version, sets or [])
    warnings = _warnings(served, loads)
    sys.stdout.write(_head(served, vllm_version))
    for warning in warnings:
        sys.stdout.write(wrapped(f"warning: {warning}"))
    entries: list[dict[str, Any]] = []
    for load in loads:
        found = predict_load(load, served.plan) if load.completed else None
        errors, doubts = {}, []
        if found is not None and load.comparable:
            errors = load_errors(load, found)
            doubts = _doubts(load, found, errors, served)
        sys.stdout.write(_block(load, found, errors, doubts))
        entries.append(_entry(load, found, errors, doubts))
    if json_out is not None:
        from kvsim.report.json_report import write_json

        profile_name = served.loaded.provenance.name
        write_json(json_out, {"profile": profile_name, "warnings": warnings, "loads": entries})
    return 0


def _warnings(served: Server, loads: list[ClientResult]) -> list[str]:
    from kvsim.validate.doubts import model_doubts

    found = list(served.doubts)
    for load in loads:
        found += model_doubts(load.name, load.model, served.loaded.config)
    said: dict[str, str] = {}
    for warning in found:
        # The same of every stage is said once, of the first.
        said.setdefault(warning.partition(" was measured with ")[2] or warning, warning)
    return list(said.values())


def _head(served: Server, vllm_version: str) -> str:
    config = served.loaded.config
    what = f"{config.model.name} on {config.engine.tensor_parallel_size} x {config.hardware.gpu}"
    version = vllm_version or "of today"
    return wrapped(f"predicted: {what}, vLLM {version}, profile {served.loaded.provenance.name}")


def _doubts(load: ClientResult, found: LoadPrediction, errors: dict[str, float], served: Server) -> list[str]:
    from kvsim.validate.doubts import size_doubts

    doubts = size_doubts(errors.get("tpot_mean"), served.loaded.config)
    if load.failures:
        share = f"{load.failures:,} of {load.traffic.requests:,} requests"
        doubts.append(f"{share} without an answer; the figures are the others'")
    if found.gave_up:
        doubts.append(f"{found.gave_up:,} predicted requests outlast the client, and are left out of the figures too")
    if found.unfit:
        doubts.append(f"{found.unfit:,} predicted requests are longer than the model or the KV cache: not served")
    return doubts


def _refusal(load: ClientResult) -> str:
    from kvsim.validate.clients.result import MOST_FAILED

    share = f"{load.failures:,} of {load.traffic.requests:,} requests ({load.failed_share:.0%})"
    if not load.completed:
        return f"no comparison: none of {load.traffic.requests:,} requests has an answer"
    cut = "" if load.traffic.timeout_s is None else f", cut at the client's {load.traffic.timeout_s:g} s"
    return (
        f"no comparison: {share} have no answer, more than {MOST_FAILED:.0%}: the figures are the survivors'{cut}, on "
        "both sides"
    )


def _block(load: ClientResult, found: LoadPrediction | None, errors: dict[str, float], doubts: list[str]) -> str:
    lines = ["\n"]
    if not load.comparable:
        lines.append(wrapped(f"{load.name}: {_refusal(load)}"))
    lines.append(wrapped(f"{load.name}: {_sent(load)}"))
    if load.assumed:
        lines.append(wrapped(f"assumed: {'; '.join(load.assumed)}"))
    lines += [wrapped(f"warning: {doubt}") for doubt in doubts]
    return "".join(lines if found is None else (*lines, *compared_rows(_rows(load, found, errors))))


def _sent(load: ClientResult) -> str:
    traffic = load.traffic
    rate = f"{traffic.rate_per_s:g} requests/s, {traffic.gaps}"
    if traffic.rate_per_s == float("inf"):
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


def _entry(
    load: ClientResult, found: LoadPrediction | None, errors: dict[str, float], doubts: list[str]
) -> dict[str, Any]:
    traffic = load.traffic
    rate = traffic.rate_per_s
    return {
        "measured": {
            "name": load.name,
            "client": load.client,
            "model": load.model,
            "requested_rate_per_s": None if rate == float("inf") else rate,
            "gaps": traffic.gaps,
            "max_in_flight": traffic.max_in_flight,
            "timeout_s": traffic.timeout_s,
            "prompts": None if traffic.shared is None else traffic.shared.words,
            "sent": traffic.requests,
            "requests": load.completed,
            "failures": load.failures,
            "prompt_tokens_mean": traffic.prompt_tokens,
            "output_tokens_mean": traffic.output_tokens,
            "requests_per_s": load.requests_per_s,
            "output_tokens_per_s": load.output_tokens_per_s,
            "goodput_requests_per_s": load.goodput_requests_per_s,
            "ttft_s": load.ttft_s,
            "e2e_s": load.e2e_s,
            "tpot_mean_s": load.tpot_mean_s,
            "assumed": list(load.assumed),
        },
        "predicted": None if found is None else found.__dict__,
        "comparable": load.comparable,
        "warnings": doubts if load.comparable else [_refusal(load)],
        "error_pct": errors,
    }
