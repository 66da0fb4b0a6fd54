"""What a run of the command line may end with, and nothing else."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conclusion_checker import check_conclusion

DONE, REFUSED = "done", "refused"


def verdict(code: int, err: str, report: Path, table: Path) -> tuple[str, list[str]]:
    """``DONE`` or ``REFUSED``, and what is wrong with that, if anything.

    A run ends with its report, in which the laws hold, or with one line on stderr and exit code 2.
    """
    faults = [f"stderr has {word!r}" for word in ("Traceback", "Warning:", "a defect of kvsim") if word in err]
    if code == 2:
        lines = [line for line in err.splitlines() if line.startswith("kvsim: error: ")]
        if len(lines) != 1:
            faults.append(f"{len(lines)} lines of error")
        if report.exists():
            faults.append("refused, and a report is there")
        return REFUSED, faults
    if code != 0:
        return DONE, [*faults, f"exit code {code}"]
    if not report.exists():
        return DONE, [*faults, "no report"]
    return DONE, [*faults, *faults_of(json.loads(report.read_text()), table)]


def faults_of(report: Mapping[str, Any], table: Path) -> list[str]:
    """What a report says that cannot be."""
    faults = [
        f"failed: {failure['part']}: {failure['why']}"
        for failure in report["run"].get("failures", ())
        if failure["is_defect"]
    ]
    if not report["results"]:
        return [*faults, "no results"]
    requests = report["workload"]["requests"]
    for result in report["results"]:
        name, counts = result["name"], result["requests"]
        if not result["conservation"]["ok"]:
            faults.append(f"{name}: {[check['name'] for check in result['conservation']['checks'] if not check['ok']]}")
        if counts["arrived"] != requests or counts["completed"] + counts["failed"] + counts["in_flight"] != requests:
            faults.append(f"{name}: of {requests} requests {counts}")
        parts, ttft = result["attribution_ms"]["mean"], result["ttft_ms"]["mean"]
        if ttft is not None and not math.isclose(sum(parts.values()), ttft, rel_tol=1e-6, abs_tol=1e-6):
            faults.append(f"{name}: parts of TTFT make {sum(parts.values())}, TTFT is {ttft}")
    if table.exists():
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        completed = sum(result["requests"]["completed"] for result in report["results"])
        if len(rows) != completed:
            faults.append(f"{len(rows)} rows of CSV, {completed} requests completed")
        faults += check_conclusion(report, rows)
    return faults
