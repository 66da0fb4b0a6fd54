"""AIPerf's summary of a run: ``profile_export_aiperf.json``, a unit beside each metric."""

from __future__ import annotations

import math

from kvsim.fields import Fields
from kvsim.validate.clients.result import PERCENTS, ClientResult
from kvsim.validate.clients.traffic import EQUAL, POISSON, Traffic

NAME = "AIPerf"
UNITS_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0}
GAPS = {"poisson": POISSON, "constant": EQUAL, "concurrency_burst": EQUAL}


def is_aiperf(values: dict[str, object]) -> bool:
    return "aiperf_version" in values or isinstance(values.get("request_count"), dict)


def read_aiperf(fields: Fields) -> ClientResult:
    """AIPerf's ``inter_token_latency`` is a request's (latency - TTFT) / (tokens - 1): TPOT."""
    completed, failures = fields.count("request_count.avg"), _failures(fields)
    outputs = fields.mean_over(completed, "output_sequence_length.avg")
    tpot_s = _times(fields, "inter_token_latency").get("mean") if outputs > 1 else None
    load = fields.within("input_config.loadgen")
    return ClientResult(
        name=fields.file,
        client=NAME,
        traffic=Traffic(
            requests=completed + failures,
            rate_per_s=_rate(fields, load),
            burstiness=_burstiness(load),
            prompt_tokens=fields.mean_over(completed, "input_sequence_length.avg"),
            output_tokens=outputs,
            max_in_flight=load.maybe_count("concurrency") or None,
            timeout_s=fields.maybe("input_config.endpoint.timeout_seconds") or None,
        ),
        completed=completed,
        failures=failures,
        requests_per_s=fields.mean_over(completed, "request_throughput.avg"),
        output_tokens_per_s=fields.maybe("output_token_throughput.avg"),
        ttft_s=_times(fields, "time_to_first_token"),
        e2e_s=_times(fields, "request_latency"),
        tpot_mean_s=tpot_s,
        tpot_weighs_tokens=False,
        model=_model(fields),
        assumed=("prompts share nothing",),
    )


def _times(fields: Fields, metric: str) -> dict[str, float]:
    """Seconds; nothing where the metric is absent."""
    of = fields.within(metric)
    if of.values is None:
        return {}
    unit = of.text("unit")
    if unit not in UNITS_S:
        raise of.error("unit", f"must be one of {', '.join(UNITS_S)}")
    return of.times({"mean": "avg"} | {percent: percent for percent in PERCENTS}, UNITS_S[unit])


def _failures(fields: Fields) -> int:
    counted = fields.maybe_count("error_request_count.avg")
    if counted is not None:
        return counted
    found = fields.get("error_summary") or []
    if not isinstance(found, list):
        raise fields.error("error_summary", "must be a list")
    return sum(Fields(fields.file, entry, "error_summary.").count("count") for entry in found)


def _rate(fields: Fields, load: Fields) -> float:
    if fields.get("input_config.input.fixed_schedule") or load.get("user_centric_rate"):
        raise fields.error("input_config", "schedules and rates of users are not read, only rates and concurrency")
    if load.get("request_rate") is not None:
        return load.number("request_rate", least=1e-6)
    if not load.maybe_count("concurrency"):
        raise load.error("request_rate", "the load is unknown: a rate or a concurrency is wanted")
    return math.inf


def _burstiness(load: Fields) -> float:
    pattern = load.get("arrival_pattern") or load.get("request_rate_mode") or "poisson"
    if pattern == "gamma":
        return load.number("arrival_smoothness", least=1e-3)
    if not isinstance(pattern, str) or pattern not in GAPS:
        raise load.error("arrival_pattern", f"must be one of gamma, {', '.join(GAPS)}")
    return GAPS[pattern]


def _model(fields: Fields) -> str | None:
    names = fields.get("input_config.endpoint.model_names")
    if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str):
        return names[0]
    return fields.text("input_config.endpoint.model_name")
