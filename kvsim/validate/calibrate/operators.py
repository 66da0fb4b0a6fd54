"""Reading a folder of measured operator times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kvsim.errors import ConfigError
from kvsim.steptime.operators import Floats, Operators
from kvsim.units import MICRO
from kvsim.validate.files import read_csv, read_yaml

MOST_US = 10e6
"""No operator of a layer takes 10 s: such a file is not in microseconds."""
LEAST_US = 1e-3
KNOWN_DENSE = frozenset(
    {
        "embedding", "layernorm", "qkv_proj", "qk_norm", "rotary_emb", "o_proj",
        "gate_up_proj", "act_fn", "down_proj", "final_layernorm", "gate", "router",
    }
)  # fmt: skip


@dataclass(frozen=True)
class MeasuredOperators:
    """A folder of operator times."""

    operators: Operators
    meta: dict[str, Any]
    """What stands in its ``*meta.yaml``; ``gpu`` and ``model``, among others."""
    files: tuple[Path, ...]
    method: str = "operators measured one by one"
    licence: dict[str, str] = field(default_factory=dict)
    """``licence``, where there is one to name."""


def read_folder(folder: Path) -> MeasuredOperators:
    """``*dense.csv``, ``*attention.csv``, ``*per_sequence.csv`` and, where present, ``*moe.csv``, ``*skew.csv``,
    ``*meta.yaml``.

    Raises ``ConfigError`` (file, line, what is wrong) on a missing file or column, and on times that cannot be.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    files: list[Path] = []

    def rows(name: str, columns: tuple[str, ...], *, needed: bool = True) -> list[list[Any]]:
        path = _only(folder, f"*{name}.csv", needed=needed)
        if path is None:
            return []
        files.append(path)
        return list(_rows(path, columns))

    dense = rows("dense", ("layer", "tokens", "time_us"))
    per_sequence = rows("per_sequence", ("layer", "sequences", "time_us"))
    attention = rows("attention", ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us"))
    moe = rows("moe", ("tokens", "activated_experts", "time_us"), needed=False)
    skew = rows("skew", ("n", "pc", "kv_big", "kv_mean", "t_mean_us", "t_skew_us"), needed=False)
    attention_s = _array(attention, 5)
    operators = Operators(
        dense=_by_name(dense),
        per_sequence=_by_name(per_sequence),
        attention=attention_s,
        moe=_array(moe, 3),
        straggler=_straggler(np.array(skew, dtype=np.float64).reshape(-1, 6), attention_s),
    )
    _check_places(operators.dense, files[0], "tokens")
    _check_places(operators.per_sequence, files[1], "sequences")
    _check_attention(operators.attention, files[2])
    path = _only(folder, "*meta.yaml", needed=False)
    meta = read_yaml(path) if path is not None else {}
    return MeasuredOperators(operators, meta if isinstance(meta, dict) else {}, tuple(files))


def _only(folder: Path, pattern: str, *, needed: bool) -> Path | None:
    found = sorted(path for path in folder.glob(pattern) if path.is_file())
    if len(found) > 1:
        names = f"{found[0].name}, {found[1].name}"
        raise ConfigError(f"{folder}: {len(found)} files match {pattern} ({names}); one is wanted")
    if not found and needed:
        raise ConfigError(f"{folder}: no file matches {pattern}; a folder of operator times needs one")
    return found[0] if found else None


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[list[Any]]:
    empty = True
    for line, row in read_csv(path, columns):
        empty = False
        yield [_value(path, line, column, row[column]) for column in columns]
    if empty:
        raise ConfigError(f"{path.name}: holds no measurement")


def _value(path: Path, line: int, column: str, text: str | None) -> float | str:
    if column == "layer":
        if not text:
            raise ConfigError(f"{path.name}: line {line}: layer is empty")
        return text
    try:
        value = float(text or "")
    except ValueError:
        raise ConfigError(f"{path.name}: line {line}: {column} = {text!r}: must be a number") from None
    if column.endswith("_us"):
        if not LEAST_US <= value <= MOST_US:
            raise ConfigError(
                f"{path.name}: line {line}: {column} = {text}: an operator takes from {LEAST_US:g} to {MOST_US:g} "
                "microseconds"
            )
    elif not 0 <= value < 1e9:
        raise ConfigError(f"{path.name}: line {line}: {column} = {text}: must be 0 or more")
    return value


def _by_name(rows: list[list[Any]]) -> dict[str, Floats]:
    """Seconds by place, of each operator."""
    found: dict[str, list[list[Any]]] = {}
    for name, *values in rows:
        found.setdefault(name, []).append(values)
    return {name: _array(values, 2) for name, values in found.items()}


def _array(rows: list[list[Any]], width: int) -> Floats:
    """Seconds by place, places ascending; those that were measured several times count with their median."""
    found = np.array(rows, dtype=np.float64).reshape(-1, width)
    places, group = np.unique(found[:, :-1], axis=0, return_inverse=True)
    order = np.argsort(group.reshape(-1), kind="stable")
    bounds = np.searchsorted(group.reshape(-1)[order], np.arange(1, len(places)))
    times = [float(np.median(part)) * MICRO for part in np.split(found[order, -1], bounds)] if len(found) else []
    return np.column_stack((places, times)).reshape(-1, width)


def _straggler(skew: Floats, attention: Floats) -> Floats:
    """By batch size and prefilled tokens: seconds for each token by which the longest exceeds the mean, the median."""
    n, prefilled = skew[:, 0], skew[:, 1]
    excess = skew[:, 2] - skew[:, 3]
    keep = excess > 0
    slope_s = np.where(keep, (skew[:, 5] - skew[:, 4]) / np.where(keep, excess, 1.0), 0.0) * MICRO
    slope_s /= _passes(skew, attention)
    kinds = np.unique(np.column_stack((n, prefilled))[keep], axis=0).reshape(-1, 2)
    return np.array(
        [(*kind, float(np.median(slope_s[keep & (n == kind[0]) & (prefilled == kind[1])]))) for kind in kinds]
    ).reshape(-1, 3)


def _passes(skew: Floats, attention: Floats) -> int:
    """How many passes a time of ``skew`` is the sum of: LLMServingSim's profiler gives one pass's in ``attention`` and
    three in the other, as decodes of one context that stand in both show; 1 where none do."""
    ratios: list[float] = []
    for n in np.unique(skew[:, 0]):
        alone = attention[(attention[:, 0] == 0) & (attention[:, 2] == n)]
        even = skew[(skew[:, 0] == n) & (skew[:, 1] == 0)]
        if len(alone):
            even = even[(alone[0, 3] <= even[:, 3]) & (even[:, 3] <= alone[-1, 3])]
            ratios += list(even[:, 4] * MICRO / np.interp(even[:, 3], alone[:, 3], alone[:, 4]))
    return max(1, round(float(np.median(ratios)))) if ratios else 1


def _check_places(operators: dict[str, Floats], path: Path, what: str) -> None:
    for name, rows in operators.items():
        if len(rows) < 2:
            raise ConfigError(f"{path.name}: {name}: one number of {what} was measured; two or more are needed")


def _check_attention(attention: Floats, path: Path) -> None:
    prefill = attention[(attention[:, 0] > 0) & (attention[:, 2] == 0)]
    decode = attention[(attention[:, 0] == 0) & (attention[:, 2] > 0)]
    for words, values in (
        ("prefill_chunk of steps that only prefill", prefill[:, 0]),
        ("kv_prefill of steps that only prefill", prefill[:, 1]),
        ("n_decode of steps that only decode", decode[:, 2]),
        ("kv_decode of steps that only decode", decode[:, 3]),
    ):
        if len(np.unique(values)) < 2:
            raise ConfigError(f"{path.name}: {words}: two values or more are needed to interpolate")
