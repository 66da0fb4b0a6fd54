"""``validate points``: a table of measured operating points against what kvsim predicts for them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvsim.cli.options import JsonOut
from kvsim.cli.validate_text import error, figure, wrapped
from kvsim.units import MILLI

if TYPE_CHECKING:
    from kvsim.validate.closed_loop import PointPrediction
    from kvsim.validate.points import OperatingPoint


def validate_points(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Operating points: CSV, a row each.")],
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="As for a run; comes last.")] = None,
    json_out: JsonOut = None,
) -> int:
    """Predict mean TTFT and TPOT of closed loops, each with the shipped profile that comes nearest."""
    if json_out is not None:
        from kvsim.cli.outputs import check_file

        check_file("--json", json_out, {"the table of points": file}, "JSON")
    from kvsim.validate.closed_loop import ASSUMPTIONS, predict_point
    from kvsim.validate.points import read_points

    points = read_points(file)
    sys.stdout.write(wrapped(f"assumed: {ASSUMPTIONS}"))
    engine = ""
    warned: set[str] = set()
    entries = []
    for point in points:
        prediction = predict_point(point, tuple(sets or ()))
        entry = _entry(point, prediction)
        warning = prediction.chosen.warning
        if warning is not None and warning not in warned:
            warned.add(warning)
            sys.stdout.write(wrapped(f"warning: {warning}"))
        if _engine(point) != engine:
            engine = _engine(point)
            sys.stdout.write(f"\n{engine}\n{HEADINGS}")
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

    return {
        **{key: value for key, value in asdict(point).items() if key not in ("ttft_s", "tpot_s")},
        "saturated": prediction.saturated,
        "measured_saturated": point.saturated,
        "predicted": {"ttft_ms": _ms(prediction.ttft_s), "tpot_ms": _ms(prediction.tpot_s)},
        "measured": {"ttft_ms": _ms(point.ttft_s), "tpot_ms": _ms(point.tpot_s)},
        "error_pct": {
            "ttft": _error(prediction.ttft_s, point.ttft_s),
            "tpot": _error(prediction.tpot_s, point.tpot_s),
        },
        "profile": prediction.chosen.profile,
        "warning": prediction.chosen.warning,
        "requests_per_s": prediction.requests_per_s,
        "kv_blocks": prediction.kv_blocks,
    }


def _ms(value_s: float | None) -> float | None:
    return None if value_s is None else value_s / MILLI


def _error(ours: float | None, theirs: float | None) -> float | None:
    from kvsim.validate.errors import percent

    return None if ours is None or theirs is None else percent(ours, theirs)


HEADINGS = (
    f"{'':>20}{'TTFT (ms)':>28}{'TPOT (ms)':>24}\n"
    f"{'in':>7}{'out':>6}{'users':>7}{'measured':>10}{'predicted':>10}{'error':>8}{'measured':>9}{'predicted':>10}{'error':>7}\n"
)


def _line(point: OperatingPoint, entry: dict[str, Any]) -> str:
    """``*``: predicted as saturated."""
    errors, ours, theirs = entry["error_pct"], entry["predicted"], entry["measured"]
    lengths = f"{point.prompt_tokens:>7}{point.output_tokens:>6}{point.concurrency:>7}"
    ttft = f"{figure(theirs['ttft_ms'], 10)}{figure(ours['ttft_ms'], 10)}{error(errors['ttft'], 8)}"
    tpot = f"{figure(theirs['tpot_ms'], 9)}{figure(ours['tpot_ms'], 10)}{error(errors['tpot'], 7)}"
    return f"{lengths}{ttft}{tpot}{' *' if entry['saturated'] else ''}\n"


def _engine(point: OperatingPoint) -> str:
    return f"{point.model} {point.weight_dtype} on {point.tensor_parallel} x {point.gpu}"


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

    known = [entry for entry in entries if entry["measured_saturated"] is not None]
    agreeing = [entry["saturated"] == entry["measured_saturated"] for entry in known]
    return {
        "ttft": median("ttft", False),
        "tpot": median("tpot", False),
        "tpot_saturated": median("tpot", True),
        "saturation_recognised_pct": 100.0 * sum(agreeing) / len(agreeing) if agreeing else None,
    }


def _summary(summary: dict[str, float | None]) -> str:
    words = [f"{key} {value:.1f}%" for key, value in summary.items() if value is not None]
    if not words:
        return "\nnothing was measured: no errors\n"
    return "\n" + wrapped(f"median absolute error of unsaturated points, and beyond: {', '.join(words)}; *: saturated")
