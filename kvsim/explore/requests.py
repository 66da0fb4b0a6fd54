"""Tables of requests (``--report-csv``): distributions, and requests in flight over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kvsim.explore.artefact import Artefact, Block, Entry, Figures
from kvsim.page.series import PERCENTS, short
from kvsim.record.labels import system_label
from kvsim.record.percentiles import percentiles
from kvsim.units import MILLI

BEGINS = b"system,request_id,"
_BINS = 150
_LATENCIES = {"TTFT": "ttft_s", "TPOT": "tpot_s", "E2E": "e2e_s"}


def requests_artefact(path: Path, digest: str) -> Artefact:
    """The page of such a table, an entry a system."""
    import polars as pl

    frame = pl.read_csv(path, infer_schema_length=None)
    entries, series = [], []
    for name in frame["system"].unique(maintain_order=True).to_list():
        own = frame.filter(pl.col("system") == name)
        entries.append(_entry(str(name), own.filter(pl.col("measured"))))
        series.append([system_label(str(name)), *_in_flight(own)])
    flight: Block = {"kind": "timeline", "title": "Requests in flight", "unit": "requests", "series": series}
    return Artefact(
        path=path,
        digest=digest,
        kind="requests",
        title=f"Requests of {path.name}",
        entries=tuple(entries),
        facts=(("completed requests", f"{len(frame):,}"),),
        blocks=(flight,),
    )


def _entry(name: str, own: object) -> Entry:
    import polars as pl

    assert isinstance(own, pl.DataFrame)
    ms = {label: own[column].drop_nulls().to_numpy().astype(np.float64) / MILLI for label, column in _LATENCIES.items()}
    means = {label: float(values.mean()) if len(values) else None for label, values in ms.items()}
    curves = {
        label: list(
            zip(PERCENTS.tolist(), (value or 0.0 for value in short(percentiles(values, PERCENTS))), strict=True)
        )
        for label, values in ms.items()
        if len(values)
    }
    prompts = float(own["prompt_tokens"].sum())
    return Entry(
        name=system_label(name),
        system=name,
        figures=Figures(
            requests=len(own),
            ttft_mean_ms=means["TTFT"],
            ttft_p99_ms=float(np.percentile(ms["TTFT"], 99)) if len(ms["TTFT"]) else None,
            tpot_mean_ms=means["TPOT"],
            e2e_mean_ms=means["E2E"],
            hit_rate=float(own["hit_tokens"].sum()) / prompts if prompts and "hit_tokens" in own.columns else None,
        ),
        curves=curves,
    )


def _in_flight(own: object) -> tuple[list[float | None], list[float | None]]:
    """Seconds, and requests that had arrived and were not finished, on average over each bin from there on."""
    import polars as pl

    assert isinstance(own, pl.DataFrame)
    arrivals, ends = own["arrival_s"].to_numpy().astype(np.float64), own["finish_s"].to_numpy().astype(np.float64)
    edges = np.linspace(arrivals.min(), ends.max(), _BINS + 1)
    inside = np.array([np.clip(edge - arrivals, 0, ends - arrivals).sum() for edge in edges])
    width_s = np.diff(edges)
    found = np.divide(np.diff(inside), width_s, out=np.zeros(_BINS), where=width_s > 0)
    return short(edges[:-1]), short(found)
