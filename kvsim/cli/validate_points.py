"""``validate points``: a table of measured operating points against what kvsim predicts for them."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvsim.cli.options import JsonOut
from kvsim.cli.validate_text import check_json, error, figure, wrapped, write_json

if TYPE_CHECKING:
    from kvsim.validate.compare_points import PointComparison, PointsSummary
    from kvsim.validate.operating_points import OperatingPoint

HEADINGS = (
    f"{'':>20}{'TTFT (ms)':>28}{'TPOT (ms)':>24}\n"
    f"{'in':>7}{'out':>6}{'users':>7}{'measured':>10}{'predicted':>10}{'error':>8}{'measured':>9}{'predicted':>10}{'error':>7}\n"
)


def validate_points(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Operating points: CSV, a row each.")],
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="As for a run; comes last.")] = None,
    json_out: JsonOut = None,
) -> int:
    """Predict mean TTFT and TPOT of closed loops, each with the shipped profile that comes nearest."""
    check_json(json_out, {"the table of points": file})
    from kvsim.validate.compare_points import compare_point, summary_of
    from kvsim.validate.operating_points import read_points
    from kvsim.validate.predict_point import ASSUMPTIONS

    points = read_points(file)
    sys.stdout.write(wrapped(f"assumed: {ASSUMPTIONS}"))
    engine = ""
    warned: set[str] = set()
    comparisons = []
    for point in points:
        found = compare_point(point, tuple(sets or ()))
        warning = found.prediction.profile.warning
        if warning is not None and warning not in warned:
            warned.add(warning)
            sys.stdout.write(wrapped(f"warning: {warning}"))
        if _engine(point) != engine:
            engine = _engine(point)
            sys.stdout.write(f"\n{engine}\n{HEADINGS}")
        sys.stdout.write(_line(found))
        comparisons.append(found)
    summary = summary_of(comparisons)
    sys.stdout.write(_summary(summary))
    entries = [found.dump() for found in comparisons]
    write_json(json_out, {"points": entries, "median_abs_error_pct": asdict(summary), "assumptions": ASSUMPTIONS})
    return 0


def _line(found: PointComparison) -> str:
    """``*``: predicted as saturated."""
    point, errors, ours, theirs = found.point, found.error_pct, found.predicted_ms, found.measured_ms
    lengths = f"{point.prompt_tokens:>7} {point.output_tokens:>5} {point.concurrency:>6}"
    ttft = f"{figure(theirs.ttft, 10)}{figure(ours.ttft, 10)}{error(errors.ttft, 8)}"
    tpot = f"{figure(theirs.tpot, 9)}{figure(ours.tpot, 10)}{error(errors.tpot, 7)}"
    return f"{lengths}{ttft}{tpot}{' *' if found.prediction.saturated else ''}\n"


def _engine(point: OperatingPoint) -> str:
    return f"{point.model} {point.weight_dtype} on {point.tensor_parallel} x {point.gpu}"


def _summary(summary: PointsSummary) -> str:
    words = [f"{key} {value:.1f}%" for key, value in asdict(summary).items() if value is not None]
    if not words:
        return "\nnothing was measured: no errors\n"
    return "\n" + wrapped(f"median absolute error of unsaturated points, and beyond: {', '.join(words)}; *: saturated")
