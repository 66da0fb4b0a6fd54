"""How much memory this process may still take, and one line where something would take more than that.

What a thing takes was measured (docs/decisions/022-room.md) and stands where it is built; it is the mean, not a bound.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path

from kvsim.errors import CapacityError
from kvsim.units import GB

_PROC = Path("/proc/self")
_CGROUPS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
"""Limit and use of a control group, of either version."""


def available_bytes() -> float:
    """The least that the machine, the control group and the limits of this process leave; infinite where unknown."""
    return max(0.0, min(_of_machine(), _of_group(Path("/sys/fs/cgroup")), _of_process()))


def require(needed_bytes: float, what: str, fits: str = "") -> None:
    """Raise ``CapacityError`` where ``what`` needs more than there is; ``fits``: what would do."""
    left = available_bytes()
    if needed_bytes > left:
        advice = f"; {fits}" if fits else ""
        raise CapacityError(f"{what}: about {_gb(needed_bytes)} GB of memory, where {_gb(left)} are left{advice}")


def most(each_bytes: float, beside_bytes: float = 0.0) -> int:
    """How many things of that size fit, less ``beside_bytes`` for others."""
    return max(0, int(min((available_bytes() - beside_bytes) / each_bytes, 1e18)))


def about(count: float) -> str:
    """Two significant digits, rounded down from 10 on, for sentences on what would fit."""
    if count < 10:
        return f"{max(0.0, count):.2g}"
    whole = int(count)
    scale = 10 ** max(0, len(str(whole)) - 2)
    return f"{whole // scale * scale:,}"


def _gb(number_bytes: float) -> str:
    return f"{number_bytes / GB:,.3g}" if number_bytes < 1e14 else f"{number_bytes / GB:.1e}"


def _of_machine() -> float:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
        return float(os.sysconf("SC_AVPHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return float("inf")


def _of_group(root: Path) -> float:
    for limit, use in _CGROUPS:
        try:
            return float((root / limit).read_text()) - float((root / use).read_text())
        except (OSError, ValueError):  # ``max``, or no such file
            continue
    return float("inf")


def _of_process() -> float:
    """Below the soft limits on address space and data, as ``ulimit -v`` and ``-d`` set them."""
    left = float("inf")
    try:
        pages = [int(number) for number in (_PROC / "statm").read_text().split()]
    except (OSError, ValueError):
        return left
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    for limit, used in ((resource.RLIMIT_AS, pages[0]), (resource.RLIMIT_DATA, pages[5])):
        soft = resource.getrlimit(limit)[0]
        if soft != resource.RLIM_INFINITY:
            left = min(left, soft - used * page_bytes)
    return left
