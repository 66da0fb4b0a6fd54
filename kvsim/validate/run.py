"""Reading one measured run of an engine: its arguments, and every request's times."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from kvsim.errors import ConfigError
from kvsim.record.summary import tpot_s

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MOST_S = 86_400.0
"""A request that takes longer than a day was not measured in seconds."""
TIMES = ("arrival_time", "queued_ts", "first_token_ts", "last_token_ts")
SERIES = ("t", "running", "waiting")


@dataclass(frozen=True)
class MeasuredRequests:
    """One entry a request, in the file's order; seconds from the first arrival on.

    ``queued_s`` comes from another clock: shifted so that the request that was queued soonest after its arrival was
    queued at once. The engine takes requests in between two steps, so that it trails ``arrival_s`` by up to a step.
    """

    arrival_s: Floats
    queued_s: Floats
    first_token_s: Floats
    last_token_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints

    @property
    def ttft_s(self) -> Floats:
        """From arrival."""
        return self.first_token_s - self.arrival_s

    @property
    def ttft_from_queued_s(self) -> Floats:
        return self.first_token_s - self.queued_s

    @property
    def e2e_s(self) -> Floats:
        """From arrival to the last token."""
        return self.last_token_s - self.arrival_s

    @property
    def tpot_s(self) -> Floats:
        """NaN for answers of one token."""
        return tpot_of(self.first_token_s, self.last_token_s, self.output_tokens)


@dataclass(frozen=True)
class MeasuredRun:
    """One run as recorded."""

    name: str
    model: str
    vllm_version: str
    engine: dict[str, Any]
    """vLLM's arguments, as given."""
    kv_cache: dict[str, Any]
    """``num_gpu_blocks``, ``block_size``, ``enable_prefix_caching`` where they were recorded."""
    gpu: str | None
    """GPU as recorded with it, or with the operator times beside it."""
    requests: MeasuredRequests
    series: dict[str, Floats]
    """``t`` in seconds, ``running``, ``waiting``: requests; empty where none was recorded."""


def tpot_of(first_token_s: Floats, last_token_s: Floats, output_tokens: npt.NDArray[Any]) -> Floats:
    """TPOT as ``kvsim.record.summary.tpot_s``."""
    return tpot_s({"first_token_s": first_token_s, "finish_s": last_token_s, "output_tokens": output_tokens})


def read_run(folder: Path) -> MeasuredRun:
    """``meta.json``, ``requests.jsonl`` and, where present, ``timeseries.csv``.

    Raises ``ConfigError`` (file, line, value, what is allowed) on what cannot be read or cannot be.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; the folder of one measured run is wanted")
    meta = _object(folder / "meta.json")
    engine, kv_cache = meta.get("engine_kwargs"), meta.get("kv_cache") or {}
    if not isinstance(engine, dict) or not isinstance(kv_cache, dict):
        raise ConfigError(f"{folder.name}/meta.json: engine_kwargs and kv_cache must be objects")
    version = meta.get("vllm_version") or ""
    if not isinstance(version, str):
        raise ConfigError(f"{folder.name}/meta.json: vllm_version = {version!r}: must be text like 0.19.0")
    requests = _requests(folder / "requests.jsonl")
    stated = meta.get("num_requests")
    if stated is not None and stated != len(requests.arrival_s):
        raise ConfigError(
            f"{folder.name}: meta.json states {stated} requests, requests.jsonl holds {len(requests.arrival_s)}"
        )
    return MeasuredRun(
        name=folder.name,
        model=str(meta.get("model", engine.get("model", ""))),
        vllm_version=version,
        engine=engine,
        kv_cache=kv_cache,
        gpu=_gpu(meta, folder / "profile_meta.yaml"),
        requests=requests,
        series=_series(folder / "timeseries.csv"),
    )


def check_against(run: MeasuredRun, prompt_tokens: npt.NDArray[Any], output_tokens: npt.NDArray[Any]) -> None:
    """Refuse a workload whose requests are not the run's, in order."""
    measured = run.requests
    if len(prompt_tokens) != len(measured.prompt_tokens):
        count = len(measured.prompt_tokens)
        raise ConfigError(f"{run.name}: {count} requests were measured; the workload holds {len(prompt_tokens)}")
    for words, ours, theirs in (
        ("prompt", prompt_tokens, measured.prompt_tokens),
        ("output", output_tokens, measured.output_tokens),
    ):
        differing = np.flatnonzero(ours != theirs)
        if len(differing):
            place = int(differing[0])
            raise ConfigError(
                f"{run.name}: request {place + 1} was measured with {theirs[place]} {words} tokens; "
                f"the workload's has {ours[place]}"
            )


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: holds no object")
    return found


def _requests(path: Path) -> MeasuredRequests:
    rows: list[tuple[float, ...]] = []
    seen: set[object] = set()
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path.name}: line {number}"
        row = _record(line, where)
        identity = row.get("request_id", number)
        if not isinstance(identity, str | int):
            raise ConfigError(f"{where}: request_id = {identity!r}: must be text or a whole number")
        if identity in seen:
            raise ConfigError(f"{where}: request_id = {identity!r} stands there twice")
        seen.add(identity)
        rows.append(_checked(row, where))
    if not rows:
        raise ConfigError(f"{path}: holds no request")
    return _shifted(np.array(rows, dtype=np.float64))


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: holds no object")
    return row


def _checked(row: dict[str, Any], where: str) -> tuple[float, ...]:
    """The four times and two counts of a request."""
    values: list[float] = []
    for key in TIMES:
        value = row.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
            raise ConfigError(f"{where}: {key} = {value!r}: must be a time in seconds")
        values.append(float(value))
    for key in ("input_toks", "output_toks"):
        value = row.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{where}: {key} = {value!r}: must be a whole number of tokens from 1")
        values.append(float(value))
    _, queued, first, last = values[:4]
    if not queued <= first <= last:
        raise ConfigError(f"{where}: queued_ts, first_token_ts and last_token_ts must not go back in time")
    if last - queued > MOST_S:
        raise ConfigError(f"{where}: the request takes {last - queued:g} s; times are in seconds, and at most a day")
    return tuple(values)


def _shifted(rows: Floats) -> MeasuredRequests:
    arrival, queued, first, last = rows[:, :4].T
    offset = float((queued - arrival).min())
    start = float(arrival.min())
    return MeasuredRequests(
        arrival_s=arrival - start,
        queued_s=queued - offset - start,
        first_token_s=first - offset - start,
        last_token_s=last - offset - start,
        prompt_tokens=rows[:, 4].astype(np.int64),
        output_tokens=rows[:, 5].astype(np.int64),
    )


def _series(path: Path) -> dict[str, Floats]:
    if not path.is_file():
        return {}
    found: list[list[float]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            found += [_point(row, f"{path.name}: line {reader.line_num}") for row in reader]
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path.name}: not readable as CSV: {error}") from None
    columns = np.array(found, dtype=np.float64).reshape(-1, len(SERIES))
    return {key: columns[:, place] for place, key in enumerate(SERIES)}


def _point(row: dict[str, Any], where: str) -> list[float]:
    try:
        found = [float(row[key] or "") for key in SERIES]
    except (KeyError, ValueError, TypeError):
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        raise ConfigError(f"{where}: wanted are numbers for {', '.join(SERIES)}")
    return found


def _gpu(meta: dict[str, Any], profiled: Path) -> str | None:
    """Operator times that lie beside a run were measured on its machine."""
    for key in ("gpu", "gpu_name"):
        if isinstance(meta.get(key), str):
            return str(meta[key])
    try:
        found = yaml.safe_load(profiled.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return str(found["gpu"]) if isinstance(found, dict) and isinstance(found.get("gpu"), str) else None
