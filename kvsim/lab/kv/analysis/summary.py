"""A row a point and phase: means over repeats with their intervals, and what requests took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kvsim.lab.kv.analysis.metrics import METRICS, Rows
from kvsim.study.intervals import Interval, interval

SHOWN_PERCENTS = (0, 5, 25, 50, 75, 90, 95, 99, 100)
LATENCIES = {"TTFT": "ttft_ms", "TPOT": "tpot_ms", "E2E": "e2e_ms"}


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """One phase at one point."""

    point: int
    at: Mapping[str, float]
    phase: str
    family: str
    repeats: int
    started: int
    """Repeats in which the server came up."""
    requests: int
    """Sums over repeats; also of those completed."""
    completed: int
    metrics: Mapping[str, Interval | None]
    """Means over repeats; ``None``: no repeat has it."""

    def line(self) -> dict[str, object]:
        """The row with a column a figure, and one for the half width of its interval."""
        columns: dict[str, object] = {"point": self.point}
        columns |= {f"at.{name}": value for name, value in self.at.items()}
        columns |= {"phase": self.phase, "family": self.family, "repeats": self.repeats, "started": self.started}
        columns |= {"requests": self.requests, "completed": self.completed}
        for name, found in self.metrics.items():
            columns[name] = None if found is None else found.mean
            columns[f"{name}.half_width"] = None if found is None else found.half_width
        return columns


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """What requests of a phase took, those of all repeats together: percent of requests, and milliseconds."""

    point: int
    phase: str
    latency: str
    requests: int
    curve: tuple[tuple[float, float], ...]


def summary(rows: Rows, confidence: float) -> list[SummaryRow]:
    """By point, and by phase in the order in which the first repeat had them."""
    found = []
    for point in rows.points:
        here = rows.phases_at(point)
        for phase in dict.fromkeys(row.phase for row in here):
            own = [row for row in here if row.phase == phase]
            values = {metric.name: list(rows.values(metric, point, phase).values()) for metric in METRICS}
            found.append(
                SummaryRow(
                    point=point,
                    at=rows.at(point),
                    phase=phase,
                    family=own[0].family,
                    repeats=len(own),
                    started=sum(row.started for row in own),
                    requests=sum(row.requests for row in own),
                    completed=sum(row.completed for row in own),
                    metrics={name: interval(each, confidence) if each else None for name, each in values.items()},
                )
            )
    return found


def percentiles(rows: Rows) -> list[Percentiles]:
    """Each latency of each phase at each point that any request has."""
    found = []
    for point in rows.points:
        here = rows.phases_at(point)
        for phase in dict.fromkeys(row.phase for row in here):
            requests = [one for row in here if row.phase == phase for one in rows.requests((point, row.repeat, phase))]
            for latency, name in LATENCIES.items():
                values = [value for value in (getattr(one, name) for one in requests) if value is not None]
                if values:
                    heights = np.percentile(values, SHOWN_PERCENTS)
                    curve = tuple(zip(map(float, SHOWN_PERCENTS), map(float, heights), strict=True))
                    found.append(
                        Percentiles(point=point, phase=phase, latency=latency, requests=len(values), curve=curve)
                    )
    return found
