"""Two cases, run again on the same requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kvsim.config import load_config
from kvsim.config.load import changed
from kvsim.difference.asked import AskedCase, pairs
from kvsim.difference.diff import DiffSpec, run_diff
from kvsim.difference.ground import ground_of
from kvsim.difference.keys import differing_keys
from kvsim.errors import ConfigError
from kvsim.modes.experiment import ExperimentSpec, Variant, pd_variants
from kvsim.plan.mode import CLUSTER, PD, SINGLE, Mode
from kvsim.record.plain import plain
from kvsim.report.json_report import json_text
from kvsim.sim.executor import Serial
from kvsim.workload.reading import Reading
from kvsim.workload.traffic import TraceSource

NIC = "cluster.network.p2p_rdma_gb_per_s"
SMALL = (
    "engine.tune_colocated_budget=false",
    "pd_experiments.num_requests=60",
    "pd_trace.qps=12",
    "engine.num_gpu_blocks_override=4000",
    "cluster.network.gpus_per_host=4",
)


def case(label: str = "case", systems: Sequence[str] = ("unified", "pd"), *sets: str, **asked: object) -> AskedCase:
    config = load_config(preset="smoke", sets=[*SMALL, *sets], mode="pd").config
    return AskedCase(label, ExperimentSpec(PD, pd_variants(config, systems), **asked))  # type: ignore[arg-type]


def tiered(mode: Mode, *names: str) -> AskedCase:
    config = load_config(preset="smoke", mode=mode.name).config
    return AskedCase("tiered", ExperimentSpec(mode, [Variant(name, "unified", config) for name in names]))


def test_a_case_with_itself_is_identical_and_says_so() -> None:
    answer = run_diff(DiffSpec(case(), case(), replications=2), Serial())
    assert answer.identical and answer.runs == 2 and not answer.keys
    for system in answer.systems:
        assert system.identical and {each.verdict for each in (*system.figures, *system.parts)} == {"same"}
        assert system.requests.differing == 0


def test_a_nic_of_half_the_bandwidth_shows_in_the_transfer_alone() -> None:
    answer = run_diff(DiffSpec(case("A", ["pd"]), case("B", ["pd"], f"{NIC}=25"), replications=6), Serial())
    (system,) = answer.systems
    assert [(each.key, each.a, each.b) for each in answer.keys] == [(NIC, 50.0, 25.0)]
    assert {each.figure: each.verdict for each in system.parts if each.moved} == {"transfer": "higher"}
    ttft = system.figure("ttft_mean_ms")
    assert ttft is not None and ttft.difference is not None
    parts = math.fsum(each.difference or 0.0 for each in system.parts)
    assert parts == pytest.approx(ttft.difference, rel=1e-9)
    first = system.requests.first
    assert first is not None and first.fact == "transfer_s" and "route" not in first.fact
    assert first.b is not None and first.a is not None and first.a < first.b <= 2 * first.a


def test_both_sides_serve_what_the_first_does() -> None:
    """Other traffic, another seed, another rate and another SLO on the second side change nothing, and are told of."""
    other = case(
        "B", ["pd"], "seed=7", "pd_trace.turns_per_session=2", "slo.ttft_ms=1", "pd_experiments.num_requests=9"
    )
    other = replace(other, spec=replace(other.spec, rate_per_s=99.0))
    answer = run_diff(DiffSpec(case("A", ["pd"]), other, replications=1), Serial())
    assert answer.identical and answer.requests == 60 and answer.keys
    assert not any(each.serves for each in answer.keys)


def test_the_first_run_is_that_of_the_case_and_further_ones_are_others() -> None:
    ground, (plan,), _ = ground_of(case(systems=["pd"]), 3, None, Serial())
    again, _, _ = ground_of(case(systems=["pd"]), 3, 5, Serial())
    first, *others = (ground.workload(run) for run in range(3))
    assert first is ground.served and {len(one) for one in others} == {60}
    assert len({float(one.arrival_s[-1]) for one in (first, *others)}) == 3
    assert again.served.arrival_s.tolist() == first.arrival_s.tolist()
    assert again.workload(1).arrival_s.tolist() != others[0].arrival_s.tolist()
    assert plan.num_prefill == 1


def test_the_same_seed_gives_the_same_bytes() -> None:
    def text(seed: int) -> str:
        spec = DiffSpec(case(systems=["pd"]), case("B", ["pd"], f"{NIC}=25"), None, 2, seed)
        return json_text(plain(run_diff(spec, Serial())))

    assert text(3) == text(3) != text(4)


def test_parts_of_a_trace_are_other_runs(tmp_path: Path) -> None:
    rows = "".join(f"{i}.5,{200 + i},3\n" for i in range(40))
    trace = tmp_path / "t.csv"
    trace.write_text(f"arrived_at,num_prefill_tokens,num_decode_tokens\n{rows}")
    asked = case("t", ["pd"], trace=TraceSource(trace, Reading(limit=30)))
    answer = run_diff(DiffSpec(asked, asked, replications=2), Serial())
    assert answer.identical and answer.requests == 30 and "part of the trace" in answer.notes[0]
    with pytest.raises(ConfigError, match=r"sha256 [0-9a-f]{12}\.\.\., the report is of one with 0123456789ab"):
        ground_of(replace(asked, sha256="0123456789abcdef"), 1, None, Serial())


def test_one_request_has_one_run(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,500,3\n")
    asked = case("t", ["pd"], trace=TraceSource(trace))
    slow = case("t", ["pd"], f"{NIC}=25", trace=TraceSource(trace))
    answer = run_diff(DiffSpec(asked, slow, replications=8), Serial())
    assert answer.runs == 1 and answer.notes[0] == "one run: a single request has no rate"
    (system,) = answer.systems
    transfer = next(each for each in system.parts if each.figure == "transfer")
    ttft = system.figure("ttft_mean_ms")
    assert ttft is not None and ttft.difference == pytest.approx(transfer.difference)
    assert (transfer.verdict, transfer.half_width) == ("open", None)


def test_who_is_compared_with_whom() -> None:
    both, pd, unified = case(), case("pd", ["pd"]), case("u", ["unified"])
    assert [side.names for side in pairs(both, both, None)] == [["unified", "pd"]] * 2
    assert [side.names for side in pairs(pd, unified, None)] == [["pd"], ["unified"]]
    assert [side.names for side in pairs(both, pd, None)] == [["pd"], ["pd"]]
    assert [side.names for side in pairs(both, both, ["pd"])] == [["pd"], ["pd"]]
    policies = tiered(SINGLE, "baseline", "arc")
    assert [side.names for side in pairs(policies, policies, None)] == [["baseline"], ["baseline"]]
    with pytest.raises(ConfigError, match="case is of mode pd, tiered of mode cluster; one mode is wanted"):
        pairs(both, tiered(CLUSTER, "eic on"), None)
    with pytest.raises(ConfigError, match="no system is in both"):
        pairs(policies, tiered(SINGLE, "lru", "fifo"), None)
    with pytest.raises(ConfigError, match="no system 'p'; did you mean 'pd'"):
        pairs(both, both, ["p"])


def test_settings_that_differ() -> None:
    config = load_config().config
    other = changed(config, {"engine.block_size": 32, "slo.ttft_ms": 5, "load.warm_caches": False}, "x")
    found = {each.key: (each.a, each.b, each.serves) for each in differing_keys(config, other)}
    assert found == {
        "engine.block_size": (16, 32, True),
        "load.warm_caches": (True, False, True),
        "slo.ttft_ms": (2000.0, 5.0, False),
    }
