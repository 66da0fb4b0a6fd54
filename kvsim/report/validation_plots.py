"""Predicted against measured, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kvsim.report.atomic import replacing

if TYPE_CHECKING:
    from kvsim.validate.measured_run import MeasuredRun
    from kvsim.validate.predict_run import RunPrediction

Floats = np.ndarray[Any, np.dtype[np.float64]]
NAMES = (("ttft", "TTFT (s)"), ("tpot", "TPOT (ms)"), ("e2e", "E2E (s)"))


def draw_run(run: MeasuredRun, prediction: RunPrediction, path: Path) -> None:
    """Scatter and distribution of TTFT, TPOT and E2E, and requests in the system over time; a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from kvsim.validate.predict_run import metrics_of

    figure, axes = pyplot.subplots(3, 3, figsize=(13, 11), layout="constrained")
    ours, theirs, measured = metrics_of(prediction.requests), metrics_of(run.requests), run.requests
    for column, (name, label) in enumerate(NAMES):
        scale = 1e3 if "ms" in label else 1.0
        _scatter(axes[0, column], theirs[name] * scale, ours[name] * scale, label)
        _distribution(axes[1, column], theirs[name] * scale, ours[name] * scale, label)
    _over_time(axes[2, 0], "requests in the system", measured["arrival_s"], measured["finish_s"], prediction)
    _series(axes[2, 1], run, prediction, "running")
    _series(axes[2, 2], run, prediction, "waiting")
    figure.suptitle(f"{run.name}: predicted against measured")
    with replacing(path) as file:
        figure.savefig(file, dpi=110, format="png")
    pyplot.close(figure)


def _scatter(axis: Any, measured: Floats, predicted: Floats, label: str) -> None:
    top = float(np.nanmax([np.nanmax(measured), np.nanmax(predicted)])) * 1.05
    axis.plot([0, top], [0, top], color="0.6", linewidth=1)
    axis.scatter(measured, predicted, s=8)
    axis.set(xlabel=f"measured {label}", ylabel=f"predicted {label}", xlim=(0, top), ylim=(0, top))


def _distribution(axis: Any, measured: Floats, predicted: Floats, label: str) -> None:
    for values, name in ((measured, "measured"), (predicted, "predicted")):
        known = np.sort(values[np.isfinite(values)])
        axis.plot(known, np.arange(1, len(known) + 1) / len(known), label=name)
    axis.set(xlabel=label, ylabel="share of requests", ylim=(0, 1))
    axis.legend()


def _over_time(axis: Any, title: str, starts_s: Floats, ends_s: Floats, prediction: RunPrediction) -> None:
    for name, start_s, end_s in (
        ("measured", starts_s, ends_s),
        ("predicted", prediction.requests["arrival_s"], prediction.requests["finish_s"]),
    ):
        axis.step(*_count(start_s, end_s), where="post", label=name)
    axis.set(xlabel="time (s)", ylabel=title)
    axis.legend()


def _count(starts_s: Floats, ends_s: Floats) -> tuple[Floats, Floats]:
    """How many intervals hold each time."""
    ends_s = ends_s[np.isfinite(ends_s)]
    times = np.concatenate((starts_s, ends_s))
    change = np.concatenate((np.ones(len(starts_s)), -np.ones(len(ends_s))))
    order = np.argsort(times, kind="stable")
    return times[order], np.cumsum(change[order])


def _series(axis: Any, run: MeasuredRun, prediction: RunPrediction, name: str) -> None:
    """``running`` or ``waiting`` as the engine's own counters have it, each second."""
    if run.series:
        axis.step(run.series["t"], run.series[name], where="post", label="measured")
    running = name == "running"
    starts_s = prediction.requests["scheduled_s" if running else "arrival_s"]
    ends_s = prediction.requests["finish_s" if running else "scheduled_s"]
    axis.step(*_count(starts_s, ends_s), where="post", label="predicted")
    axis.set(xlabel="time (s)", ylabel=f"requests {name}")
    axis.legend()
