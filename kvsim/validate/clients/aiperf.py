"""AIPerf's summary of a run, ``profile_export_aiperf.json``, and what it says of the load; units beside metrics."""

from __future__ import annotations

import math
from dataclasses import replace

from kvsim.errors import ConfigError
from kvsim.fields import MOST_S, Fields
from kvsim.validate.clients.definitions import NO_TTFT, itl_of_gaps, time_per_token_s
from kvsim.validate.clients.result import PERCENTS, ClientResult
from kvsim.validate.clients.traffic import EQUAL, POISSON, Traffic

NAME = "AIPerf"
UNITS_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0}
GAPS = {"poisson": POISSON, "constant": EQUAL, "concurrency_burst": EQUAL}
_TPOT = "its inter-token latency is (E2E - TTFT) / (n - 1) of each request, mean over requests: TPOT here"
_OLD = {"time_to_first_token": "ttft"}
"""Names of 0.1, which has its metrics under ``records``."""


def is_aiperf(values: dict[str, object]) -> bool:
    records, summary = values.get("records"), values.get("summary")
    if isinstance(summary, dict) and "endpoints_configured" in summary:
        return False  # What the server's /metrics said during a run.
    counts = records.get("request_count") if isinstance(records, dict) else values.get("request_count")
    return "aiperf_version" in values or isinstance(counts, dict)


def read_aiperf(fields: Fields, asked: Traffic | None = None) -> ClientResult:
    """AIPerf's ``inter_token_latency`` is a request's (latency - TTFT) / (tokens - 1): TPOT. ``asked``: the load, where
    the file does not say it.
    """
    metrics = fields if fields.get("records") is None else fields.within("records")
    load = traffic_of(fields, asked)
    return result_of_metrics(fields, metrics, load, NAME, model_of(fields))


def result_of_metrics(
    fields: Fields, metrics: Fields, load: Traffic, client: str, model: str | None, assumed: tuple[str, ...] = ()
) -> ClientResult:
    """A run by its metrics, as AIPerf and GenAI-Perf name them."""
    completed, failures = metrics.count("request_count.avg"), failures_of(fields, metrics)
    server = metrics.get("usage_prompt_tokens.avg") is not None
    prompts = "usage_prompt_tokens.avg" if server else "input_sequence_length.avg"
    outputs = metrics.mean_over(completed, "output_sequence_length.avg")
    ttft_s, e2e_s = times_of(metrics, "time_to_first_token"), times_of(metrics, "request_latency")
    tpot_s = times_of(metrics, "inter_token_latency").get("mean") if outputs > 1 else None
    itl_s, itl_words = itl_of_gaps(time_per_token_s(ttft_s, e2e_s, outputs), times_of(metrics, "inter_chunk_latency"))
    return ClientResult(
        name=fields.file,
        client=client,
        traffic=replace(
            load,
            requests=completed + failures,
            prompt_tokens=metrics.mean_over(completed, prompts),
            output_tokens=outputs,
        ),
        completed=completed,
        failures=failures,
        requests_per_s=metrics.mean_over(completed, "request_throughput.avg"),
        output_tokens_per_s=metrics.maybe("output_token_throughput.avg"),
        ttft_s=ttft_s,
        e2e_s=e2e_s,
        tpot_mean_s=tpot_s or None,
        itl_s=itl_s,
        definitions=(_TPOT, itl_words) if ttft_s else (NO_TTFT,),
        model=model,
        assumed=("prompts share nothing", *assumed),
    )


def times_of(fields: Fields, metric: str) -> dict[str, float]:
    """Seconds; nothing where the metric is absent."""
    of = fields.within(metric if fields.get(metric) is not None else _OLD.get(metric, metric))
    if of.values is None:
        return {}
    keys = {"mean": "avg"} | {percent: percent for percent in PERCENTS}
    return of.times(keys, unit_s(of))


def unit_s(of: Fields) -> float:
    """Seconds of the unit that stands beside a value. Raises ``ConfigError``."""
    unit = of.text("unit")
    if unit not in UNITS_S:
        raise of.error("unit", f"must be one of {', '.join(UNITS_S)}")
    return UNITS_S[unit]


def seconds_of(of: Fields) -> float | None:
    """A metric of one request; ``None`` where it is absent."""
    return None if of.values is None else of.number("value", MOST_S / unit_s(of)) * unit_s(of)


def failures_of(fields: Fields, metrics: Fields) -> int:
    """Requests without an answer."""
    counted = metrics.maybe_count("error_request_count.avg")
    if counted is not None:
        return counted
    found = fields.get("error_summary") or []
    if not isinstance(found, list):
        raise fields.error("error_summary", "must be a list")
    return sum(Fields(fields.file, entry, "error_summary.").count("count") for entry in found)


def traffic_of(fields: Fields, asked: Traffic | None) -> Traffic:
    """The load, without counts and lengths. 0.13 has it in ``phases``, 0.8 and before in ``loadgen``.

    Raises ``ConfigError`` on what is neither a rate nor a concurrency.
    """
    config = fields.within("input_config")
    if config.get("phases") is not None:
        load, patterns = _phase(config), "type"
    else:
        load, patterns = config.within("loadgen"), "arrival_pattern"
        if load.get(patterns) is None:
            patterns = "request_rate_mode"
        if config.get("input.fixed_schedule") or load.get("user_centric_rate"):
            raise config.error("loadgen", "schedules and rates of users are not read, only rates and concurrency")
    rate = "rate" if patterns == "type" else "request_rate"
    limit = load.maybe_count("concurrency") or None
    if load.get(rate) is None and not limit:
        if asked is None:
            raise load.error(rate, "the load is unknown: a rate or a concurrency is wanted, --rate or --concurrency")
        return asked
    return Traffic(
        requests=0,
        rate_per_s=math.inf if load.get(rate) is None else load.number(rate, least=1e-6),
        burstiness=POISSON if load.get(rate) is None else _burstiness(load, patterns),
        prompt_tokens=0,
        output_tokens=0,
        max_in_flight=limit,
        timeout_s=config.maybe("endpoint.timeout_seconds") or config.maybe("endpoint.timeout") or None,
    )


def _phase(config: Fields) -> Fields:
    """The one that is measured."""
    phases = config.get("phases")
    if not isinstance(phases, list):
        raise config.error("phases", "must be a list")
    found = [phase for phase in phases if isinstance(phase, dict) and phase.get("kind", "profiling") == "profiling"]
    if len(found) != 1:
        raise ConfigError(f"{config.file}: {len(found)} phases are measured: a file of one is read")
    return Fields(config.file, found[0], "input_config.phases.")


def _burstiness(load: Fields, patterns: str) -> float:
    pattern = load.get(patterns) or "poisson"
    if pattern == "gamma":
        smoothness = "arrival_smoothness" if load.get("arrival_smoothness") is not None else "smoothness"
        return POISSON if load.get(smoothness) is None else load.number(smoothness, least=1e-3)
    if not isinstance(pattern, str) or pattern not in GAPS:
        raise load.error(patterns, f"must be one of gamma, {', '.join(GAPS)}")
    return GAPS[pattern]


def model_of(fields: Fields) -> str | None:
    """The model of a run with a single one."""
    config = fields.within("input_config")
    names = config.get("endpoint.model_names") or config.get("model_names") or config.get("models.items")
    if isinstance(names, list) and len(names) == 1:
        name = names[0].get("name") if isinstance(names[0], dict) else names[0]
        return name if isinstance(name, str) else None
    return config.text("endpoint.model_name")
