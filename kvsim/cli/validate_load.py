"""``validate load``: what a load client measured against what kvsim predicts for it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli.options import JsonOut, count, positive
from kvsim.cli.usage import FlagError
from kvsim.cli.validate_text import check_json, compared_rows, wrapped, write_json

if TYPE_CHECKING:
    from kvsim.validate.clients.result import ClientResult
    from kvsim.validate.clients.traffic import Traffic
    from kvsim.validate.compare_loads import LoadComparison
    from kvsim.validate.predict_load import LoadPrediction, Server


def validate_load(
    results: Annotated[
        list[Path] | None, typer.Argument(metavar="RESULTS", help="Files of load clients, or folders of them.")
    ] = None,
    measured: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="As RESULTS.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="A known model, a Hugging Face id, or a config.json; default: as RESULTS name it."
        ),
    ] = None,
    gpu: Annotated[str | None, typer.Option(metavar="NAME", help="The GPU; default: hardware.gpu.")] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            metavar="PROFILE", help="Step times: a file, or a shipped profile's name; default: the nearest measured."
        ),
    ] = None,
    degree: Annotated[
        int, typer.Option("--tensor-parallel", metavar="N", parser=count, help="GPUs of the instance.")
    ] = 1,
    vllm_version: Annotated[
        str, typer.Option(metavar="VERSION", help="Of the server; without it a present one, from 0.14 on.")
    ] = "",
    rate: Annotated[
        float | None,
        typer.Option(metavar="R", parser=positive, help="Requests/s that were sent, where a file does not say it."),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(metavar="C", parser=count, help="Most requests in flight, where a file does not say it."),
    ] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="As for a run; comes last.")] = None,
    json_out: JsonOut = None,
) -> int:
    """Predict loads on one instance that vLLM's, SGLang's or another client measured (docs/results.md)."""
    paths = (results or []) + (measured or [])
    if not paths:
        raise FlagError("validate load: RESULTS are missing: a client's file, or a folder of them")
    if gpu is not None and profile is not None:
        raise FlagError("--gpu and --profile exclude each other: a profile is of one GPU; give one")
    check_json(json_out, {f"the results {path.name}": path for path in paths if not path.is_dir()})
    from kvsim.validate.clients.read import read_results
    from kvsim.validate.compare_loads import compare_load, server_warnings
    from kvsim.validate.named_model import named_model
    from kvsim.validate.predict_load import load_server

    asked = _asked(rate, concurrency)
    loads = [load for path in paths for load in read_results(path, asked)]
    source = named_model(loads) if model is None else None
    name = model if source is None else source.model
    server = load_server(profile, name or "", degree, vllm_version, sets or [], gpu)
    warnings = server_warnings(server, loads)
    sys.stdout.write(_head(server, vllm_version))
    taken = list(_taken(source, server, gpu, profile))
    if taken:
        sys.stdout.write(wrapped(f"taken: {'; '.join(taken)}"))
    for warning in warnings:
        sys.stdout.write(wrapped(f"warning: {warning}"))
    comparisons: list[LoadComparison] = []
    said: tuple[str, ...] = ()
    for load in loads:
        comparisons.append(compare_load(load, server))
        sys.stdout.write(_block(comparisons[-1], defines=load.definitions != said))
        said = load.definitions
    head = {"profile": server.profile, "warnings": warnings}
    write_json(json_out, head | {"loads": [found.dump() for found in comparisons]})
    return 0


def _asked(rate: float | None, concurrency: int | None) -> Traffic | None:
    from kvsim.validate.clients.traffic import Traffic

    if rate is None and concurrency is None:
        return None
    rate_per_s = math.inf if rate is None else rate
    return Traffic(requests=0, rate_per_s=rate_per_s, prompt_tokens=0, output_tokens=0, max_in_flight=concurrency)


def _head(server: Server, vllm_version: str) -> str:
    from kvsim.config import derived

    config = server.loaded.config
    what = f"{config.model.name} on {derived.gpus_in_words(config)}"
    version = vllm_version or "of today"
    return wrapped(f"predicted: {what}, vLLM {version}, {server.step_times}")


def _taken(source: ClientResult | None, server: Server, gpu: str | None, profile: Path | None) -> Iterator[str]:
    """What nobody said, and where it is from."""
    if source is not None:
        yield f"the model from {source.name} (--model says another)"
    if profile is None:
        if gpu is None:
            yield f"{server.loaded.config.hardware.gpu} as configured (--gpu)"
        yield "step times of the nearest measured instance (--profile)"


def _block(found: LoadComparison, *, defines: bool) -> str:
    load, lines = found.measured, ["\n"]
    if found.refusal is not None:
        lines.append(wrapped(f"{load.name}: {found.refusal}"))
    lines.append(wrapped(f"{load.name}: {_sent(load)}"))
    if load.assumed:
        lines.append(wrapped(f"assumed: {'; '.join(load.assumed)}"))
    if defines:
        lines.append(wrapped(f"definitions: {'; '.join(load.definitions)}"))
    if found.saturation is not None and found.saturation.sentence is not None:
        lines.append(wrapped(found.saturation.sentence))
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
    if traffic.prompts_words is not None:
        parts.append(f"prompts {traffic.prompts_words}" if traffic.shared is None else traffic.prompts_words)
    return ", ".join(parts)


def _rows(
    load: ClientResult, found: LoadPrediction, errors: dict[str, float]
) -> Iterator[tuple[str, float | None, float | None, float | None]]:
    """Name and unit, measured, predicted, error; of what was measured."""
    yield "requests/s", load.requests_per_s, found.requests_per_s, errors.get("requests_per_s")
    if load.failures or found.gave_up:
        predicted = found.gave_up / load.traffic.requests
        yield "without an answer (%)", 100 * load.failed_share, 100 * predicted, None
    yield from _latencies("TTFT", "ms", load.ttft_s, found.ttft_s, errors)
    if load.tpot_mean_s is not None:
        tpot_ms = None if found.tpot_mean_s is None else found.tpot_mean_s * 1e3
        yield "TPOT mean (ms)", load.tpot_mean_s * 1e3, tpot_ms, errors.get("tpot_mean")
    yield from _latencies("ITL", "ms", load.itl_s, found.itl_s, errors)
    yield from _latencies("E2E", "s", load.e2e_s, found.e2e_s, errors)


def _latencies(
    metric: str, unit: str, theirs: dict[str, float], ours: dict[str, float], errors: dict[str, float]
) -> Iterator[tuple[str, float | None, float | None, float | None]]:
    unit_s = 1e-3 if unit == "ms" else 1.0
    for name in [name for name in ("mean", "p50", "p90", "p99") if name in theirs]:
        predicted = ours[name] / unit_s if name in ours else None
        error = errors.get(f"{metric.lower()}_{name}")
        yield f"{metric} {name} ({unit})", theirs[name] / unit_s, predicted, error
