"""Measured against predicted, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kvsim.live.served import metrics_of
from kvsim.live.validated import Validated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = (("ttft", "TTFT (ms)"), ("tpot", "TPOT (ms)"), ("e2e", "E2E (ms)"))
PARTS = (("fitted on", "0.75", 6), ("not fitted on", "C0", 9))


def picture(found: Validated) -> Figure:
    """Above: each request, predicted over measured; below: E2E over the time of sending, and distributions."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7.5), layout="constrained")
    for column, (name, label) in enumerate(NAMES):
        _scatter(axes[0, column], found, name, label)
    _over_time(axes[1, 0], found, "ttft", "TTFT (ms)")
    _over_time(axes[1, 1], found, "e2e", "E2E (ms)")
    _distribution(axes[1, 2], found)
    return figure


def _sides(found: Validated, name: str) -> list[tuple[Any, Any, Any, Any]]:
    """By run: when requests were sent, what was measured and predicted, and which were fitted on."""
    comparison, calibration = found.best, found.calibration
    rows = []
    for place, (run, ours) in enumerate(zip(comparison.runs, comparison.predictions, strict=True)):
        learned = np.zeros(len(run), dtype=bool) if calibration is None else calibration.learned[place]
        sent_s = run.requests["arrival_s"]
        rows.append((sent_s, metrics_of(run.requests)[name] * 1e3, metrics_of(ours.requests)[name] * 1e3, learned))
    return rows


def _scatter(axis: Any, found: Validated, name: str, label: str) -> None:
    rows, top = _sides(found, name), 0.0
    for part, colour, size in PARTS:
        for _, measured, predicted, learned in rows:
            those = learned if part == "fitted on" else ~learned
            if those.any():
                axis.scatter(measured[those], predicted[those], s=size, color=colour, label=part, linewidths=0)
                top = max(top, *(float(np.nanmax(side)) for side in (measured, predicted) if np.isfinite(side).any()))
    axis.plot([0, top * 1.05], [0, top * 1.05], color="0.5", linewidth=1)
    axis.set(xlabel=f"measured {label}", ylabel=f"predicted {label}", xlim=(0, top * 1.05), ylim=(0, top * 1.05))
    if found.calibration is not None:
        handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        axis.legend(handles.values(), handles.keys())


def _over_time(axis: Any, found: Validated, name: str, label: str) -> None:
    sent_s, measured, predicted, learned = _sides(found, name)[0]
    axis.plot(sent_s, measured, ".", color="0.4", markersize=4, label="measured")
    axis.plot(sent_s, predicted, ".", color="C0", markersize=4, label="predicted")
    if learned.any() and not learned.all():
        axis.axvline(float(sent_s[~learned][0]), color="0.7", linewidth=1)
        axis.set_title("first run; fitted on what is left of the line", fontsize=9)
    axis.set(xlabel="sent (s)", ylabel=label, ylim=(0, None))
    axis.legend()


def _distribution(axis: Any, found: Validated) -> None:
    """E2E of the requests that nothing was fitted on."""
    rows = _sides(found, "e2e")
    for side, (label, colour) in enumerate((("measured", "0.4"), ("predicted", "C0")), start=1):
        values = np.sort(np.concatenate([row[side][~row[3]] for row in rows]))
        values = values[np.isfinite(values)]
        axis.step(values, np.arange(1, len(values) + 1) / len(values), where="post", color=colour, label=label)
    axis.set(
        xlabel="E2E (ms)", ylabel="share of requests" + (" not fitted on" if found.calibration else ""), ylim=(0, 1)
    )
    axis.legend()
