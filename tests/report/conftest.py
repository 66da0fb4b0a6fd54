"""Results and reports built by hand, small enough to know every figure of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from reports import report_of

from kvsim.record.percentiles import distribution
from kvsim.record.result import COLUMNS, COMPONENTS, CacheUse, Check, RoleUse, SystemResult, TransferUse
from kvsim.record.summary import summarise
from kvsim.report.report import Report
from kvsim.report.run_clock import RunClock


def _roles(name: str, busy: dict[str, float], load: dict[str, float]) -> tuple[RoleUse, ...]:
    edges_s = np.arange(5) * 2.0
    sides = ("colocated",) if name == "unified" else ("prefill", "decode")
    return tuple(RoleUse(side, 4, 16, busy[side], 0.25, load[side], edges_s, np.full(5, busy[side])) for side in sides)


@pytest.fixture
def make_result() -> Callable[..., SystemResult]:
    """``make_result(name, parts_s, tpot_s)``: ten requests a second apart, eleven tokens each.

    ``parts_s`` maps components to seconds, a number for all or ten of them; ``tpot_s`` likewise. Further keywords
    replace fields of the result.
    """

    def make(name: str, parts_s: dict[str, Any], tpot_s: Any = 0.02, **fields: Any) -> SystemResult:
        count = 10
        table = {column: np.zeros(count) for column in COLUMNS}
        table["request_id"] = np.arange(count, dtype=float)
        table["arrival_s"] = np.arange(count, dtype=float)
        table["prompt_tokens"] += 2000
        table["hit_tokens"] += 1400
        table["computed_tokens"] += 600
        table["output_tokens"] += 11
        for component, seconds in parts_s.items():
            table[component] = table[component] + np.asarray(seconds, dtype=float)
        table["first_token_s"] = table["arrival_s"] + sum(table[component] for component in COMPONENTS)
        table["finish_s"] = table["first_token_s"] + 10 * np.broadcast_to(np.asarray(tpot_s, dtype=float), count)
        share = {"colocated": 0.6, "prefill": 0.5, "decode": 0.7}
        transfer = TransferUse(10, 4e9, 4e9, 0.75, 0.012, 0.03, 0.01, 2, 1e8)
        result = SystemResult(
            name=name,
            arrived=count,
            completed=count,
            failed=0,
            in_flight=0,
            table=table,
            measured=np.ones(count, dtype=bool),
            window_s=(0.0, 100.0),
            itl=distribution(np.full(100, 0.02)),
            roles=_roles(name, share, share),
            cache=CacheUse(20_000, 14_000, 321, 28_600, 3),
            transfer=transfer if name == "pd" else None,
            checks=(Check("requests in = out", 10.0, 10.0, True),),
            end_s=100.0,
            sim_cpu_s=0.5,
            events=70,
            steady=True,
            steady_why="400 requests, 2.0 x E2E x rate is 30",
            window_is_whole=False,
        )
        return dataclasses.replace(result, **fields)

    return make


@pytest.fixture
def make_report() -> Callable[..., Report]:
    """``make_report(*results)``; ``workload`` and ``cluster`` replace fields of these sections."""

    def make(*results: SystemResult, slo_ttft_s: float = 2.0, slo_tpot_s: float = 0.05, **sections: Any) -> Report:
        summaries = (summarise(r, slo_ttft_s=slo_ttft_s, slo_tpot_s=slo_tpot_s, gpus=64) for r in results)
        run = RunClock().section(mode="pd", preset="smoke", seed=42, results=results)
        return report_of(*summaries, run=run, **sections)

    return make
