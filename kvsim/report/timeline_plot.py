"""A picture of what a system did over time: requests that run and wait, KV in use, hits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvsim.record.frames import timeline_frame
from kvsim.record.labels import system_label
from kvsim.study.pictures import PALETTE, figure_of, plain_numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kvsim.record.result import SystemResult

_PANELS = (
    ("running", "requests running", 1.0),
    ("waiting", "requests waiting", 1.0),
    ("kv_usage", "KV blocks in use (%)", 100.0),
    ("hit_rate", "prompt tokens hit (%)", 100.0),
)


def timeline(result: SystemResult) -> Figure:
    """Means over equal bins of time, of the whole system. Raises a ``KvsimError`` where the run kept no detail."""
    frame = timeline_frame(result).filter(scope="all")
    title = f"{system_label(result.name)} over simulated time"
    figure, axes = figure_of(title, "", rows=len(_PANELS), height_in=1.8 * len(_PANELS))
    for axis, colour, (column, label, factor) in zip(axes, PALETTE, _PANELS, strict=False):
        values = frame[column].to_numpy() * factor
        axis.step(frame["start_s"].to_numpy(), values, where="post", color=colour, linewidth=1.4)
        axis.axvspan(*result.window_s, color="0.5", alpha=0.12, linewidth=0)
        axis.set_title(label, loc="left", fontsize=9)
        axis.set_ylim(bottom=0)
        axis.set_xlim(0, result.end_s)
        plain_numbers(axis.xaxis)
    axes[-1].set_xlabel("simulated time (s); shaded: the measured window")
    return figure
