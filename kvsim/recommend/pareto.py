"""What more GPUs buy: output tokens per second and GPU against latencies, and who is beaten by nobody in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kvsim.recommend.candidates import Candidate
from kvsim.recommend.slo import NEAR, THROUGHPUT, USE, Slo
from kvsim.study.pictures import BLUE, GREY, ORANGE, figure_of, legend_below, plain_numbers
from kvsim.study.replication import Figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED = 6
"""Points of a front whose names are written beside them."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A deployment at the rate, from a short run on the same requests as the others'."""

    name: str
    system: str
    gpus: int
    output_tokens_per_s_per_gpu: float
    tpot_mean_ms: float
    ttft_late_ms: float
    """At the percentile of the SLO."""
    keeps: bool
    on_tpot_front: bool
    """No other within twice the limits has as many tokens per second and GPU at as low a mean TPOT."""
    on_ttft_front: bool


def points_of(seen: Mapping[Candidate, Figures], slo: Slo) -> tuple[Point, ...]:
    """The deployments of ``seen``, the most tokens per second and GPU first."""
    rows = sorted(seen, key=lambda one: (-seen[one][THROUGHPUT] / one.gpus, seen[one][USE], one))
    rates = [seen[one][THROUGHPUT] / one.gpus for one in rows]
    tpots = [seen[one]["tpot_mean_ms"] for one in rows]
    ttfts = [seen[one]["use_TTFT"] * slo.ttft_ms for one in rows]
    near = [place for place, one in enumerate(rows) if seen[one][USE] <= NEAR]
    by_tpot, by_ttft = (
        {near[place] for place in front([rates[at] for at in near], [costs[at] for at in near])}
        for costs in (tpots, ttfts)
    )
    return tuple(
        Point(
            name=one.name,
            system=one.family.system,
            gpus=one.gpus,
            output_tokens_per_s_per_gpu=rates[place],
            tpot_mean_ms=tpots[place],
            ttft_late_ms=ttfts[place],
            keeps=seen[one][USE] <= 1,
            on_tpot_front=place in by_tpot,
            on_ttft_front=place in by_ttft,
        )
        for place, one in enumerate(rows)
    )


def front(gains: Sequence[float], costs: Sequence[float]) -> set[int]:
    """The places that no other has as much gain as for less cost, or more gain for as little."""
    order = sorted(range(len(gains)), key=lambda place: (-gains[place], costs[place], place))
    found, least = set(), np.inf
    for place in order:
        if costs[place] < least:
            found.add(place)
            least = costs[place]
    return found


def picture(points: Sequence[Point], title: str, subtitle: str, slo: Slo) -> Figure:
    """Both fronts, and all that was simulated behind them; the limits as lines."""
    figure, axes = figure_of(title, subtitle, columns=2)
    panels = (
        ("mean TPOT (ms)", "tpot_mean_ms", "on_tpot_front", slo.tpot_ms),
        (f"TTFT at {slo.share:.4g} of requests (ms)", "ttft_late_ms", "on_ttft_front", slo.ttft_ms),
    )
    for axis, (label, figure_name, on_front, limit) in zip(axes, panels, strict=True):
        for system, colour in (("unified", BLUE), ("pd", ORANGE)):
            own = [point for point in points if point.system == system and getattr(point, figure_name) <= NEAR * limit]
            xs = [getattr(point, figure_name) for point in own]
            ys = [point.output_tokens_per_s_per_gpu for point in own]
            axis.plot(xs, ys, ".", color=colour, alpha=0.5, label="PD" if system == "pd" else system)
        best = sorted(
            (point for point in points if getattr(point, on_front)), key=lambda one: getattr(one, figure_name)
        )
        shown = [point for point in best if getattr(point, figure_name) <= NEAR * limit]
        axis.plot(
            [getattr(point, figure_name) for point in shown],
            [point.output_tokens_per_s_per_gpu for point in shown],
            "-",
            color=GREY,
            linewidth=1.0,
            label="beaten by none",
        )
        axis.axvline(limit, color=GREY, linestyle=":", label="limit")
        for point in shown[:_NAMED]:
            axis.annotate(
                point.name.split(",")[0],
                (getattr(point, figure_name), point.output_tokens_per_s_per_gpu),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=7,
            )
        axis.set_xlabel(label)
        axis.set_ylabel("output tokens/s/GPU")
        plain_numbers(axis.xaxis, axis.yaxis)
    legend_below(figure, *axes)
    return figure
