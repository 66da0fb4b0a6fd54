"""Prometheus text with the names, buckets and meanings of vLLM 0.32, as a scrape at the end of the run would show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO

import numpy as np

from kvsim.export.base import FileForAll, Finished
from kvsim.record.binned import Floats
from kvsim.record.detail import Detail, DraftUse, InstanceFacts
from kvsim.record.frames import detail_of
from kvsim.record.result import SystemResult, Table
from kvsim.record.summary import e2e_s, tpot_s, ttft_s

TTFT_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
ITL_S = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
LATENCY_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
"""Upper edges of vLLM's buckets, seconds: ``vllm/v1/metrics/buckets.py``."""


class PrometheusText(FileForAll):
    """Every instance is an ``engine``, with labels ``system``, ``role`` and ``instance`` beside vLLM's own.

    All completed requests are in it, warm-up too, as a server counts them; latencies are those that clients see, at the
    instance that gave the last token. Gauges are those of the end, and left out of a run that did not drain.
    """

    name = "prometheus"
    what = "vLLM's metrics at the end of the run"
    suffixes = (".prom",)
    beginning = b"# HELP vllm:"
    needs_detail = True

    def write_all(self, file: IO[bytes], run: Finished) -> list[str]:
        engines = [engine for result in run.results for engine in _engines(run, result)]
        for family in (*_counters(), _drafts, *_gauges(), *_histograms()):
            for line in family(engines):
                file.write(f"{line}\n".encode())
        return []


class _Engine:
    """One instance of one system, and the rows that are its."""

    def __init__(self, labels: str, result: SystemResult, detail: Detail, place: int) -> None:
        self.labels, self.result, self.detail, self.place = labels, result, detail, place
        facts: InstanceFacts = detail.instances[place]
        self.facts = facts
        steps = detail.steps
        own = steps["instance"] == place
        self.steps: Table = {name: column[own] for name, column in steps.items()}
        self.gaps_s: Floats = detail.gaps["interval_s"][detail.gaps["instance"] == place]
        self.answered = self._requests("decode" if facts.role == "decode" else "prefill", facts.role != "prefill")
        self.prompted = self._requests("decode" if facts.role == "decode" else "prefill", True)

    def _requests(self, side: str, has: bool) -> Table:
        table = self.result.table
        rows = (table[f"{side}_instance"] == self.facts.number) & has
        return {name: column[rows] for name, column in table.items()}


_Family = Callable[[list[_Engine]], Iterator[str]]


def _engines(run: Finished, result: SystemResult) -> Iterator[_Engine]:
    detail = detail_of(result)
    for place, facts in enumerate(detail.instances):
        labels = {
            "model_name": run.plan.config.model.name,
            "engine": str(place),
            "system": result.name,
            "role": facts.role,
            "instance": str(facts.number),
        }
        yield _Engine(",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()), result, detail, place)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _counters() -> list[_Family]:
    def hits(engine: _Engine) -> float:
        return float(engine.steps["hit_tokens"].sum()) - _loaded(engine)

    def total(column: str) -> Callable[[_Engine], float]:
        return lambda engine: float(engine.steps[column].sum())

    return [
        _counter(
            "prefix_cache_queries", "Prompt tokens that were looked up in the prefix cache", total("query_tokens")
        ),
        _counter("prefix_cache_hits", "Prompt tokens that the instance's own cache had", hits),
        _counter("external_prefix_cache_hits", "Prompt tokens that were loaded from tiers", _loaded),
        _counter("num_preemptions", "Preemptions", lambda engine: engine.facts.preemptions),
        _counter(
            "prompt_tokens", "Prompt tokens of requests", lambda engine: float(engine.prompted["prompt_tokens"].sum())
        ),
        _counter("generation_tokens", "Tokens generated", total("output_tokens")),
        _counter(
            "request_success",
            "Requests completed, of which none ends before its length",
            lambda engine: len(engine.answered["arrival_s"]),
            ',finished_reason="length"',
        ),
    ]


def _drafts(engines: list[_Engine]) -> Iterator[str]:
    """Counters of speculative decoding; none where nothing is drafted."""
    if not any(engine.facts.drafts is not None for engine in engines):
        return
    totals: dict[str, tuple[str, Callable[[DraftUse], int]]] = {
        "spec_decode_num_drafts": ("Verifications of a sequence's drafts", lambda use: use.num_drafts),
        "spec_decode_num_draft_tokens": ("Draft tokens", lambda use: sum(use.drafted)),
        "spec_decode_num_accepted_tokens": ("Draft tokens that were accepted", lambda use: sum(use.accepted)),
    }
    used = [(engine.labels, engine.facts.drafts) for engine in engines if engine.facts.drafts is not None]
    for name, (text, value) in totals.items():
        yield from _heading(f"{name}_total", text, "counter")
        for labels, use in used:
            yield f"vllm:{name}_total{{{labels}}} {float(value(use))!r}"
    name = "spec_decode_num_accepted_tokens_per_pos_total"
    yield from _heading(name, "Draft tokens that were accepted, by position", "counter")
    for labels, use in used:
        for place, accepted in enumerate(use.accepted):
            yield f'vllm:{name}{{{labels},position="{place}"}} {float(accepted)!r}'


def _loaded(engine: _Engine) -> float:
    return 0.0 if engine.facts.role == "decode" else float(engine.prompted["loaded_tokens"].sum())


def _gauges() -> list[_Family]:
    names = {
        "num_requests_running": "Requests in execution",
        "num_requests_waiting": "Requests that wait",
        "kv_cache_usage_perc": "Share of KV blocks in use, 1 is all",
    }
    return [_gauge(name, text) for name, text in names.items()]


def _histograms() -> list[_Family]:
    def queue_s(engine: _Engine) -> Floats:
        return engine.prompted["queue_s"] if engine.facts.role != "decode" else np.zeros(0)

    def tpots_s(engine: _Engine) -> Floats:
        return tpot_s(engine.answered)[engine.answered["output_tokens"] > 1]

    return [
        _histogram("time_to_first_token_seconds", "Time to first token", TTFT_S, lambda e: ttft_s(e.answered)),
        _inter_token_latency,
        _histogram("request_time_per_output_token_seconds", "Mean time per output token of a request", ITL_S, tpots_s),
        _histogram("e2e_request_latency_seconds", "Time to the last token", LATENCY_S, lambda e: e2e_s(e.answered)),
        _histogram("request_queue_time_seconds", "Time that a prompt waited for steps", LATENCY_S, queue_s),
    ]


def _heading(name: str, text: str, kind: str) -> Iterator[str]:
    yield f"# HELP vllm:{name} {text}."
    yield f"# TYPE vllm:{name} {kind}"


def _counter(name: str, text: str, value: Callable[[_Engine], float], more: str = "") -> _Family:
    def family(engines: list[_Engine]) -> Iterator[str]:
        yield from _heading(f"{name}_total", text, "counter")
        for engine in engines:
            yield f"vllm:{name}_total{{{engine.labels}{more}}} {float(value(engine))!r}"

    return family


def _gauge(name: str, text: str) -> _Family:
    def family(engines: list[_Engine]) -> Iterator[str]:
        yield from _heading(name, text, "gauge")
        for engine in engines:
            if not engine.result.in_flight:
                yield f"vllm:{name}{{{engine.labels}}} 0.0"

    return family


def _histogram(name: str, text: str, edges: tuple[float, ...], values: Callable[[_Engine], Floats]) -> _Family:
    def family(engines: list[_Engine]) -> Iterator[str]:
        yield from _heading(name, text, "histogram")
        for engine in engines:
            own = values(engine)
            yield from _buckets(name, engine, edges, own, np.ones(len(own)))

    return family


def _inter_token_latency(engines: list[_Engine]) -> Iterator[str]:
    """Each token that came a step after its sequence's previous one waited for that step; the others are known."""
    name = "inter_token_latency_seconds"
    yield from _heading(name, "Time between the tokens of a request", "histogram")
    for engine in engines:
        steps = engine.steps
        number = steps["num_steps"].astype(np.int64)
        rows = np.repeat(np.arange(len(number)), number)
        count = np.arange(len(rows)) - np.repeat(np.cumsum(number) - number, number)
        seconds = steps["first_step_s"][rows] + count * steps["slope_s"][rows]
        tokens = steps["decode_seqs"][rows]
        # Who had no token in the step before is in the first of a span's steps.
        tokens[count == 0] -= steps["decode_seqs"] * number - steps["later_tokens"]
        own_s = np.concatenate((seconds, engine.gaps_s))
        yield from _buckets(name, engine, ITL_S, own_s, np.concatenate((tokens, np.ones(len(engine.gaps_s)))))


def _buckets(name: str, engine: _Engine, edges: tuple[float, ...], values: Floats, weights: Floats) -> Iterator[str]:
    counts = np.bincount(np.searchsorted(edges, values, side="left"), weights, minlength=len(edges) + 1)
    for edge, count in zip((*map(str, edges), "+Inf"), np.cumsum(counts), strict=True):
        yield f'vllm:{name}_bucket{{{engine.labels},le="{edge}"}} {float(count)!r}'
    yield f"vllm:{name}_count{{{engine.labels}}} {float(counts.sum())!r}"
    yield f"vllm:{name}_sum{{{engine.labels}}} {float((values * weights).sum())!r}"
