"""llm-d's Benchmark Report, 0.1 and 0.2 (YAML or JSON): one load, and which tool sent it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from kvsim.fields import Fields
from kvsim.validate.clients.definitions import NO_TPOT, NO_TTFT, TPOT, itl_of_gaps, time_per_token_s
from kvsim.validate.clients.result import PERCENTS, ClientResult
from kvsim.validate.clients.traffic import EQUAL, POISSON, Traffic

NAME = "llm-d Benchmark Report"
UNITS_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "s/token": 1.0, "ms/token": 1e-3}
OURS = ("vllm", "sglang", "aiperf", "kvsim", "inferencemax")
"""Tools whose TPOT is a request's (E2E - TTFT) / (n - 1), by how their names begin."""
SCALED = ("vllm", "inference-perf", "inferencemax")
"""Tools whose gaps are scaled to the duration."""


@dataclass(frozen=True)
class _Places:
    """Where a version has what is read."""

    results: str
    tool: str
    model: str
    rate: str
    limit: str
    request_rate: str
    token_rate: str


_OF = {
    "0.1": _Places(
        results="metrics",
        tool="scenario.load.name",
        model="scenario.model.name",
        rate="scenario.load.args.request_rate",
        limit="scenario.load.args.max_concurrency",
        request_rate="throughput.requests_per_sec",
        token_rate="throughput.output_tokens_per_sec",
    ),
    "0.2": _Places(
        results="results.request_performance.aggregate",
        tool="scenario.load.standardized.tool",
        model="",
        rate="scenario.load.standardized.rate_qps",
        limit="scenario.load.standardized.concurrency",
        request_rate="throughput.request_rate.mean",
        token_rate="throughput.output_token_rate.mean",
    ),
}


def is_report(values: dict[str, object]) -> bool:
    has_results = isinstance(values.get("results"), dict) or isinstance(values.get("metrics"), dict)
    return "version" in values and has_results and ("scenario" in values or "run" in values)


def read_report(fields: Fields, asked: Traffic | None = None) -> ClientResult:
    """``asked``: the load, where the report does not say it. Raises ``ConfigError`` (file, key, value, allowed)."""
    version = str(fields.get("version"))[:3]
    if version not in _OF:
        raise fields.error("version", f"versions that are read: {', '.join(_OF)}")
    places = _OF[version]
    found, tool = fields.within(places.results), (fields.text(places.tool) or "").lower()
    requests = found.within("requests")
    sent = requests.count("total")
    failures = (requests.maybe_count("failures") or 0) + (requests.maybe_count("incomplete") or 0)
    completed = max(0, sent - failures)
    outputs = found.mean_over(completed, "requests.output_length.mean")
    ttft_s, e2e_s = _times(found, "time_to_first_token"), _times(found, "request_latency")
    per_token_s = time_per_token_s(ttft_s, e2e_s, outputs)
    itl_s, itl_words = itl_of_gaps(per_token_s, _times(found, "inter_token_latency"))
    tpot_s = _times(found, "time_per_output_token").get("mean") if tool.startswith(OURS) and outputs > 1 else None
    prompts = found.mean_over(completed, "requests.input_length.mean")
    return ClientResult(
        name=fields.file,
        client=f"{NAME} of {tool}" if tool else NAME,
        traffic=_traffic(fields, places, tool, (sent, prompts, outputs), asked),
        completed=completed,
        failures=failures,
        requests_per_s=found.mean_over(completed, places.request_rate),
        output_tokens_per_s=found.maybe(places.token_rate),
        ttft_s=ttft_s,
        e2e_s=e2e_s,
        tpot_mean_s=tpot_s or None,
        itl_s=itl_s,
        definitions=_words(tool, tpot_s, itl_words) if ttft_s else (NO_TTFT,),
        model=_model(fields, places),
        assumed=("prompts share nothing", *_assumed(tool)),
    )


def _words(tool: str, tpot_s: float | None, itl_words: str) -> tuple[str, ...]:
    if tpot_s:
        return f"{TPOT}, by {tool}", itl_words
    return NO_TPOT, itl_words


def _assumed(tool: str) -> tuple[str, ...]:
    return () if tool.startswith((*SCALED, "guidellm", *OURS)) else ("exponential gaps",)


def _times(found: Fields, metric: str) -> dict[str, float]:
    """Seconds; nothing where the metric is absent."""
    of = found.within(f"latency.{metric}")
    if of.values is None:
        return {}
    unit = of.text("units")
    if unit not in UNITS_S:
        raise of.error("units", f"must be one of {', '.join(UNITS_S)}")
    return of.times({name: name for name in ("mean", *PERCENTS)}, UNITS_S[unit])


def _traffic(
    fields: Fields, places: _Places, tool: str, counts: tuple[int, float, float], asked: Traffic | None
) -> Traffic:
    sent, prompts, outputs = counts
    rate, limit = fields.get(places.rate), fields.get(places.limit)
    if rate is None and limit in (None, math.inf):
        rate, places = _stage_rate(fields, places)
    if rate is None and limit in (None, math.inf):
        if asked is None:
            allowed = "the load is unknown: a rate or a concurrency is wanted, --rate or --concurrency"
            raise fields.error(places.rate, allowed)
        return Traffic(sent, asked.rate_per_s, prompts, outputs, asked.burstiness, max_in_flight=asked.max_in_flight)
    is_open = rate not in (None, "inf", math.inf)
    return Traffic(
        requests=sent,
        rate_per_s=fields.number(places.rate, least=1e-6) if is_open else math.inf,
        burstiness=EQUAL if tool.startswith("guidellm") else POISSON,
        scaled=tool.startswith(SCALED),
        prompt_tokens=prompts,
        output_tokens=outputs,
        max_in_flight=None if limit in (None, math.inf) else fields.count(places.limit) or None,
    )


def _stage_rate(fields: Fields, places: _Places) -> tuple[object, _Places]:
    """The rate by inference-perf's own configuration, where the report carries it, and where it stands then."""
    for config, stage in (
        ("scenario.load.native.config.load.stages", "scenario.load.standardized.stage"),
        ("scenario.load.args.load.stages", "scenario.load.metadata.stage"),
    ):
        stages, number = fields.get(config), fields.get(stage) or 0
        if isinstance(stages, list) and isinstance(number, int) and 0 <= number < len(stages):
            found = stages[number]
            rate = found.get("rate") if isinstance(found, dict) else None
            if isinstance(rate, int | float) and not isinstance(rate, bool):
                fields.values = {**fields.values, "stage rate": rate}
                return rate, replace(places, rate="stage rate")
    return None, places


def _model(fields: Fields, places: _Places) -> str | None:
    """The model of the stack's engines, where all serve the same."""
    if places.model:
        return fields.text(places.model)
    stack = fields.get("scenario.stack")
    names = {Fields("", part).text("standardized.model.name") for part in stack} if isinstance(stack, list) else set()
    names.discard(None)
    return names.pop() if len(names) == 1 else None
