"""The figures kvsim promises, measured: prints one line a row and, with ``--json OUT``, a machine-readable copy.

    python benchmarks/run.py [--json OUT] [--only ROW ...]

Every row runs in a process of its own, one after the other. Times are CPU times. Traces are read from ``$KVSIM_DATA``,
else from ``../shared/data`` beside the checkout; a row whose data is missing says so and counts as not met.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import rows


@dataclass(frozen=True)
class Row:
    """One promise: a figure, and which side of ``target`` it has to be on."""

    name: str
    target: float
    unit: str
    at_least: bool
    what: str

    def met(self, value: float) -> bool:
        return value >= self.target if self.at_least else value <= self.target


ROWS = (
    Row("pd_10240_gpus", 10_000, "requests/CPU-s", True, "PD, 10,240 GPUs, 70B TP4, Mooncake prefixes"),
    Row("cluster_10240_gpus", 6_000, "requests/CPU-s", True, "tiers and pools, 10,240 GPUs, 70B TP4, Mooncake"),
    Row("pd_102400_gpus", 0.8, "x", True, "requests/CPU-s of PD on 102,400 GPUs over 10,240 GPUs, in 4 GiB"),
    Row("pd_hour_s", 300.0, "CPU-s", False, "2,200,000 requests of the default traffic, PD on 10,240 GPUs"),
    Row("pd_10240_instances", 8_000, "requests/CPU-s", True, "PD, 10,240 instances, 8B, Mooncake prefixes"),
    Row("colocated_8", 8_000, "requests/CPU-s", True, "Azure conversation over 8 colocated 8B instances"),
    Row("colocated_1024", 6_000, "requests/CPU-s", True, "210,000 Azure requests over 1,024 70B TP4 instances"),
    Row("saturated_8", 3_000, "requests/CPU-s", True, "the 8 instances at 1.3 x their maximum rate"),
    Row("scale_ratio", 1.2, "x", False, "CPU per request, 10,240 GPUs over 64, equal load per GPU"),
    Row("output_ratio", 1.5, "x", False, "CPU per request, outputs x 10 over x 1"),
    Row("rss_1m_gib", 1.0, "GiB", False, "peak memory, 1,000,000 requests at 10,240 GPUs with CSV, both systems"),
    Row("sharegpt_300", 0.3, "CPU-s", False, "300 ShareGPT requests on one instance, coefficients as fitted"),
    Row("sharegpt_300_tables", 0.6, "CPU-s", False, "the same, step times from operator tables"),
    Row("workloads_s", 10.0, "CPU-s", False, "the slowest of: reading either shared trace, a million synthetic chats"),
    Row("help_s", 0.3, "CPU-s", False, "--help"),
    Row("smoke_s", 5.0, "CPU-s", False, "the slowest --preset smoke"),
)


def measure(row: Row) -> dict[str, Any]:
    """Run one row in a fresh process."""
    found: dict[str, Any] = {"value": None, "target": row.target, "unit": row.unit, "ok": False}
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            value, detail = pool.apply(rows.run, (row.name,))
        except Exception as error:  # a row that fails must not hide the others
            value, detail = None, f"{type(error).__name__}: {error}"
    if value is None:
        found["why"] = detail
    else:
        found |= {"value": value, "ok": row.met(value), "detail": detail}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the table there")
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS], help="these rows; the others say so")
    options = parser.parse_args()
    table = {}
    for row in ROWS:
        if options.only and row.name not in options.only:
            table[row.name] = {
                "value": None,
                "target": row.target,
                "unit": row.unit,
                "ok": False,
                "why": "left out by --only",
            }
            continue
        found = table[row.name] = measure(row)
        bound = ">=" if row.at_least else "<="
        value = "    -     " if found["value"] is None else f"{found['value']:10,.4g}"
        verdict = "ok " if found["ok"] else "NOT"
        print(f"{verdict} {row.name:20} {value} {bound} {row.target:8,g} {row.unit:14} {row.what}", flush=True)
        print(f"    {found.get('detail') or found.get('why')}", flush=True)
    if options.json:
        scratch = options.json.with_name(options.json.name + ".part")
        scratch.write_text(json.dumps(table, indent=2) + "\n")
        os.replace(scratch, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
