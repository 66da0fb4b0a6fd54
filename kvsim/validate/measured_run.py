"""Reading one measured run of an engine: its arguments, and every request's times."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kvsim.errors import ConfigError
from kvsim.fields import MOST_S, Fields
from kvsim.record.result import Table
from kvsim.validate.accuracy import Floats
from kvsim.validate.files import read_csv, read_json, read_json_lines, read_yaml

TIMES = ("arrival_time", "queued_ts", "first_token_ts", "last_token_ts")
SCHEDULED = "scheduled_ts"
SERIES = ("t", "running", "waiting")
CACHE_ARGUMENTS = {
    "num_gpu_blocks": "num_gpu_blocks_override",
    "block_size": "block_size",
    "enable_prefix_caching": "enable_prefix_caching",
}
"""What ``kv_cache`` records of the engine that ran, and the argument that says the same beforehand."""


@dataclass(frozen=True)
class MeasuredRun:
    """One run as recorded."""

    name: str
    model: str
    vllm_version: str
    arguments: Fields
    """vLLM's, as given; with the KV cache that the engine had, where it was recorded."""
    gpu: str | None
    """GPU as recorded with it, or with the operator times beside it."""
    requests: Table
    """One entry a request, in the file's order; seconds from the first arrival on: ``arrival_s``, ``queued_s``,
    ``first_token_s``, ``finish_s``, ``prompt_tokens``, ``output_tokens``; ``scheduled_s`` where all of them have it.

    ``queued_s`` comes from another clock: shifted so that the request that was queued soonest after its arrival was
    queued at once. The engine takes requests in between two steps, so that it trails ``arrival_s`` by up to a step.
    """
    series: dict[str, Floats]
    """``t`` in seconds, ``running``, ``waiting``: requests; empty where none was recorded."""

    @property
    def num_requests(self) -> int:
        return len(self.requests["arrival_s"])


def read_run(folder: Path) -> MeasuredRun:
    """``meta.json``, ``requests.jsonl`` and, where present, ``timeseries.csv``.

    Raises ``ConfigError`` (file, line, value, what is allowed) on what cannot be read or cannot be.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; the folder of one measured run is wanted")
    meta = _object(read_json(folder / "meta.json"), "meta.json")
    arguments, kv_cache = meta.get("engine_kwargs"), meta.get("kv_cache") or {}
    if not isinstance(arguments, dict) or not isinstance(kv_cache, dict):
        raise ConfigError(f"{folder.name}/meta.json: engine_kwargs and kv_cache must be objects")
    recorded = {name: kv_cache[key] for key, name in CACHE_ARGUMENTS.items() if kv_cache.get(key) is not None}
    version = meta.get("vllm_version") or ""
    if not isinstance(version, str):
        raise ConfigError(f"{folder.name}/meta.json: vllm_version = {version!r}: must be text like 0.19.0")
    run = MeasuredRun(
        name=folder.name,
        model=str(meta.get("model", arguments.get("model", ""))),
        vllm_version=version,
        arguments=Fields("meta.json", arguments | recorded, "engine_kwargs."),
        gpu=_gpu(meta, folder / "profile_meta.yaml"),
        requests=_requests(folder / "requests.jsonl"),
        series=_series(folder / "timeseries.csv"),
    )
    stated = meta.get("num_requests")
    if stated is not None and stated != run.num_requests:
        raise ConfigError(f"{folder.name}: meta.json states {stated} requests, requests.jsonl holds {run.num_requests}")
    return run


def check_against(run: MeasuredRun, prompt_tokens: npt.NDArray[Any], output_tokens: npt.NDArray[Any]) -> None:
    """Refuse a workload whose requests are not the run's, in order."""
    measured = run.requests
    if len(prompt_tokens) != run.num_requests:
        raise ConfigError(
            f"{run.name}: {run.num_requests} requests were measured; the workload holds {len(prompt_tokens)}"
        )
    for words, ours, theirs in (
        ("prompt", prompt_tokens, measured["prompt_tokens"]),
        ("output", output_tokens, measured["output_tokens"]),
    ):
        differing = np.flatnonzero(ours != theirs)
        if len(differing):
            place = int(differing[0])
            raise ConfigError(
                f"{run.name}: request {place + 1} was measured with {theirs[place]:.0f} {words} tokens; "
                f"the workload's has {ours[place]}"
            )


def _object(found: Any, where: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: holds no object")
    return found


def _requests(path: Path) -> Table:
    rows = list(_rows(path))
    if not rows:
        raise ConfigError(f"{path}: holds no request")
    return _shifted(np.array(rows, dtype=np.float64))


def _rows(path: Path) -> Iterator[list[float]]:
    """The four times and two counts of each request, and when it was scheduled: NaN where that was not recorded."""
    seen: set[object] = set()
    for where, found in read_json_lines(path):
        row = Fields(where, _object(found, where))
        identity = where if row.get("request_id") is None else row.get("request_id")
        if not isinstance(identity, str | int):
            raise row.error("request_id", "must be text or a whole number")
        if identity in seen:
            raise ConfigError(f"{where}: request_id = {identity!r} stands there twice")
        seen.add(identity)
        times = [_time(row, key) for key in TIMES]
        _, queued, first, last = times
        scheduled = math.nan if row.get(SCHEDULED) is None else _time(row, SCHEDULED)
        tokens = [row.whole(key, of="tokens") for key in ("input_toks", "output_toks")]
        if not queued <= first <= last:
            raise ConfigError(f"{where}: queued_ts, first_token_ts and last_token_ts must not go back in time")
        if not math.isnan(scheduled) and not queued <= scheduled <= first:
            raise ConfigError(f"{where}: scheduled_ts must lie between queued_ts and first_token_ts")
        if last - queued > MOST_S:
            seconds = f"{last - queued:g} s; times are in seconds, and at most a day"
            raise ConfigError(f"{where}: the request takes {seconds}")
        yield [*times, *tokens, scheduled]


def _time(row: Fields, key: str) -> float:
    return row.number(key, math.nextafter(math.inf, 0), allowed="must be a time in seconds")


def _shifted(rows: Floats) -> Table:
    arrival, queued, first, last = rows[:, :4].T
    offset = float((queued - arrival).min())
    start = float(arrival.min())
    scheduled = {} if np.isnan(rows[:, 6]).any() else {"scheduled_s": rows[:, 6] - offset - start}
    return scheduled | {
        "arrival_s": arrival - start,
        "queued_s": queued - offset - start,
        "first_token_s": first - offset - start,
        "finish_s": last - offset - start,
        "prompt_tokens": rows[:, 4],
        "output_tokens": rows[:, 5],
    }


def _series(path: Path) -> dict[str, Floats]:
    if not path.is_file():
        return {}
    found: list[list[float]] = []
    for line, row in read_csv(path, ()):
        try:
            found.append([float(row[key] or "") for key in SERIES])
        except (KeyError, ValueError):
            found.append([math.nan])
        if not all(map(math.isfinite, found[-1])):
            raise ConfigError(f"{path.name}: line {line}: wanted are numbers for {', '.join(SERIES)}")
    columns = np.array(found, dtype=np.float64).reshape(-1, len(SERIES))
    return {key: columns[:, place] for place, key in enumerate(SERIES)}


def _gpu(meta: dict[str, Any], profiled: Path) -> str | None:
    """Operator times that lie beside a run were measured on its machine."""
    for key in ("gpu", "gpu_name"):
        if isinstance(meta.get(key), str):
            return str(meta[key])
    try:
        return Fields(profiled.name, read_yaml(profiled)).text("gpu")
    except ConfigError:
        return None
