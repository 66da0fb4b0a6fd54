"""The picture of a run: what is held of the budget over time and why requests wait, or latency by budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvsim.lab.charts import curves
from kvsim.lab.kv.queue.lifecycle import Course
from kvsim.lab.kv.queue.outcome import Outcome
from kvsim.record.labels import counted
from kvsim.study.pictures import GREY, PALETTE, figure_of, legend_below, plain_numbers
from kvsim.units import GB

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CAUSES = (
    ("wait_memory_mean_ms", "memory"),
    ("wait_seats_mean_ms", "a seat"),
    ("wait_step_mean_ms", "a step"),
)


def one_budget(name: str, courses: Sequence[Course], outcomes: Sequence[Outcome]) -> Figure:
    """KV over time for each scheduler with the budget as a line, and the mean waits by cause."""
    rows = len(courses) + 1
    title = f"A queue under a KV budget: {courses[0].budget.name}"
    figure, axes = figure_of(title, _about(name, outcomes), 1, rows, 1.1 + 1.7 * rows)
    last_s = max(float(course.held.times_s[-1]) for course in courses)
    for axis, course, colour in zip(axes, courses, PALETTE, strict=False):
        _held(axis, course, colour)
        axis.set_xlim(courses[0].begin_s, last_s)
    axes[len(courses) - 1].set_xlabel("s")
    _waits(axes[-1], outcomes)
    legend_below(figure, axes[-1])
    return figure


def several_budgets(name: str, outcomes: Sequence[Outcome]) -> Figure:
    """Mean latency, and the share of the budget that is held, by budget."""
    figure, (latency, share) = figure_of("A queue by its KV budget", _about(name, outcomes), 2)
    rows = [_Placed(one) for one in outcomes]
    curves(latency, rows, "scheduler", "budget_gb", "latency_s", ("KV budget (GB)", "mean latency (s)"), log=True)
    curves(share, rows, "scheduler", "budget_gb", "held_percent", ("KV budget (GB)", "held in the mean (%)"), log=True)
    places_gb = sorted({row.budget_gb for row in rows})
    for axis in (latency, share):
        axis.set_xticks(places_gb, [f"{place_gb:.3g}" for place_gb in places_gb])
        axis.minorticks_off()
    legend_below(figure, latency)
    return figure


class _Placed:
    """A row by the units of its axes."""

    def __init__(self, outcome: Outcome) -> None:
        self.scheduler = outcome.scheduler
        self.budget_gb = outcome.budget_bytes / GB
        self.latency_s = outcome.latency_mean_ms / 1e3
        self.held_percent = 100 * outcome.memory_mean_share


def _about(name: str, outcomes: Sequence[Outcome]) -> str:
    return f"{name}: {counted(outcomes[0].requests, 'request')}, at most {counted(outcomes[0].seats, 'seat')}"


def _held(axis: Axes, course: Course, colour: str) -> None:
    held_gb = course.held.blocks * course.block_bytes / GB
    axis.fill_between(course.held.times_s, held_gb, step="post", color=colour, alpha=0.35, linewidth=0)
    axis.step(course.held.times_s, held_gb, where="post", color=colour, linewidth=0.8)
    axis.axhline(course.budget.size_bytes / GB, color=GREY, linestyle="--", linewidth=1)
    axis.set_title(course.scheduler, loc="left", fontsize=9)
    axis.set_ylabel("KV (GB)")
    axis.set_ylim(0, 1.15 * course.budget.size_bytes / GB)
    plain_numbers(axis.xaxis, axis.yaxis)


def _waits(axis: Axes, outcomes: Sequence[Outcome]) -> None:
    """Bars of the mean wait, by cause where that can be told."""
    names, left = [one.scheduler for one in outcomes], [0.0] * len(outcomes)
    for (field, cause), colour in zip(CAUSES, PALETTE[3:], strict=False):
        widths = [(getattr(one, field) or 0.0) / 1e3 for one in outcomes]
        axis.barh(names, widths, left=left, color=colour, label=f"for {cause}")
        left = [start + width for start, width in zip(left, widths, strict=True)]
    untold = [one.queue_mean_ms / 1e3 if one.wait_memory_mean_ms is None else 0.0 for one in outcomes]
    if any(one.wait_memory_mean_ms is None for one in outcomes):
        axis.barh(names, untold, color="0.7", label="not told")
    axis.invert_yaxis()
    axis.set_xlabel("mean wait in the queue (s)")
    plain_numbers(axis.xaxis)
