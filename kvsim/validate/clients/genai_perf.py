"""GenAI-Perf: its summary, which AIPerf's was made from, and the requests as its Perf Analyzer recorded them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.validate.clients.aiperf import result_of_metrics, times_of
from kvsim.validate.clients.definitions import COUNTS_ANSWERED, TPOT
from kvsim.validate.clients.requests import Requests, Row, recorded_traffic, result_of
from kvsim.validate.clients.result import ClientResult
from kvsim.validate.clients.traffic import POISSON, Traffic

NAME = "GenAI-Perf"
SUMMARY = "profile_export_genai_perf.json"
_NS = 1e-9
_END = "[DONE]"


def is_genai_perf(values: dict[str, object]) -> bool:
    config = values.get("input_config")
    return isinstance(config, dict) and "perf_analyzer" in config and "request_latency" in values


def is_profile(values: dict[str, object]) -> bool:
    return "experiments" in values and "service_kind" in values


def read_genai_perf(fields: Fields, asked: Traffic | None = None) -> ClientResult:
    """GenAI-Perf's ``inter_token_latency`` is (latency - TTFT) / (tokens - 1) of a request, as AIPerf's."""
    if not isinstance(fields.get("request_count"), dict):
        raise fields.error("request_count", "must be a metric: without it nobody knows how many requests there were")
    load = traffic_of(fields.within("input_config.perf_analyzer.stimulus"), asked)
    return result_of_metrics(fields, fields, load, NAME, model_of(fields), (COUNTS_ANSWERED,))


def traffic_of(stimulus: Fields, asked: Traffic | None) -> Traffic:
    """``{"concurrency": 8}`` or ``{"request_rate": 4.0}``, with exponential gaps unless told otherwise."""
    limit = stimulus.maybe_count("concurrency") or None
    if limit is None and stimulus.get("request_rate") is None:
        if asked is None:
            allowed = "the load is unknown: a rate or a concurrency is wanted, --rate or --concurrency"
            raise ConfigError(
                f"{stimulus.file}: input_config.perf_analyzer.stimulus = {stimulus.values!r:.60}: {allowed}"
            )
        return asked
    rate_per_s = math.inf if limit else stimulus.number("request_rate", least=1e-6)
    return Traffic(0, rate_per_s, 0, 0, burstiness=POISSON, max_in_flight=limit)


def model_of(fields: Fields) -> str | None:
    """The model of a run with a single one."""
    names = fields.get("input_config.model_names") or fields.get("input_config.models")
    if isinstance(names, list):
        names = names[0] if len(names) == 1 else None
    return names if isinstance(names, str) else None


def profile_row(request: Any) -> object:
    """(sent, first answer, last answer in nanoseconds, answers that hold a token); ``None``: no request."""
    try:
        outputs = [str(output.get("response", "")) for output in request["response_outputs"]]
        times = [
            time
            for time, output in zip(request["response_timestamps"], outputs, strict=True)
            if output.strip() and _END not in output and _carries(output)
        ]
        return request["timestamp"], times[0] if times else None, times[-1] if times else None, len(times)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _carries(output: str) -> bool:
    """Whether a chunk holds text: the first one of a chat has only a role, and the last one counts tokens."""
    compact = output.replace(" ", "")
    return '"choices":[]' not in compact and '"content":""' not in compact


REDUCTIONS = {"requests": profile_row}


def read_profile(fields: Fields, summary: Fields | None) -> tuple[ClientResult, ...]:
    """``profile_export.json``: a load for each experiment. It has texts, and no tokens of prompts: those are of the
    ``summary`` beside it.
    """
    if summary is None:
        raise ConfigError(f"{fields.file}: has texts and no tokens: {SUMMARY} is read, or this with that beside it")
    experiments = fields.get("experiments")
    if not isinstance(experiments, list) or not experiments:
        raise fields.error("experiments", "must be a list of runs")
    return tuple(
        _experiment(Fields(fields.file, experiment, f"experiments.{place}."), summary)
        for place, experiment in enumerate(experiments)
    )


def _experiment(fields: Fields, summary: Fields) -> ClientResult:
    rows = fields.get("requests")
    if not isinstance(rows, list) or not rows:
        raise fields.error("requests", "must be a list of requests")
    prompts = summary.number("input_sequence_length.avg")
    outputs = summary.number("output_sequence_length.avg")
    requests = Requests.of(fields.file, (_row(fields.file, row, prompts, outputs) for row in rows))
    mode, value = fields.get("experiment.mode"), fields.get("experiment.value")
    stimulus = Fields(fields.file, {mode: value} if mode in ("concurrency", "request_rate") else {}, "experiment.")
    traffic = traffic_of(stimulus, recorded_traffic(requests))
    found = result_of(requests, traffic, name=fields.file, client=NAME, model=model_of(summary))
    tpot_s = times_of(summary, "inter_token_latency").get("mean")
    return replace(
        found,
        tpot_mean_s=tpot_s or None,
        definitions=(f"of {SUMMARY}, {TPOT}", "mean ITL made of (E2E - TTFT) / (n - 1) over tokens"),
        assumed=(*found.assumed, f"prompts and answers are as long as the mean of {SUMMARY}"),
    )


def _row(file: str, row: Any, prompts: float, outputs: float) -> Row:
    if row is None:
        raise ConfigError(f"{file}: an entry of requests is no request of {NAME}")
    sent, first, last, chunks = row
    if not isinstance(sent, int | float) or chunks == 0:
        return Row(sent, prompts, None, None, None, answered=False)
    if not all(isinstance(time, int | float) for time in (first, last)):
        raise ConfigError(f"{file}: response_timestamps: must be nanoseconds")
    return Row(sent * _NS, prompts, outputs, (first - sent) * _NS, (last - sent) * _NS)
