"""Points in time: dates to nanoseconds, and which unit bare numbers are likely to be."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import numpy.typing as npt

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
"""How many of each unit make a second, from coarse to fine."""

DATE = "date"
"""The unit of times that were dates: whole nanoseconds since 1970, and no unit option applies to them."""

DATE_FORM = "a date such as 2023-11-16 18:15:46.6805900, or 2024-05-12 00:00:00+00:00"

# A mean gap beyond this is taken for a finer unit: serving traces hold at least a request every ten seconds.
LONGEST_MEAN_GAP_S = 10
# Seconds since 1970 from 2001 to 2100, the range in which a first timestamp gives its unit away.
EPOCH_S = (978_307_200, 4_102_444_800)

_DATE = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?\s*(Z|[+-]\d\d:?\d\d)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def assumed_pace_s(answer_s_per_token: float | None) -> float:
    """How long a token of an answer is taken to last; ``None``: as ``config.yaml`` has it."""
    if answer_s_per_token is not None:
        return answer_s_per_token
    from kvsim.config import derived, load_config

    return derived.answer_s_per_token(load_config(mode="traffic").config)


def date_ns(text: str) -> int:
    """Nanoseconds since 1970 of a date with up to nine decimals; UTC when no zone is given. ``ValueError`` else."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    day, clock, fraction, zone = match.groups()
    zone = "+00:00" if zone in (None, "Z") else zone
    since = datetime.fromisoformat(f"{day} {clock}{zone}") - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))


def likely_unit(times: npt.NDArray[Any]) -> str:
    """The unit that bare numbers are likely to be.

    A first time that, read in some unit, falls between 2001 and 2100 has that unit. Other times count from the start of
    the trace: then it is the coarsest unit in which the mean gap between arrivals is at most ten seconds.
    """
    first, last, gaps = times.min().item(), times.max().item(), max(len(times) - 1, 1)
    for unit, per_second in PER_SECOND.items():
        if EPOCH_S[0] <= first / per_second <= EPOCH_S[1]:
            return unit
    span = last - first
    return next((unit for unit, per in PER_SECOND.items() if span / gaps / per <= LONGEST_MEAN_GAP_S), "ns")
