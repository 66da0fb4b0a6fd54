"""``validate points``: a table of measured operating points against what kvsim predicts for them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvsim.cli.options import JsonOut

if TYPE_CHECKING:
    from kvsim.measured.closed_loop import PointPrediction
    from kvsim.measured.points import OperatingPoint


def validate_points(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Operating points: CSV, a row each.")],
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="As for a run; comes last.")] = None,
    json_out: JsonOut = None,
) -> int:
    """Predict mean TTFT and TPOT of closed loops, each with the shipped profile that comes nearest."""
    if json_out is not None:
        from kvsim.cli.outputs import check_file

        check_file("--json", json_out, {"the table of points": file})
    from kvsim.measured.closed_loop import ASSUMPTIONS, predict_point
    from kvsim.measured.points import read_points

    points = read_points(file)
    sys.stdout.write(f"assumed: {ASSUMPTIONS}\n")
    warned: set[str] = set()
    entries = []
    for point in points:
        prediction = predict_point(point, tuple(sets or ()))
        entry = _entry(point, prediction)
        warning = prediction.chosen.warning
        if warning is not None and warning not in warned:
            warned.add(warning)
            sys.stdout.write(f"warning: {warning}\n")
        sys.stdout.write(_line(point, entry))
        entries.append(entry)
    summary = _medians(entries)
    sys.stdout.write(_summary(summary))
    if json_out is not None:
        from kvsim.report.json_report import write_json

        write_json(json_out, {"points": entries, "median_abs_error_pct": summary, "assumptions": ASSUMPTIONS})
    return 0


def _entry(point: OperatingPoint, prediction: PointPrediction) -> dict[str, Any]:
    from dataclasses import asdict

    from kvsim.measured.errors import percent
    from kvsim.units import MILLI

    return {
        **{key: value for key, value in asdict(point).items() if key not in ("ttft_s", "tpot_s")},
        "saturated": prediction.saturated,
        "measured_saturated": point.saturated,
        "predicted": {"ttft_ms": prediction.ttft_s / MILLI, "tpot_ms": prediction.tpot_s / MILLI},
        "measured": {
            "ttft_ms": None if point.ttft_s is None else point.ttft_s / MILLI,
            "tpot_ms": None if point.tpot_s is None else point.tpot_s / MILLI,
        },
        "error_pct": {
            "ttft": None if point.ttft_s is None else percent(prediction.ttft_s, point.ttft_s),
            "tpot": None if point.tpot_s is None else percent(prediction.tpot_s, point.tpot_s),
        },
        "profile": prediction.chosen.profile,
        "warning": prediction.chosen.warning,
        "requests_per_s": prediction.requests_per_s,
        "kv_blocks": prediction.kv_blocks,
    }


def _line(point: OperatingPoint, entry: dict[str, Any]) -> str:
    errors, predicted = entry["error_pct"], entry["predicted"]
    shown = ", ".join(
        f"{name.upper()} {predicted[f'{name}_ms']:,.1f} ms"
        + ("" if errors[name] is None else f" ({errors[name]:+.1f}%)")
        for name in ("ttft", "tpot")
    )
    what = f"{point.model} {point.weight_dtype} x{point.tensor_parallel}"
    lengths = f"{point.prompt_tokens:>5} in {point.output_tokens:>5} out {point.concurrency:>4} users"
    return f"{what:<32}{lengths}  {shown}{', saturated' if entry['saturated'] else ''}\n"


def _medians(entries: list[dict[str, Any]]) -> dict[str, float | None]:
    """Median absolute errors: of points that were measured unsaturated, and of TPOT in saturated ones."""
    import numpy as np

    def median(metric: str, saturated: bool) -> float | None:
        found = [
            abs(entry["error_pct"][metric])
            for entry in entries
            if entry["error_pct"][metric] is not None and bool(entry["measured_saturated"]) == saturated
        ]
        return float(np.median(found)) if found else None

    agreeing = [entry["saturated"] == entry["measured_saturated"] for entry in entries]
    return {
        "ttft": median("ttft", False),
        "tpot": median("tpot", False),
        "tpot_saturated": median("tpot", True),
        "saturation_recognised_pct": 100.0 * sum(agreeing) / len(agreeing),
    }


def _summary(summary: dict[str, float | None]) -> str:
    words = [f"{key} {value:.1f}%" for key, value in summary.items() if value is not None]
    return f"median absolute error of unsaturated points, and beyond: {', '.join(words)}\n"
