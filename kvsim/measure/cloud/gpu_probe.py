"""Which GPUs a machine has, as ``nvidia-smi`` says."""

from __future__ import annotations

import csv
import io
import re
import subprocess
from dataclasses import dataclass

from kvsim.errors import ConfigError
from kvsim.measure.cloud.prices import CloudGpu

_FIELDS = ("name", "memory.total", "driver_version", "compute_cap", "clocks.max.sm", "clocks.max.memory", "power.limit")
_WAIT_S = 30


@dataclass(frozen=True, slots=True)
class SeenGpu:
    """One GPU. MiB, MHz and watts as they are printed; ``None``: it does not say."""

    name: str
    memory_mib: float | None
    driver: str
    capability: str
    sm_mhz: float | None
    memory_mhz: float | None
    power_w: float | None


def seen_gpus() -> tuple[SeenGpu, ...]:
    """Ask ``nvidia-smi``. Raises ``ConfigError`` where there is none, or it fails."""
    query = ["nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=_WAIT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"nvidia-smi does not answer: {error}") from None
    return read_gpus(found.stdout)


def read_gpus(text: str) -> tuple[SeenGpu, ...]:
    """A line a GPU, its fields separated by commas. Raises ``ConfigError`` for anything else."""
    found = []
    for row in csv.reader(io.StringIO(text), skipinitialspace=True):
        if not row:
            continue
        if len(row) != len(_FIELDS):
            raise ConfigError(f"nvidia-smi: {len(row)} fields where {len(_FIELDS)} were asked for: {','.join(row)!r}")
        name, memory, driver, capability, sm, memory_clock, power = (each.strip() for each in row)
        found.append(SeenGpu(name, _number(memory), driver, capability, *map(_number, (sm, memory_clock, power))))
    if not found:
        raise ConfigError("nvidia-smi: no GPU")
    return tuple(found)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def difference(asked: CloudGpu, gpus: int, seen: tuple[SeenGpu, ...]) -> str | None:
    """A sentence where the machine is not the one that was asked for; figures are then not of that GPU."""
    names = [gpu.name for gpu in seen]
    if len(names) == gpus and all(re.search(asked.says, name) for name in names):
        return None
    return f"asked for {gpus} x {asked.asked.rstrip('!')}, got {len(names)}: {', '.join(sorted(set(names)))}"
