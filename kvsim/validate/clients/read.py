"""Reading what load clients report of a run, whichever of those that are known it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.validate.clients import (
    aiperf,
    aiperf_records,
    bench_serve,
    benchmark_report,
    genai_perf,
    guidellm,
    inference_perf,
    measured,
    sglang,
    tables,
)
from kvsim.validate.clients.documents import Reduction, documents, table
from kvsim.validate.clients.result import ClientResult
from kvsim.validate.clients.traffic import Traffic

READ = (
    "results of 'vllm bench serve' and SGLang's bench_serving, AIPerf's profile_export_aiperf.json/csv and "
    "profile_export.jsonl, GuideLLM's report (json, yaml, csv), inference-perf's stage_N*.json and per_request*.json, "
    "llm-d Benchmark Reports, GenAI-Perf's files and those of 'kvsim measure' (docs/results.md)"
)
_REDUCTIONS: Mapping[str, Reduction] = (
    bench_serve.REDUCTIONS
    | guidellm.REDUCTIONS
    | genai_perf.REDUCTIONS
    | inference_perf.REDUCTIONS
    | measured.REDUCTIONS
)
_SUFFIXES = (".jsonl", ".parquet", ".json", ".yaml", ".yml", ".csv")
"""In the order of preference, where a run wrote several."""
_MOST_RUNS = 1000
"""Runs of a file, each of which is simulated."""


def read_results(path: Path, asked: Traffic | None = None) -> tuple[ClientResult, ...]:
    """Every load of a file, or of a folder's files in order.

    ``asked``: rate and requests in flight of files that do not say them; an error where all do. Raises ``ConfigError``
    (file, key, value, what is allowed).
    """
    loads = _folder(path, asked) if path.is_dir() else tuple(_read(path, asked))
    if not any(load.completed for load in loads):
        sent = sum(load.traffic.requests for load in loads)
        raise ConfigError(f"{path.name}: {sent:,} requests sent and none answered")
    wanted = None if asked is None else (asked.rate_per_s, asked.max_in_flight)
    if wanted and all((load.traffic.rate_per_s, load.traffic.max_in_flight) != wanted for load in loads):
        raise ConfigError(f"{path.name}: says itself how it was sent: leave --rate and --concurrency out")
    return loads


def _folder(path: Path, asked: Traffic | None) -> tuple[ClientResult, ...]:
    """inference-perf's stages, or else the one best file of every run; files of others are passed over."""
    stages = inference_perf.stages_of(path)
    if stages:
        return tuple(load for stage in stages for load in _read(stage, asked))
    loads: list[ClientResult] = []
    for found in _candidates(path):
        try:
            loads += _read(found, asked)
        except (_UnknownFileError, measured.NotMeasuredError):
            continue
    if not loads:
        raise ConfigError(f"{path}: no result of a client that is read; these are: {READ}")
    return tuple(loads)


def _candidates(folder: Path) -> list[Path]:
    """Files by name, one a run: AIPerf writes its requests, its summary and that as CSV, GuideLLM a report thrice."""
    best: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _SUFFIXES or not path.is_file():
            continue
        run = path.stem.removesuffix("_aiperf").removesuffix("_genai_perf")
        known = best.get(run)
        if known is None or _preference(path) < _preference(known):
            best[run] = path
    return list(best.values())


def _preference(path: Path) -> int:
    return _SUFFIXES.index(path.suffix.lower())


class _UnknownFileError(ConfigError):
    """Not the file of a client that is read."""


def _read(path: Path, asked: Traffic | None) -> Iterator[ClientResult]:
    if path.suffix.lower() == ".csv":
        yield from _table(path, asked)
        return
    if path.suffix.lower() == ".parquet":
        yield measured.read_measured(*measured.opened(path))
        return
    found = documents(path, _REDUCTIONS)
    first = next(found)
    if measured.is_measured(first):
        yield measured.read_measured(measured.about(path.name, first), measured.rows_of(path.name, found))
        return
    if isinstance(first, dict) and aiperf_records.is_aiperf_record(first):
        summary = _beside(path, f"{path.stem}_aiperf.json")
        yield aiperf_records.read_aiperf_records(path.name, chain([first], found), summary)
        return
    second = next(found, None)
    runs = [first] if second is None else chain([first, second], found)
    for number, values in enumerate(runs, 1):
        if number > _MOST_RUNS:
            raise ConfigError(f"{path.name}: more than {_MOST_RUNS:,} runs")
        yield from _document(path, path.name if second is None else f"{path.name} {number}", values, asked)


def _document(path: Path, name: str, values: Any, asked: Traffic | None) -> tuple[ClientResult, ...]:
    fields = Fields(name, values)
    if isinstance(values, list) and values and any(row is not None for row in values):
        return (inference_perf.read_requests(name, values, inference_perf.read_client(path.parent)),)
    if not isinstance(values, dict):
        raise _unknown(name)
    if inference_perf.is_stage(values):
        return (_stage(path, fields),)
    if guidellm.is_guidellm(values):
        return guidellm.read_guidellm(fields)
    if genai_perf.is_profile(values):
        return genai_perf.read_profile(fields, _beside(path, f"{path.stem}_genai_perf.json"))
    if genai_perf.is_genai_perf(values):
        return (genai_perf.read_genai_perf(fields, asked),)
    if aiperf.is_aiperf(values):
        return (aiperf.read_aiperf(fields, asked),)
    if sglang.is_sglang(values):
        return (sglang.read_sglang(fields),)
    if bench_serve.is_bench_serve(values):
        return (bench_serve.read_bench_serve(fields),)
    if benchmark_report.is_report(values):
        return (benchmark_report.read_report(fields, asked),)
    raise _unknown(name)


def _unknown(name: str) -> ConfigError:
    return _UnknownFileError(f"{name}: not the result of a client that is read; these are: {READ}")


def _stage(path: Path, fields: Fields) -> ClientResult:
    client = inference_perf.read_client(path.parent)
    is_first = inference_perf.stage_number(path) == 0
    return inference_perf.read_stage(fields, client if is_first else client.after_others())


def _table(path: Path, asked: Traffic | None) -> Iterator[ClientResult]:
    rows = table(path)
    if tables.is_guidellm(rows):
        for place, values in enumerate(tables.benchmarks_of(path.name, rows), 1):
            yield guidellm.read_benchmark(path.name, place, values, None)
    elif tables.is_metrics(rows):
        fields = Fields(path.name, tables.metrics_of(rows))
        summary = _beside(path, f"{path.stem}.json")
        if tables.is_genai_perf(rows):
            if summary is not None:
                asked = genai_perf.traffic_of(summary.within("input_config.perf_analyzer.stimulus"), asked)
            yield genai_perf.read_genai_perf(fields, asked)
        else:
            yield aiperf.read_aiperf(fields, asked if summary is None else aiperf.traffic_of(summary, asked))
    else:
        raise _unknown(path.name)


def _beside(path: Path, name: str) -> Fields | None:
    """The summary that the same run wrote."""
    other = path.with_name(name)
    return Fields(name, next(documents(other, _REDUCTIONS))) if other.is_file() else None
