"""Requests one by one, measured and predicted, as a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np

from kvsim.live.compare import Comparison
from kvsim.live.served import METRICS, Chosen, metrics_of
from kvsim.report.atomic import replacing
from kvsim.units import MILLI

COLUMNS = (
    "run",
    "request_id",
    "part",
    "sent_s",
    "prompt_tokens",
    "output_tokens",
    "cached_tokens",
    "cached_tokens_predicted",
    "ttft_ms",
    "ttft_ms_predicted",
    "tpot_ms",
    "tpot_ms_predicted",
    "e2e_ms",
    "e2e_ms_predicted",
)


def write_requests(path: Path, found: Comparison, learned: Sequence[Chosen] | None) -> None:
    """``COLUMNS`` as CSV, a row a request; empty where nothing is known. ``learned``: those fitted on, by run."""
    text = StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for place, (run, ours) in enumerate(zip(found.runs, found.predictions, strict=True)):
        parts = [""] * len(run) if learned is None else np.where(learned[place], "fitted on", "not fitted on").tolist()
        measured, predicted = metrics_of(run.requests), metrics_of(ours.requests)
        columns = [run.requests["arrival_s"], run.requests["prompt_tokens"], run.requests["output_tokens"]]
        columns += [run.requests["hit_tokens"], ours.requests["hit_tokens"]]
        columns += [side[name] / MILLI for name in METRICS for side in (measured, predicted)]
        for row in range(len(run)):
            cells = [f"{column[row]:.7g}" if np.isfinite(column[row]) else "" for column in columns]
            writer.writerow([run.name, int(run.request_ids[row]), parts[row], *cells])
    with replacing(path) as file:
        file.write(text.getvalue().encode("utf-8"))
