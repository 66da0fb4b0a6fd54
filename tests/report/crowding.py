"""Words in a picture that cannot be read: they meet, or leave it."""

from __future__ import annotations

from itertools import combinations
from typing import Any


def crowded(figure: Any) -> list[str]:
    """Pairs of numbers of one axis that meet, and whatever stands beyond the picture's edges."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).draw()
    found = []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            labels = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            shown = [label for label in labels if label.get_visible() and label.get_text()]
            boxes = [(label.get_text(), label.get_window_extent()) for label in shown]
            if not any(label.get_rotation() for label in shown):
                pairs = combinations(boxes, 2)
                found += [f"{one} meets {other}" for (one, a), (other, b) in pairs if a.overlaps(b)]
            found += [f"{text} leaves the picture" for text, box in boxes if _leaves(box, figure)]
    titles = [axes.title for axes in figure.axes] + [axes.xaxis.label for axes in figure.axes]
    texts = [text for text in (*figure.texts, *titles, *(legend for legend in figure.legends)) if _says(text)]
    found += [f"{text} leaves the picture" for text in texts if _leaves(text.get_window_extent(), figure)]
    return found


def _says(text: Any) -> bool:
    return not hasattr(text, "get_text") or bool(text.get_text())


def _leaves(box: Any, figure: Any) -> bool:
    edge = figure.bbox
    return bool(box.x0 < edge.x0 - 1 or box.y0 < edge.y0 - 1 or box.x1 > edge.x1 + 1 or box.y1 > edge.y1 + 1)
