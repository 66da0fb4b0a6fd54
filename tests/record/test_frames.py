"""A run as polars frames: what they say is what the result and the report say."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from builders import Row, coefficients, colocated, plan, workload

from kvsim.errors import KvsimError
from kvsim.record import frames
from kvsim.record.frames import (
    instances_frame,
    loads_frame,
    requests_frame,
    steps_frame,
    timeline_frame,
    transfers_frame,
)
from kvsim.record.result import COMPONENTS, SystemResult
from kvsim.record.summary import summarise
from kvsim.sim.run import Case, run

TIMES = coefficients(w0_s=0.01, p1_s_per_token=1e-3, a_s_per_kv_token=1e-5)
ROWS = [Row(0.05 * i, 0, 4 + i % 5, ((0, 32), (-1 - i, 8 + i))) for i in range(30)]


@pytest.fixture(scope="module")
def results() -> dict[str, SystemResult]:
    found = plan(2, 2, times=TIMES, block_size=4, num_blocks=60)
    cases = {"unified": colocated(found), "pd": found}
    return {
        name: run(Case(name, name, own, workload(ROWS), 3, warmup_requests=5, keeps_detail=True)).system
        for name, own in cases.items()
    }


@pytest.mark.parametrize("name", ["unified", "pd"])
def test_requests(results: dict[str, SystemResult], name: str) -> None:
    result = results[name]
    frame = requests_frame(result)
    assert frame["request_id"].to_list() == list(range(len(ROWS)))
    assert frame["prompt_tokens"].to_list() == [40 + i for i in range(len(ROWS))]
    summary = summarise(result, slo_ttft_s=1.0, slo_tpot_s=1.0, gpus=4)
    measured = frame.filter("measured")
    assert len(measured) == len(ROWS) - 5
    assert measured["ttft_s"].mean() * 1e3 == pytest.approx(summary.ttft_ms.mean)
    assert measured["tpot_s"].mean() * 1e3 == pytest.approx(summary.tpot_ms.mean)
    parts = frame.select(pl.sum_horizontal(*COMPONENTS))[:, 0]
    np.testing.assert_allclose(parts, frame["ttft_s"])
    assert (frame["hit_tokens"] + frame["loaded_tokens"] + frame["computed_tokens"] == frame["prompt_tokens"]).all()


@pytest.mark.parametrize("name", ["unified", "pd"])
def test_scopes_of_the_timeline_agree(results: dict[str, SystemResult], name: str) -> None:
    result = results[name]
    frame = timeline_frame(result)
    assert set(frame["scope"]) == ({"all", "instance"} if name == "unified" else {"all", "role", "instance"})
    whole = frame.filter(scope="all")
    assert whole["output_tokens"].sum() == result.table["output_tokens"].sum()
    assert whole["query_tokens"].sum() == result.cache.query_tokens
    assert whole["hit_tokens"].sum() == result.cache.hit_tokens
    for own in ("running", "waiting", "output_tokens_per_s", "prefill_tokens_per_s"):
        by_instance = frame.filter(scope="instance").group_by("start_s").agg(pl.col(own).sum()).sort("start_s")
        np.testing.assert_allclose(by_instance[own], whole[own], atol=1e-9)
    width_s = whole["end_s"] - whole["start_s"]
    busy_s = (whole["busy"] * width_s).sum() * len(result.detail.instances)
    assert busy_s == pytest.approx((steps_frame(result)["end_s"] - steps_frame(result)["start_s"]).sum())
    assert frame["kv_usage"].min() >= 0 and frame["kv_usage"].max() <= 1


@pytest.mark.parametrize("name", ["unified", "pd"])
def test_instances(results: dict[str, SystemResult], name: str) -> None:
    result = results[name]
    frame = instances_frame(result)
    by_role = frame.group_by("role", maintain_order=True).agg(pl.col("requests", "output_tokens").sum())
    assert by_role["requests"].to_list() == [len(ROWS)] * len(by_role)
    assert frame["output_tokens"].sum() == result.table["output_tokens"].sum()
    assert frame["hit_tokens"].sum() / frame["query_tokens"].sum() == pytest.approx(
        result.cache.hit_tokens / result.cache.query_tokens
    )
    assert frame["preemptions"].sum() == result.cache.preemptions
    for role in result.roles:
        own = frame.filter(role=role.role)
        assert len(own) == role.instances
        assert own["busy"].mean() == pytest.approx((role.timeline_busy * _widths_s(role, result)).sum() / result.end_s)
    assert (frame["kv_usage"] <= frame["kv_usage_peak"]).all() and (frame["kv_usage_peak"] <= 1).all()


def _widths_s(role, result: SystemResult) -> np.ndarray:
    return np.diff(np.append(role.timeline_s, result.end_s))


def test_transfers(results: dict[str, SystemResult]) -> None:
    frame = transfers_frame(results["pd"])
    assert frame["bytes"].sum() == pytest.approx(results["pd"].table["transferred_bytes"].sum())
    assert set(frame["source_role"]) == {"prefill"} and set(frame["target_role"]) == {"decode"}
    assert len(transfers_frame(results["unified"])) == len(loads_frame(results["unified"])) == 0


def test_a_run_that_kept_nothing_has_its_requests(results: dict[str, SystemResult]) -> None:
    bare = replace(results["pd"], detail=None)
    assert requests_frame(bare).equals(requests_frame(results["pd"]))
    with pytest.raises(KvsimError, match="'pd' kept its requests alone"):
        steps_frame(bare)


@pytest.mark.parametrize("name", ["requests", "steps", "timeline", "instances", "transfers", "loads"])
def test_every_column_is_documented(results: dict[str, SystemResult], name: str) -> None:
    make = getattr(frames, f"{name}_frame")
    documented = set(re.findall(r"\w+", " ".join(re.findall(r"``(.+?)``", make.__doc__, re.DOTALL))))
    assert set(make(results["pd"]).columns) <= documented
