"""What studies measure of a run."""

from __future__ import annotations

import math

import numpy as np

from kvsim.capacity.demand import asked_per_s, demand_of
from kvsim.capacity.gathered import facts_of
from kvsim.capacity.maximum_rates import maximum_rate
from kvsim.capacity.pilot import measured_rows
from kvsim.errors import CapacityError
from kvsim.plan.plan import Plan
from kvsim.record.percentiles import percentiles
from kvsim.record.result import SystemResult
from kvsim.record.summary import rows_of, tpot_s
from kvsim.study.replication import Figures
from kvsim.units import MILLI
from kvsim.workload.workload import Workload

LOAD = "load"


def check_measured(result: SystemResult, what: str) -> None:
    """Raises ``CapacityError`` where no request counts, so that there is nothing to take a percentile of."""
    if not result.measured.any():
        failed = f"{result.misfits:,} of {result.arrived:,} do not fit"
        raise CapacityError(f"{what} completes no request that counts; {failed}{lost(result)}")


def lost(result: SystemResult) -> str:
    """A clause on requests that a fleet lost, where it did."""
    if result.fleet is None or not result.fleet.failed:
        return ""
    return f", {result.fleet.failed:,} were given up or had no instance left"


def own_load(plan: Plan, workload: Workload, result: SystemResult) -> Figures:
    """``LOAD``: what arrived over the maximum rate of this system, with the hits of this very run.

    A study's runs are offered the rate of the run that it belongs to. What share of their maximum that is depends on
    their instances and, on a trace, their part of it.
    """
    demand = demand_of(workload, plan, facts_of(workload, result, measured_rows(result), plan))
    return {LOAD: asked_per_s(workload, result) / maximum_rate(plan, demand, result.name)}


def throughput_per_s(result: SystemResult) -> float:
    """Completions inside the measured window, requests/s."""
    (start_s, end_s), finish_s = result.window_s, result.table["finish_s"]
    return float(((finish_s > start_s) & (finish_s <= end_s)).sum()) / (end_s - start_s)


def latencies(result: SystemResult) -> dict[str, float]:
    """Mean and p99 of TTFT and of the requests' mean TPOT, of the requests that count, in ms.

    TPOT is that of ``kvsim.record.summary``: an answer of one token has none, and nan stands where all are such.
    """
    check_measured(result, result.name)
    ttft, tpot = ttft_ms(result), tpot_ms(result)
    return {
        "ttft_mean_ms": float(ttft.mean()),
        "ttft_p99_ms": float(np.percentile(ttft, 99)),
        "tpot_mean_ms": float(tpot.mean()) if tpot.size else math.nan,
        "tpot_p99_ms": float(percentiles(tpot, 99)),
    }


def tpot_ms(result: SystemResult) -> np.ndarray:
    """TPOT of the requests that count and have more than one token."""
    values = tpot_s(rows_of(result, result.measured))
    found: np.ndarray = values[~np.isnan(values)] / MILLI
    return found


def ttft_ms(result: SystemResult) -> np.ndarray:
    """TTFT of the requests that count."""
    rows = result.measured
    values: np.ndarray = (result.table["first_token_s"] - result.table["arrival_s"])[rows] * 1000
    return values
