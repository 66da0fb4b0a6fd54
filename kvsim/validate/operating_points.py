"""Reading tables of measured operating points: mean TTFT and TPOT of a closed loop, a row each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from kvsim.errors import ConfigError
from kvsim.units import MILLI
from kvsim.validate.clients.users import CLIENTS
from kvsim.validate.files import read_csv

REQUIRED = ("model", "gpu", "precision", "tp_size", "isl", "osl", "concurrency", "ttft_mean_ms", "tpot_mean_ms")
DTYPES = {"bf16": "bf16", "bfloat16": "bf16", "fp16": "fp16", "float16": "fp16", "fp8": "fp8", "int4": "int4"}
MOST_MS = 3_600_000.0
MOST_USERS = 100_000
SATURATED_TTFT_S = 2.0
"""A measured mean TTFT above this is a queue's, not the engine's."""


@dataclass(frozen=True)
class OperatingPoint:
    """``concurrency`` users, each with one request of ``prompt_tokens`` and ``output_tokens`` in flight."""

    line: int
    model: str
    gpu: str
    engine_version: str
    weight_dtype: str
    dtype_assumed: bool
    tensor_parallel: int
    prompt_tokens: int
    output_tokens: int
    concurrency: int
    ttft_s: float | None
    tpot_s: float | None
    client: str = "exact_lengths"
    """One of ``kvsim.validate.clients.users.CLIENTS``."""

    @property
    def saturated(self) -> bool | None:
        """Whether it was saturated, as measured; ``None`` where TTFT was not."""
        return None if self.ttft_s is None else self.ttft_s > SATURATED_TTFT_S


def read_points(path: Path) -> list[OperatingPoint]:
    """Raises ``ConfigError`` (file, line, column, value, what is allowed)."""
    points = [_point(_Row(path.name, line, row)) for line, row in read_csv(path, REQUIRED)]
    if not points:
        raise ConfigError(f"{path.name}: holds no operating point")
    return points


class _Row:
    """One line, its values checked when they are asked for."""

    def __init__(self, file: str, line: int, values: dict[str, str | None]) -> None:
        self.file, self.line, self._values = file, line, values

    def text(self, column: str) -> str:
        return (self._values.get(column) or "").strip()

    def count(self, column: str, most: int = 10_000_000) -> int:
        text = self.text(column)
        if not text.isdecimal() or len(text) > 20 or not 1 <= int(text) <= most:
            raise self.error(column, f"a whole number from 1 to {most:,}")
        return int(text)

    def seconds(self, column: str) -> float | None:
        if not self.text(column):
            return None
        try:
            value = float(self.text(column))
        except ValueError:
            value = math.nan
        if not 0 < value <= MOST_MS:
            raise self.error(column, f"milliseconds, above 0 and at most {MOST_MS:,.0f}")
        return value * MILLI

    def error(self, column: str, allowed: str) -> ConfigError:
        return ConfigError(f"{self.file}: line {self.line}: {column} = {self.text(column)!r}: must be {allowed}")


def _point(row: _Row) -> OperatingPoint:
    precision = row.text("precision").lower()
    dtype = DTYPES.get(precision.rstrip("?").split("_")[0])
    if dtype is None:
        raise row.error("precision", f"one of {', '.join(DTYPES)}")
    assumed = precision.endswith("?")
    # InferenceX's database always states the precision; tables that do not come from elsewhere.
    client = row.text("client") or ("exact_lengths" if assumed else "random_lengths")
    if client not in CLIENTS:
        raise row.error("client", f"one of {', '.join(CLIENTS)}")
    return OperatingPoint(
        line=row.line,
        model=row.text("model"),
        gpu=row.text("gpu"),
        engine_version=row.text("backend_version"),
        weight_dtype=dtype,
        dtype_assumed=assumed,
        tensor_parallel=row.count("tp_size"),
        prompt_tokens=row.count("isl"),
        output_tokens=row.count("osl"),
        concurrency=row.count("concurrency", MOST_USERS),
        ttft_s=row.seconds("ttft_mean_ms"),
        tpot_s=row.seconds("tpot_mean_ms"),
        client=client,
    )
