"""How a trace file is read: the same choices for whatever reads one."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

from kvsim.errors import WorkloadError, nearest

TIME_UNITS = ("auto", "s", "ms", "us", "ns")


@dataclass(frozen=True)
class Reading:
    """What the ``--workload-`` flags say. Raises ``WorkloadError`` for what cannot be."""

    fmt: str = "auto"
    limit: int | None = None
    """The first usable rows; what stands behind them is not read."""
    time_unit: str = "auto"
    arrival_scale: float = 1.0
    """Multiplies times."""
    include_failed: bool = False
    """Rows without prompt or output tokens are taken with one token, not left out."""
    hash_tokens_per_block: int | None = None
    strict: bool = False
    """An error of lint is raised."""
    dequantise: bool = False
    """Rows that share a time are spread (:func:`kvsim.workload.dequantise.dequantised`)."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise WorkloadError(f"workload limit is {self.limit}; allowed: 1 or more requests")
        if self.time_unit not in TIME_UNITS:
            close = nearest(self.time_unit, TIME_UNITS)
            raise WorkloadError(f"workload time unit '{self.time_unit}' is unknown; {close}")
        if not 0 < self.arrival_scale < math.inf:
            raise WorkloadError(f"arrival scale is {self.arrival_scale}; allowed: a finite number > 0")
        block = self.hash_tokens_per_block
        if block is not None and block < 1:
            raise WorkloadError(f"hash tokens per block is {block}; allowed: 1 or more")

    def default_format(self, fmt: str) -> Reading:
        """A copy with schema ``fmt`` where none was named."""
        return replace(self, fmt=fmt) if self.fmt == "auto" else self

    @property
    def flags(self) -> str:
        """The command line's flags that say what this says, each behind a space."""
        said = ""
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                said += f" {FLAGS[field.name]}" if value is True else f" {FLAGS[field.name]} {value}"
        return said


AS_IT_STANDS = Reading()
FLAGS = {
    "fmt": "--workload-format",
    "limit": "--workload-limit",
    "time_unit": "--workload-time-unit",
    "arrival_scale": "--workload-arrival-scale",
    "include_failed": "--workload-include-failed",
    "hash_tokens_per_block": "--workload-hash-tokens-per-block",
    "strict": "--strict-workload-validation",
    "dequantise": "--workload-dequantise",
}
