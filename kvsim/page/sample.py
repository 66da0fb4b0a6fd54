"""The requests on the page: all of them, or some of each system drawn evenly over arrival and the slowest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from kvsim.page.markup import Html, element, embedded_json, together
from kvsim.page.series import short
from kvsim.page.tables import scrolled
from kvsim.record.frames import requests_frame
from kvsim.record.labels import number, system_label
from kvsim.record.result import COMPONENTS, SystemResult

MOST_ROWS = 2_000
SLOWEST_SHARE = 0.25
"""Share of the rows that go to the longest TTFT and the longest E2E."""
SHOWN = 25
"""Rows on a page of the table."""
_FIGURES = (
    ("id", "request_id", 1.0),
    ("arrival s", "arrival_s", 1.0),
    ("prompt", "prompt_tokens", 1.0),
    ("hit", "hit_tokens", 1.0),
    ("loaded", "loaded_tokens", 1.0),
    ("output", "output_tokens", 1.0),
    ("ttft ms", "ttft_s", 1e3),
    ("tpot ms", "tpot_s", 1e3),
    ("e2e s", "e2e_s", 1.0),
    *((f"{name.removesuffix('_s').replace('_', ' ')} ms", name, 1e3) for name in COMPONENTS),
    ("preempted", "preemptions", 1.0),
    ("prefill at", "prefill_instance", 1.0),
    ("decode at", "decode_instance", 1.0),
)
"""Heading, column of the frame, and what it is multiplied with."""


@dataclass(frozen=True)
class Sample:
    """Rows of all systems, and of how many they are."""

    frame: pl.DataFrame
    """With ``system``."""
    of: int


def sample_of(results: Sequence[SystemResult], most: int = MOST_ROWS) -> Sample:
    """At most so many requests, the same number of each system."""
    frames = []
    for result in results:
        frame = requests_frame(result).select(pl.lit(system_label(result.name)).alias("system"), pl.all())
        frames.append(frame[_rows(frame, most // max(1, len(results)))])
    return Sample(pl.concat(frames, how="diagonal"), sum(result.completed for result in results))


def _rows(frame: pl.DataFrame, most: int) -> list[int]:
    if len(frame) <= most:
        return list(range(len(frame)))
    each = max(1, int(most * SLOWEST_SHARE / 2))
    slowest: set[int] = set()
    for column in ("ttft_s", "e2e_s"):
        slowest |= set(np.argsort(-frame[column].to_numpy(), kind="stable")[:each].tolist())
    by_arrival = [
        row for row in np.argsort(frame["arrival_s"].to_numpy(), kind="stable").tolist() if row not in slowest
    ]
    even = np.linspace(0, len(by_arrival) - 1, most - len(slowest)).astype(int)
    return sorted({*slowest, *(by_arrival[place] for place in even.tolist())})


def requests_table(results: Sequence[SystemResult]) -> Html:
    """The table, its filter, and the rows that the page's script fills it with; the slowest stand there without."""
    sample = sample_of(results)
    frame = sample.frame.sort("ttft_s", descending=True, maintain_order=True)
    columns: dict[str, list[object]] = {"system": frame["system"].to_list()} if len(results) > 1 else {}
    for head, column, scale in _used(frame):
        columns[head] = list(short(frame[column].cast(pl.Float64).fill_null(np.nan).to_numpy() * scale, 6))
    said = f"{len(frame):,} of {sample.of:,} requests that were completed"
    if len(frame) < sample.of:
        said += ": in each system those with the longest TTFT and E2E, and others drawn evenly over arrival"
    first = [[_cell(values[row]) for values in columns.values()] for row in range(min(SHOWN, len(frame)))]
    return together(
        element("p", said + ".", class_="said"),
        _controls(list(columns)),
        scrolled(
            "Requests",
            element(
                "table",
                element("caption", "Requests, longest TTFT first"),
                element("thead", element("tr", *(_heading(head) for head in columns))),
                element("tbody", *(element("tr", *(element("td", cell) for cell in row)) for row in first)),
                id="requests",
            ),
        ),
        element(
            "script", embedded_json({"columns": columns, "shown": SHOWN}), type="application/json", id="requests-data"
        ),
    )


def _used(frame: pl.DataFrame) -> list[tuple[str, str, float]]:
    """Parts of TTFT that no request has, and what else is 0 throughout, are left out."""
    always = {"request_id", "arrival_s", "prompt_tokens", "hit_tokens", "output_tokens", "ttft_s", "tpot_s", "e2e_s"}
    always |= {"prefill_instance"}
    same = frame["prefill_instance"].equals(frame["decode_instance"]) if len(frame) else True
    found = []
    for head, column, scale in _FIGURES:
        if column == "decode_instance":
            if not same:
                found.append((head, column, scale))
        elif column in always or (frame[column] != 0).any():
            found.append(("instance" if column == "prefill_instance" and same else head, column, scale))
    return found


def _heading(head: str) -> Html:
    return element("th", element("button", head, type="button"), scope="col", aria_sort="none")


def _controls(heads: Sequence[str]) -> Html:
    example = "ttft > 500 and prompt < 2000"
    field = element("label", "Filter ", Html('<input id="filter" type="search" autocomplete="off" spellcheck="false">'))
    hint = element(
        "span",
        f"e.g. {example}; columns by their first word: {', '.join(dict.fromkeys(_word(head) for head in heads))}",
        id="filter-hint",
        class_="hint",
    )
    turns = element(
        "span",
        element("button", "previous", type="button", id="previous"),
        element("output", "", id="place", aria_live="polite"),
        element("button", "next", type="button", id="next"),
        class_="turns",
    )
    return element("div", field, turns, hint, class_="controls", hidden=True, id="controls")


def _word(head: str) -> str:
    return head.removesuffix(" ms").removesuffix(" s").replace(" ", "_")


def _cell(value: object) -> str:
    """As the page's script writes it."""
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    return f"{value:,.0f}" if value.is_integer() else number(value)
