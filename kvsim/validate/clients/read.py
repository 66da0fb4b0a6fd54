"""Reading what load clients report of a run, whichever of those that are known it was."""

from __future__ import annotations

from pathlib import Path

from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.validate.clients import aiperf, bench_serve, guidellm, inference_perf
from kvsim.validate.clients.result import ClientResult
from kvsim.validate.files import read_json

READ = (
    "results of 'vllm bench serve', stages of inference-perf (stage_N*.json), AIPerf's profile_export_aiperf.json and "
    "GuideLLM's report"
)


def read_client_results(path: Path) -> list[ClientResult]:
    """Results of one file, or of a folder's ``stage_*.json`` in order, with the configuration beside them.

    Raises ``ConfigError`` (file, key, value, what is allowed).
    """
    loads = _all(path)
    if not any(load.completed for load in loads):
        sent = sum(load.traffic.requests for load in loads)
        raise ConfigError(f"{path.name}: {sent:,} requests sent and none answered")
    return loads


def _all(path: Path) -> list[ClientResult]:
    if not path.is_dir():
        return _read(path)
    stages = inference_perf.stages_of(path)
    if not stages:
        raise ConfigError(f"{path}: no stage_*.json; a result file, or a folder of inference-perf's stages is wanted")
    return [load for stage in stages for load in _read(stage)]


def _read(path: Path) -> list[ClientResult]:
    values = read_json(path)
    fields = Fields(path.name, values)
    if isinstance(values, dict):
        if inference_perf.is_stage(values):
            return [_stage(path, fields)]
        if guidellm.is_guidellm(values):
            return guidellm.read_guidellm(fields)
        if aiperf.is_aiperf(values):
            return [aiperf.read_aiperf(fields)]
        if bench_serve.is_bench_serve(values):
            return [bench_serve.read_bench_serve(fields)]
    raise ConfigError(f"{path.name}: not the result of a client that is read; these are: {READ}")


def _stage(path: Path, fields: Fields) -> ClientResult:
    client = inference_perf.read_client(path.parent)
    is_first = inference_perf.stage_number(path) == 0
    return inference_perf.read_stage(fields, client if is_first else client.after_others())
