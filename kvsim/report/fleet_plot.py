"""A picture of a fleet in time: TTFT by arrival, instances in service, and what was sent again or failed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvsim.record.figures import SystemSummary
from kvsim.record.fleet_figures import FleetFigures, TtftOverTime
from kvsim.record.labels import system_label
from kvsim.study.pictures import GREY, PALETTE, figure_of, legend_below, plain_numbers, plain_powers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SYSTEMS = 2
"""Systems that a picture has room for; they come first in the report."""
MOST_SPANS = 40
"""Incidents that are shaded; of more there would be nothing but shade."""
_ROLES = {"colocated": (PALETTE[0], "-"), "prefill": (PALETTE[1], "-"), "decode": (PALETTE[2], "--")}


def fleet_plot(results: Sequence[SystemSummary], subtitle: str) -> Figure | None:
    """Three panels a system, of the first two; ``None`` where nothing could happen to any."""
    known = [(result, result.fleet) for result in results if result.fleet is not None and result.fleet.over_time]
    if not known:
        return None
    shown = known[:MOST_SYSTEMS]
    left_out = f" · {len(shown)} of {len(known)} systems" if len(shown) < len(known) else ""
    figure, axes = figure_of(
        "The fleet over simulated time",
        subtitle + left_out,
        rows=3 * len(shown),
        height_in=2.0 + 4.2 * len(shown),
    )
    for place, (result, fleet) in enumerate(shown):
        _panels(axes[3 * place : 3 * place + 3], result, fleet)
    legend_below(figure, *axes)
    return figure


def _panels(axes: Sequence[Axes], result: SystemSummary, fleet: FleetFigures) -> None:
    times = fleet.over_time
    assert times is not None, "systems without requests are not shown"
    ttft, instances, again = axes
    _ttft(ttft, times, result.goodput.slo.ttft_ms)
    ttft.set_title(system_label(result.name), loc="left", fontsize=9)
    _instances(instances, fleet)
    _again(again, times)
    end_s = max(times.bin_s * len(times.requests), *(each.end_s or each.begin_s for each in fleet.incidents), 0.0)
    for axis in axes:
        axis.set_xlim(0, end_s)
        plain_numbers(axis.xaxis)
        _shade(axis, fleet, end_s)
    plain_numbers(instances.yaxis, again.yaxis)
    for axis in axes[:2]:
        axis.set_xticklabels([])
    again.set_xlabel("simulated time (s)")


def _ttft(axis: Axes, times: TtftOverTime, limit_ms: float) -> None:
    middles_s = [times.bin_s * (place + 0.5) for place in range(len(times.requests))]
    for label, values, colour in (("p99", times.ttft_p99_ms, PALETTE[1]), ("p50", times.ttft_p50_ms, PALETTE[0])):
        known = [math.nan if value is None else value for value in values]
        axis.plot(middles_s, known, color=colour, linewidth=1.6, label=f"TTFT {label}")
    axis.axhline(limit_ms, color=GREY, linewidth=1.0, linestyle=(0, (2, 2)), label="SLO of TTFT")
    axis.set_yscale("log")
    axis.set_ylabel("TTFT by\narrival (ms)", fontsize=9)
    plain_powers(axis.yaxis, *axis.get_ylim())


def _instances(axis: Axes, fleet: FleetFigures) -> None:
    for role, service in fleet.instances.items():
        colour, style = _ROLES[role]
        axis.step(
            service.times_s, service.serving, where="post", color=colour, linestyle=style, label=f"{role} in service"
        )
    axis.set_ylim(0, 1.08 * max(service.instances for service in fleet.instances.values()))
    axis.set_ylabel("instances", fontsize=9)


def _again(axis: Axes, times: TtftOverTime) -> None:
    """Requests a second, by bins of time."""
    edges_s = [times.bin_s * place for place in range(len(times.requests) + 1)]
    rows = (("requests come", times.requests, GREY), ("sent again", times.sent_again, PALETTE[3]),
            ("failed, by arrival", times.failed, PALETTE[5]))  # fmt: skip
    for label, counts, colour in rows:
        if any(counts):
            axis.stairs([count / times.bin_s for count in counts], edges_s, color=colour, linewidth=1.4, label=label)
    axis.set_ylim(0, None)
    axis.set_ylabel("requests/s", fontsize=9)


def _shade(axis: Axes, fleet: FleetFigures, end_s: float) -> None:
    for incident in fleet.incidents[:MOST_SPANS]:
        until_s = end_s if incident.end_s is None else incident.end_s
        axis.axvspan(incident.begin_s, until_s, color="0.5", alpha=0.15, linewidth=0, label="incident")
