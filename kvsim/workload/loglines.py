"""The lines of a vLLM log that tell of requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TextIO

EVENT = {"received": "Received request", "details": "Request details", "generated": "Generated response"}
FIELDS = ("time_ns", "event", "request_id", "text")
_TIME = re.compile(r"\b(?:INFO|DEBUG|WARNING|ERROR|CRITICAL) (\d\d)-(\d\d) (\d\d):(\d\d):([0-5]\d)\b")
_LINE = re.compile(
    r"Received request (?P<received>\S+): |\bRequest (?P<details>\S+) details: "
    r"|Generated response (?P<generated>\S+?)(?=:? |$)"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEAP_YEAR = 2000
"""Any day of any year is one of it."""


def is_log(head: str) -> bool:
    """Whether a text looks like a log of vLLM's: one of its first lines begins as those do."""
    return any(_TIME.search(line[:200]) for line in head.splitlines()[:200])


def requests(stream: TextIO) -> Iterator[tuple[int, dict[str, object]]]:
    """The line number and the values of each line that tells of a request."""
    for number, line in enumerate(stream, 1):
        time = _time(line)
        # What is said of a request stands right behind the prefix; a prompt may say the same.
        start = time.end() if time else 0
        found = _LINE.search(line, start, start + 400)
        if found is None or found.lastgroup is None:
            continue
        kind = found.lastgroup
        values = {"time_ns": _ns(time), "event": EVENT[kind], "request_id": found[kind].rstrip(":")}
        yield number, {**values, "text": line[found.end() :].rstrip("\r\n")}


def line_time_ns(line: str) -> int | None:
    """When a line was logged, from the beginning of a year that nobody names; ``None``: it does not say."""
    return _ns(_time(line))


def _time(line: str) -> re.Match[str] | None:
    return _TIME.search(line, 0, 400)


def _ns(time: re.Match[str] | None) -> int | None:
    if time is None:
        return None
    month, day, hour, minute, second = map(int, time.groups())
    try:
        since = datetime(_LEAP_YEAR, month, day, hour, minute, second, tzinfo=UTC) - _EPOCH
    except ValueError:
        return None
    return (since.days * 86_400 + since.seconds) * 1_000_000_000
