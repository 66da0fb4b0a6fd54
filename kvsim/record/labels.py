"""How numbers and names are written for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

COMPONENT_LABELS = {
    "retry": "lost attempts",
    "proxy": "proxy",
    "queue": "queue",
    "interference": "batch interference",
    "preemption": "preemption",
    "tier_load": "tier load",
    "prefill": "prefill compute",
    "transfer": "exposed transfer",
    "decode_wait": "decode wait",
    "first_decode": "first decode step",
}
"""The parts of TTFT, in the order of a request's story."""

_ROUNDING = 1e-9
"""Figures below are what is left of sums that cancel."""
_TYPED_DIGITS = 10
"""Nobody gives a rate with more."""
NOTHING = "-"
"""Stands where nothing was measured."""


def system_label(name: str) -> str:
    """The name of a compared system in a sentence."""
    return "PD" if name == "pd" else name


def number(value: float | None) -> str:
    """``value`` with three significant digits, or all digits before the point when it has more; no unit."""
    if value is None or not math.isfinite(value):
        return NOTHING
    size = abs(value)
    if size < _ROUNDING:
        return "0"
    if size >= 99.95:
        return f"{value:,.0f}"
    if size < 1e-3:
        return f"{value:.2e}"
    return f"{value:.{2 - math.floor(math.log10(size))}f}"


def rate(asked: float) -> str:
    """A rate as somebody gave it; one that was reckoned, such as a third of one, as :func:`number`."""
    given = f"{asked:,.12g}"
    digits = "".join(letter for letter in given if letter.isdigit()).lstrip("0")
    return given if len(digits) <= _TYPED_DIGITS else number(asked)


def percent(share: float | None) -> str:
    """A share as a percentage; never rounded to 0% or 100% when it is neither."""
    if share is None or not math.isfinite(share):
        return NOTHING
    if 0 < share < 0.0005:
        return "<0.1%"
    if 0.9995 <= share < 1:
        return ">99.9%"
    decimals = 0 if share in (0, 1) or 0.1 <= share < 0.99 or share > 1 else 1
    return f"{share:.{decimals}%}"


def counted(count: int, noun: str) -> str:
    """``1 rack``, ``2 racks``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``; one at least."""
    *head, last = names
    return f"{', '.join(head)} and {last}" if head else last


def ratio(parts: Sequence[float]) -> str:
    """``[1, 3]`` as ``1:3``."""
    return ":".join(f"{part:,}" if isinstance(part, int) else number(part) for part in parts)


def relative_difference(a: float, b: float) -> float:
    """How far apart two figures are, as a share of the larger."""
    larger = max(abs(a), abs(b))
    return abs(a - b) / larger if larger > 0 else 0.0
