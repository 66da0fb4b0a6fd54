"""AIPerf's requests one by one: ``profile_export.jsonl``, a line each. The load stands in the summary beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.validate.clients.aiperf import NAME, model_of, seconds_of, traffic_of
from kvsim.validate.clients.requests import Requests, Row, recorded_traffic, result_of
from kvsim.validate.clients.result import ClientResult

SUMMARY = "profile_export_aiperf.json"
_NS = 1e-9


def is_aiperf_record(values: dict[str, object]) -> bool:
    metadata = values.get("metadata")
    return isinstance(metadata, dict) and "request_start_ns" in metadata


def read_aiperf_records(file: str, records: Iterable[Any], summary: Fields | None) -> ClientResult:
    """Requests of the warm-up are left out. ``summary``: of the same run, where there is one.

    Without it the times alone say what was sent, in a closed loop as well.
    """
    requests = Requests.of(file, _rows(file, records))
    if not len(requests):
        raise ConfigError(f"{file}: no requests beside those of the warm-up")
    recorded = recorded_traffic(requests)
    if summary is None:
        alone = f"no {SUMMARY} beside the file: requests are sent when they were, however fast answers come"
        return result_of(requests, recorded, name=file, client=NAME, assumed=(alone,))
    return result_of(requests, traffic_of(summary, recorded), name=file, client=NAME, model=model_of(summary))


def _rows(file: str, records: Iterable[Any]) -> Iterator[Row]:
    """Tokens are the server's count where it has one, else the client's."""
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict) or not is_aiperf_record(record):
            raise ConfigError(f"{file}: record {number:,}: no request of {NAME}")
        if record["metadata"].get("benchmark_phase") == "warmup":
            continue
        fields = Fields(f"{file}: record {number:,}", record)
        metrics = fields.within("metrics")
        answered = record.get("error") is None and not fields.get("metadata.was_cancelled")
        yield Row(
            sent_s=fields.number("metadata.request_start_ns", 1e20) * _NS,
            prompt_tokens=_tokens(metrics, "usage_prompt_tokens", "input_sequence_length"),
            output_tokens=_tokens(metrics, "usage_completion_tokens", "output_sequence_length"),
            ttft_s=seconds_of(metrics.within("time_to_first_token")) if answered else None,
            e2e_s=seconds_of(metrics.within("request_latency")) if answered else None,
            answered=answered,
        )


def _tokens(metrics: Fields, *names: str) -> float | None:
    return next((found for name in names if (found := metrics.maybe(f"{name}.value")) is not None), None)
