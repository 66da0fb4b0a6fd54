"""Reads ``/metrics`` before, during and after a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kvsim.measure.connection import FAILURES, Connection, Refused
from kvsim.measure.metrics import is_empty, reading_of
from kvsim.measure.result import MetricsReading

PATH = "/metrics"


class MetricReader:
    """One server's page of metrics; a server that has none is asked once."""

    def __init__(self, connection: Connection, now_s: Callable[[], float]) -> None:
        self._connection, self._now_s = connection, now_s
        self.samples: list[MetricsReading] = []
        self._has_none = False

    async def read(self) -> MetricsReading | None:
        """What it says now; ``None``: nothing, or nothing that is known."""
        if self._has_none:
            return None
        try:
            text = await self._connection.text(PATH)
        except Refused:
            self._has_none = True
            return None
        except FAILURES:
            return None
        reading = reading_of(text, self._now_s())
        return None if is_empty(reading) else reading

    async def watch(self, interval_s: float | None) -> None:
        """Read it again and again; to be cancelled."""
        while interval_s is not None and not self._has_none:
            await asyncio.sleep(interval_s)
            reading = await self.read()
            if reading is not None:
                self.samples.append(reading)
