"""Reading what load clients report of a run: ``vllm bench serve`` and inference-perf."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kvsim.errors import ConfigError
from kvsim.units import MILLI

PERCENTS = ("p50", "p90", "p95", "p99")
MOST_S = 86_400.0


@dataclass(frozen=True)
class ClientResult:
    """One load on one server, as its client saw it. Times in seconds; ``None`` where nothing was recorded."""

    name: str
    requested_rate_per_s: float
    """``inf``: everything at once."""
    is_constant: bool
    """Requests at equal gaps; else Poisson."""
    max_in_flight: int | None
    requests: int
    failures: int
    prompt_tokens_mean: float
    output_tokens_mean: float
    requests_per_s: float
    output_tokens_per_s: float
    goodput_requests_per_s: float | None
    ttft_s: dict[str, float]
    """``mean`` and percentiles."""
    e2e_s: dict[str, float]
    tpot_mean_s: float | None


def read_client_results(path: Path) -> list[ClientResult]:
    """Of one file, or of a folder's ``stage_*.json`` in order, with the ``load.yaml`` beside them.

    Raises ``ConfigError`` (file, key, value, what is allowed).
    """
    if not path.is_dir():
        return [_read(path, None)]
    stages = sorted(path.glob("stage_*.json"), key=lambda file: int(re.sub(r"\D", "", file.stem) or 0))
    if not stages:
        raise ConfigError(f"{path}: no stage_*.json; a result file, or a folder of inference-perf's stages is wanted")
    limit = _in_flight_limit(path / "load.yaml")
    return [_read(stage, limit) for stage in stages]


def _in_flight_limit(path: Path) -> int | None:
    """inference-perf's workers, each with so many requests in flight."""
    if not path.is_file():
        return None
    try:
        load = yaml.safe_load(path.read_text(encoding="utf-8")).get("load", {})
        workers, each = load.get("num_workers"), load.get("worker_max_concurrency")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
        raise ConfigError(f"{path.name}: not readable as inference-perf's load: {str(error).splitlines()[0]}") from None
    return workers * each if isinstance(workers, int) and isinstance(each, int) else None


def _read(path: Path, in_flight: int | None) -> ClientResult:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path.name}: not JSON: {str(error).splitlines()[0]}") from None
    figures = _Figures(path.name, values)
    if isinstance(values, dict) and "load_summary" in values and "successes" in values:
        return _inference_perf(figures, in_flight)
    if isinstance(values, dict) and "request_throughput" in values:
        return _bench_serve(figures, in_flight)
    raise ConfigError(f"{path.name}: neither a result of 'vllm bench serve' nor a stage of inference-perf")


class _Figures:
    """Numbers by dotted key, each checked when it is asked for."""

    def __init__(self, file: str, values: Any) -> None:
        self.file, self.values = file, values

    def get(self, key: str) -> Any:
        value = self.values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def number(self, key: str, most: float = 1e12) -> float:
        value = self.get(key)
        try:
            found = float(value)
        except (TypeError, ValueError):
            found = math.nan
        if isinstance(value, bool) or not 0 <= found <= most:
            raise ConfigError(f"{self.file}: {key} = {value!r}: must be a number from 0 to {most:g}")
        return found

    def maybe(self, key: str, most: float = 1e12) -> float | None:
        return None if self.get(key) is None else self.number(key, most)

    def times(self, keys: dict[str, str], unit: float) -> dict[str, float]:
        """By name, those that are there."""
        found = {name: self.maybe(key, MOST_S / unit) for name, key in keys.items()}
        return {name: value * unit for name, value in found.items() if value is not None}


def _inference_perf(figures: _Figures, in_flight: int | None) -> ClientResult:
    """Its ``time_per_output_token`` is about half the truth: TPOT is (E2E - TTFT) / (output - 1) of the means."""

    def times(name: str) -> dict[str, float]:
        keys = {"p50": "median"} | {percent: percent for percent in PERCENTS[1:]} | {"mean": "mean"}
        return figures.times({key: f"successes.latency.{name}.{of}" for key, of in keys.items()}, 1.0)

    ttft_s, e2e_s = times("time_to_first_token"), times("request_latency")
    outputs = figures.number("successes.output_len.mean")
    tpot_s = (e2e_s["mean"] - ttft_s["mean"]) / (outputs - 1) if outputs > 1 and ttft_s and e2e_s else None
    return ClientResult(
        name=figures.file,
        requested_rate_per_s=figures.number("load_summary.requested_rate"),
        is_constant=True,
        max_in_flight=in_flight,
        requests=int(figures.number("successes.count")),
        failures=int(figures.maybe("failures.count") or 0),
        prompt_tokens_mean=figures.number("successes.prompt_len.mean"),
        output_tokens_mean=outputs,
        requests_per_s=figures.number("successes.throughput.requests_per_sec"),
        output_tokens_per_s=figures.number("successes.throughput.output_tokens_per_sec"),
        goodput_requests_per_s=None,
        ttft_s=ttft_s,
        e2e_s=e2e_s,
        tpot_mean_s=tpot_s,
    )


def _bench_serve(figures: _Figures, in_flight: int | None) -> ClientResult:
    """Newer versions write ``request_goodput``, older ones ``request_goodput:``."""
    count = figures.number("completed")
    if count < 1:
        raise ConfigError(f"{figures.file}: completed = {count:g}: no request was served")

    def times(name: str) -> dict[str, float]:
        keys = {"mean": f"mean_{name}_ms", "p50": f"median_{name}_ms"}
        return figures.times(keys | {percent: f"{percent}_{name}_ms" for percent in PERCENTS[1:]}, MILLI)

    values = figures.values
    goodput = values.get("request_goodput", values.get("request_goodput:"))
    rate = values.get("request_rate", "inf")
    limit = figures.maybe("max_concurrency")
    tpot_ms = figures.maybe("mean_tpot_ms")
    return ClientResult(
        name=figures.file,
        requested_rate_per_s=math.inf if rate in ("inf", None) or rate == math.inf else figures.number("request_rate"),
        is_constant=False,
        max_in_flight=int(limit) if limit else in_flight,
        requests=int(count),
        failures=int(figures.maybe("failed") or 0),
        prompt_tokens_mean=figures.number("total_input_tokens") / count,
        output_tokens_mean=figures.number("total_output_tokens") / count,
        requests_per_s=figures.number("request_throughput"),
        output_tokens_per_s=figures.number("output_throughput"),
        goodput_requests_per_s=float(goodput) if isinstance(goodput, int | float) else None,
        ttft_s=times("ttft"),
        e2e_s=times("e2el"),
        tpot_mean_s=None if tpot_ms is None else tpot_ms * MILLI,
    )
