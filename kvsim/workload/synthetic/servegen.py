"""ServeGen's published clients (Alibaba): rates, arrival patterns and lengths of each, window by window."""

from __future__ import annotations

import ast
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kvsim.errors import WorkloadError
from kvsim.workload.info import NONE_ALIKE, WorkloadInfo
from kvsim.workload.workload import Floats, Ints, Workload

TRACE_FILES = "chunk-*-trace.csv"
FIELDS = ("input_tokens", "output_tokens")
PATTERNS = ("Gamma", "Weibull")
LAST_WINDOW_S = 600.0
"""How long the last window is, whose end no further one says."""


class Window(NamedTuple):
    """What a client does from ``begin_s`` on."""

    begin_s: float
    rate_per_s: float
    pattern: str
    shape: float


@dataclass(frozen=True, eq=False)
class Client:
    """One client's windows, and from when on it has which lengths: each ``FIELDS`` as a cumulated distribution."""

    windows: Mapping[float, Window]
    lengths: list[tuple[float, tuple[Floats, Floats]]]

    def lengths_at(self, time_s: float) -> tuple[Floats, Floats]:
        """The last that are known by then, else the first."""
        known = [found for begin_s, found in self.lengths if begin_s <= time_s]
        return known[-1] if known else self.lengths[0][1]


def is_clients(folder: str) -> bool:
    """Whether a folder holds such files."""
    return os.path.isdir(folder) and any(Path(folder).glob(TRACE_FILES))


def read_clients(folder: str | Path) -> list[Client]:
    """Every ``chunk-N-trace.csv`` (time, rate, cv, pattern and its two parameters) with its ``chunk-N-dataset.json``.

    Raises ``WorkloadError`` with the file, the line, the value and what is allowed.
    """
    found = []
    for trace in sorted(Path(folder).glob(TRACE_FILES), key=_number):
        data = trace.with_name(trace.name.replace("-trace.csv", "-dataset.json"))
        if not data.is_file():
            raise WorkloadError(f"{data}: no such file; {trace.name} has its lengths there")
        lengths = _lengths(data)
        if lengths:
            found.append(Client(_windows(trace), lengths))
    if not found:
        raise WorkloadError(
            f"{folder}: no client has lengths; allowed: ServeGen's {TRACE_FILES} and chunk-*-dataset.json"
        )
    return found


def _number(path: Path) -> tuple[int, str]:
    digits = re.search(r"\d+", path.name)
    return (int(digits[0]) if digits else 0), path.name


def _windows(path: Path) -> dict[float, Window]:
    windows = {}
    for line, text in enumerate(_text(path).splitlines(), 1):
        fields = text.strip().split(",")
        if fields == [""]:
            continue
        if len(fields) != 6:
            raise WorkloadError(
                f"{path}:{line}: {len(fields)} columns; allowed: time,rate,cv,pattern,parameter,parameter"
            )
        begin_s = _float(path, line, "time", fields[0])
        if not fields[3]:
            continue
        if fields[3] not in PATTERNS:
            raise WorkloadError(f"{path}:{line}: pattern is {fields[3]!r}; allowed: {', '.join(PATTERNS)}")
        rate_per_s, shape = (_float(path, line, *of) for of in (("rate", fields[1]), ("parameter", fields[4])))
        if shape <= 0:
            raise WorkloadError(f"{path}:{line}: parameter is {fields[4]}; allowed: a number > 0")
        windows[begin_s] = Window(begin_s, rate_per_s, fields[3], shape)
    return windows


def _float(path: Path, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise WorkloadError(f"{path}:{line}: {name} is {text!r}; allowed: a finite number >= 0")
    return value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise WorkloadError(f"{path}: cannot be read: {fault}") from None


def _lengths(path: Path) -> list[tuple[float, tuple[Floats, Floats]]]:
    try:
        given = json.loads(_text(path))
    except (ValueError, RecursionError) as fault:
        raise WorkloadError(f"{path}: not JSON: {fault}") from None
    if not isinstance(given, dict):
        raise WorkloadError(f"{path}: a {type(given).__name__}; allowed: lengths by the time they begin")
    found = []
    for begin, fields in given.items():
        if not isinstance(fields, dict) or any(field not in fields for field in FIELDS):
            raise WorkloadError(f"{path}: {begin}: allowed: a distribution of each of {', '.join(FIELDS)}")
        prompts, answers = (_cumulated(path, begin, field, fields[field]) for field in FIELDS)
        if len(prompts) and len(answers):
            found.append((_float(path, 1, "time", str(begin)), (prompts, answers)))
    return sorted(found, key=lambda one: one[0])


def _cumulated(path: Path, begin: str, field: str, text: object) -> Floats:
    """The share of up to each number of tokens; empty where nothing is said."""
    try:
        shares: Any = ast.literal_eval(text) if isinstance(text, str) else text
        numbers = {int(tokens): float(share) for tokens, share in shares.items()}
        wrong = any(tokens < 0 or not share >= 0 for tokens, share in numbers.items())
    except (ValueError, SyntaxError, TypeError, AttributeError, RecursionError, MemoryError):
        wrong, numbers = True, {}
    if wrong:
        raise WorkloadError(
            f"{path}: {begin}: {field}; allowed: shares by the number of tokens, such as {{10: 0.5, 20: 0.5}}"
        )
    total = sum(numbers.values())
    if not total > 0:
        return np.zeros(0)
    density = np.zeros(max(numbers) + 1)
    density[list(numbers)] = list(numbers.values())
    return np.cumsum(density) / total


def from_clients(clients: list[Client], num_requests: int, rate_per_s: float, seed: int, source: str) -> Workload:
    """The first ``num_requests`` of all clients together, at ``rate_per_s`` in every window, shared as they share it.

    A client's gaps are gamma or Weibull of its window's shape; prompts and answers are drawn for themselves. After the
    last window the first begins again. Raises ``WorkloadError`` where nobody sends anything.
    """
    if not 0 < rate_per_s < np.inf:
        raise WorkloadError(f"arrival rate is {rate_per_s} requests/s; allowed: a finite number > 0")
    random = np.random.default_rng(seed)
    begins_s = sorted({begin_s for client in clients for begin_s in client.windows})
    busy = [begin_s for begin_s in begins_s if _total(clients, begin_s) > 0]
    if not busy:
        raise WorkloadError(f"{source}: no client has a rate above 0 in any window")
    times: list[Floats] = []
    prompts: list[Ints] = []
    answers: list[Ints] = []
    drawn, start_s, place = 0, 0.0, 0
    while drawn < num_requests:
        begin_s = busy[place % len(busy)]
        later = begins_s[begins_s.index(begin_s) + 1 :]
        length_s = later[0] - begin_s if later else LAST_WINDOW_S
        scale = rate_per_s / _total(clients, begin_s)
        for client in clients:
            window = client.windows.get(begin_s)
            count = 0 if window is None else int(window.rate_per_s * scale * length_s + random.random())
            if window is not None and count:
                times.append(start_s + _arrivals(window, count, length_s, random))
                for kept, shares in zip((prompts, answers), client.lengths_at(begin_s), strict=True):
                    kept.append(np.maximum(np.searchsorted(shares, random.random(count)), 1))
                drawn += count
        start_s, place = start_s + length_s, place + 1
    arrival_s = np.concatenate(times)
    rows = np.argsort(arrival_s, kind="stable")[:num_requests]
    info = WorkloadInfo(
        source,
        "synthetic",
        infinite_cache_hit_rate_tokens=0.0,
        notes=(f"{len(clients):,} clients of ServeGen over {place:,} of their windows", NONE_ALIKE),
    )
    asked, answered = (np.concatenate(column)[rows].astype(np.int32) for column in (prompts, answers))
    return Workload.private(arrival_s[rows], asked, answered, info)


def _total(clients: list[Client], begin_s: float) -> float:
    return sum(client.windows[begin_s].rate_per_s for client in clients if begin_s in client.windows)


def _arrivals(window: Window, count: int, length_s: float, random: np.random.Generator) -> Floats:
    """So many times of a renewal process within a window, one gap more than requests."""
    draw = (
        random.gamma(window.shape, size=count + 1)
        if window.pattern == "Gamma"
        else random.weibull(window.shape, count + 1)
    )
    gaps = np.maximum(draw, 1e-12)
    times_s: Floats = np.cumsum(gaps)[:-1] / gaps.sum() * length_s
    return times_s
