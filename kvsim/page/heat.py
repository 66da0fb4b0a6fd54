"""Instances over time, a line of coloured cells each: a small picture, since thousands of shapes would be slow."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import numpy as np

from kvsim.page.markup import Html, element, together
from kvsim.page.series import coarse, share
from kvsim.record.binned import Floats, Ints
from kvsim.record.detail import Detail
from kvsim.record.labels import counted, number, system_label
from kvsim.record.result import SystemResult

MOST_ROWS = 300
"""Instances of one role; more are shown in groups."""
_MAP = "cividis"
_TALLEST_PX, _LOWEST_PX, _PICTURE_PX = 14, 2, 240
_MEASURES = (("busy", "time running a step"), ("kv", "KV blocks in use"))


def heat_maps(result: SystemResult) -> Html | None:
    """A picture of how busy the instances are, and one of their KV, for each role; ``None`` without detail."""
    detail = result.detail
    if detail is None:
        return None
    edges, added = coarse(detail, result.end_s)
    width_s = np.diff(edges)
    blocks = np.array([[facts.kv_blocks] for facts in detail.instances], dtype=np.float64)
    cells = {"busy": (added["busy_s"], width_s), "kv": (added["held_block_s"], width_s * blocks)}
    figures = []
    for role, rows in _roles(detail):
        for key, words in _MEASURES:
            part, whole = cells[key]
            all_of_it = np.broadcast_to(whole, part.shape)
            title = f"{system_label(result.name)}, {role}: {words}"
            figures.append(_figure(title, part[rows], all_of_it[rows], float(edges[-1])))
    return together(*figures)


def _roles(detail: Detail) -> Iterator[tuple[str, Ints]]:
    roles = np.array([facts.role for facts in detail.instances])
    for role in dict.fromkeys(roles.tolist()):
        yield role, np.flatnonzero(roles == role)


def _figure(title: str, part: Floats, whole: Floats, end_s: float) -> Html:
    instances = len(part)
    size = -(-instances // MOST_ROWS)
    starts = np.arange(0, instances, size)
    shares = share(np.add.reduceat(part, starts, axis=0), np.add.reduceat(whole, starts, axis=0))
    rows = len(shares)
    height = rows * max(_LOWEST_PX, min(_TALLEST_PX, _PICTURE_PX // rows))
    grouped = "" if size == 1 else f"; each line is the mean of up to {size} of the {instances:,} instances"
    mean = np.nansum(part) / whole.sum() if whole.sum() > 0 else 0.0
    words = f"{title}: {counted(instances, 'instance')}, mean {100 * mean:.0f}%{grouped}"
    picture = element("img", src=_png(shares), alt=words, style=f"height:{height}px", class_="heat")
    last = "0" if instances == 1 else f"{instances - 1}"
    return element(
        "figure",
        element("figcaption", f"{title}{grouped}"),
        element(
            "div",
            element("span", element("span", "0"), element("span", last if rows > 1 else ""), class_="rows"),
            Html(str(picture).replace("</img>", "")),
            element("span", class_="corner"),
            element("span", element("span", "0 s"), element("span", f"{number(end_s)} s"), class_="times"),
            class_="map",
        ),
    )


def _png(shares: Floats) -> str:
    """A pixel a cell, as a ``data:`` address."""
    from matplotlib.image import imsave

    file = io.BytesIO()
    imsave(file, np.nan_to_num(shares), cmap=_MAP, vmin=0.0, vmax=1.0, format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def scale() -> Html:
    """What the colours mean."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    stops = ",".join(to_hex(colormaps[_MAP](at)) for at in np.linspace(0, 1, 6))
    bar = element("span", class_="bar", style=f"background:linear-gradient(to right,{stops})", role="presentation")
    return element("p", "0% ", bar, " 100%", class_="scale")
