"""CSV files of clients, made into what their JSON would be: AIPerf's and GenAI-Perf's summary, GuideLLM's report."""

from __future__ import annotations

import json
import re
from typing import Any

from kvsim.errors import ConfigError

_GUIDELLM = {
    ("Request Latency", "Successful Sec"): "request_latency",
    ("Time to First Token", "Successful ms"): "time_to_first_token_ms",
    ("Inter Token Latency", "Successful ms"): "inter_token_latency_ms",
    ("Token Metrics", "Successful Input Tokens"): "prompt_token_count",
    ("Token Metrics", "Successful Output Tokens"): "output_token_count",
    ("Server Throughput", "Successful Requests/Sec"): "requests_per_second",
    ("Token Throughput", "Successful Output Tokens/Sec"): "output_tokens_per_second",
}
_PERCENTILES = ("p001", "p01", "p05", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "p999")


def is_metrics(rows: list[list[str]]) -> bool:
    """AIPerf's or GenAI-Perf's: a metric a row."""
    return bool(rows) and rows[0][:4] == ["Metric", "avg", "min", "max"]


def is_genai_perf(rows: list[list[str]]) -> bool:
    """Which of the two: GenAI-Perf's percentiles fall."""
    return rows[0][4:5] == ["p99"]


def metrics_of(rows: list[list[str]]) -> dict[str, Any]:
    """By name as the JSON has it: ``Time to First Token (ms)`` is ``time_to_first_token``, in ms."""
    found: dict[str, Any] = {}
    header: list[str] = []
    for row in rows:
        if row[:1] == ["Metric"]:
            header = ["", *("avg" if name == "Value" else name for name in row[1:])]
        elif len(row) > 1 and header and (parts := re.fullmatch(r"(.*?)(?: \(([^()]*)\))?", row[0].strip())):
            cells = zip(header[1:], row[1:], strict=False)
            name = re.sub(r"[^a-z0-9]+", "_", parts[1].lower()).strip("_")
            found[name] = {"unit": parts[2]} | {key: _number(cell) for key, cell in cells if cell.strip()}
    return found


def is_guidellm(rows: list[list[str]]) -> bool:
    return len(rows) > 3 and rows[0][:1] == ["Run Info"] and "Request Counts" in rows[0]


def benchmarks_of(file: str, rows: list[list[str]]) -> list[dict[str, Any]]:
    """A row a benchmark, under headings of three rows. Raises ``ConfigError``."""
    padded = (row + [""] * (len(rows[0]) - len(row)) for row in rows[:3])
    heads = [(group, field, unit) for group, field, unit in zip(*padded, strict=False)]
    return [_benchmark(file, number, heads, row) for number, row in enumerate(rows[3:], 4) if any(row)]


def _benchmark(file: str, number: int, heads: list[tuple[str, str, str]], row: list[str]) -> dict[str, Any]:
    metrics: dict[str, Any] = {"request_totals": {}}
    cells: dict[tuple[str, str], str] = {}
    for head, cell in zip(heads, row, strict=False):
        place = head[0], head[1]
        metric = _GUIDELLM.get(place)
        if head[0] == "Request Counts":
            metrics["request_totals"][head[1].lower()] = _number(cell)
        elif metric and head[2] == "Mean":
            metrics.setdefault(metric, {"successful": {}})["successful"]["mean"] = _number(cell)
        elif metric and head[2] == "Percentiles":
            values = dict(zip(_PERCENTILES, _list(cell), strict=False))
            metrics.setdefault(metric, {"successful": {}})["successful"]["percentiles"] = values
        elif not metric:
            cells.setdefault(place, cell)
    return {"metrics": metrics, "config": {"strategy": _strategy(f"{file}: row {number}", cells)}}


def _strategy(where: str, cells: dict[tuple[str, str], str]) -> dict[str, Any]:
    """``constant`` of a profile's rates, the one whose turn it was; since 0.8 ``constant@10.00``."""
    kind, _, value = cells.get(("Benchmark", "Strategy"), "").partition("@")
    try:
        profile = json.loads(cells.get(("Run Info", "Profile"), ""))
        turn = int(cells.get(("Run Info", "Run Index"), "0"))
    except (ValueError, RecursionError):
        raise ConfigError(f"{where}: Profile and Run Index must be a mapping in JSON and a number") from None
    key = "streams" if kind == "concurrent" else "rate"
    values = profile.get(key) if isinstance(profile, dict) else None
    if not value and isinstance(values, list) and 0 <= turn < len(values):
        values = values[turn]
    found = _number(value) if value else None if isinstance(values, list) else values
    ramp = profile.get("rampup_duration") if isinstance(profile, dict) else None
    whole = int(found) if key == "streams" and isinstance(found, float) and found.is_integer() else found
    return {"type_": kind, key: whole, "rampup_duration": ramp}


def _number(cell: str) -> float | str:
    """What is no number stays a word, and is refused by who asks for it."""
    try:
        return float(cell.replace(",", ""))
    except ValueError:
        return cell


def _list(cell: str) -> list[Any]:
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []
