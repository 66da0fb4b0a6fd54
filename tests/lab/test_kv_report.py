"""What a run's report says: tables by hand, hits against the audit, files, what cannot be told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kv_trials import trials

from kvsim._version import __version__
from kvsim.failures import Failures
from kvsim.lab.kv.analysis.analysis import analyse
from kvsim.lab.kv.analysis.report import write_report
from kvsim.lab.kv.trial import PhaseRow, Trials

FILES = ["figure.png", "intervals.md", "key-results.md", "lab-result.json", "summary.csv"]


def changed(found: Trials, change: Mapping[tuple[int, str], Mapping[str, Any]]) -> Trials:
    """Phase rows with other fields by point and phase."""

    def one(row: PhaseRow) -> PhaseRow:
        return replace(row, **change.get((row.point, row.phase), {}))

    return replace(found, phases=tuple(one(row) for row in found.phases))


def along(key: str, values: list[float], **more: Any) -> Trials:
    return trials(points=[{key: value} for value in values], vary={key: values}, **more)


@pytest.mark.parametrize(
    "found",
    [
        trials(repeats=range(3)),
        trials(0.0, repeats=range(2), compare="itself"),
        trials(repeats=[0], compare="nothing"),
        along("requests", [4, 8], repeats=range(2)),
        trials(points=[{"max_num_seqs": 1, "block_size": 16}], vary={"max_num_seqs": [1], "block_size": [16]}),
    ],
    ids=["plain", "alike", "nothing", "curve", "two keys"],
)
def test_every_design_has_its_files(found: Trials, tmp_path: Path) -> None:
    failures = Failures()
    said = write_report(tmp_path, found, failures, plots=True)
    assert failures.found == [] and said
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    told = json.loads((tmp_path / "lab-result.json").read_text())
    assert (told["kv_lab"], told["backend"], told["version"]) == ("drawn", "simulated", __version__)
    assert told["conclusion"] == said.split("\n")
    lines = (tmp_path / "summary.csv").read_text().splitlines()
    assert len(lines) - 1 == len({(row.point, row.phase) for row in found.phases})
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    write_report(tmp_path, replace(found, phases=found.phases[::-1]), failures, plots=False)
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == before


def test_a_run_that_never_started_is_told(tmp_path: Path) -> None:
    gone = {"started": False, "completed": 0, "ttft_mean_ms": None, "e2e_mean_ms": None, "failure": "no memory"}
    found = changed(trials(repeats=range(2)), {(0, "cold"): gone, (0, "cache"): gone})
    failures = Failures()
    said = write_report(tmp_path, replace(found, requests=()), failures, plots=False)
    assert failures.found == []
    assert "cold: the server came up in 0 of 2 repeats" in said
    assert "mean TTFT, cache less cold: cannot be told, no repeat has it in both phases" in said


def test_hits_are_equal_to_the_audit_or_by_how_much_not() -> None:
    good = list(analyse(trials(repeats=range(2))).conclusion())
    assert any("hits are exactly the audit's in 4 of 4 phases" in line for line in good)
    less = changed(trials(repeats=range(2)), {(0, "cache"): {"cached_tokens": 250, "prefix_hits": None}})
    said = list(analyse(less).key_results())
    # Two repeats of four requests with 64 tokens each.
    assert any("hits as answers tell in 2 repeats: 500 tokens, -12 against the audit's 512" in line for line in said)
    unknown = changed(trials(), {(0, phase): {"expected_hit_tokens": None} for phase in ("cold", "cache")})
    assert any("hits cannot be held against the audit" in line for line in analyse(unknown).conclusion())


def test_hits_that_only_agree_in_sum_are_not_equal() -> None:
    found = trials(repeats=range(2))
    off = {0: 250, 1: 262}
    rows = [replace(row, cached_tokens=off[row.repeat]) if row.phase == "cache" else row for row in found.phases]
    said = list(analyse(replace(found, phases=tuple(rows))).conclusion())
    assert any("in sum the audit's, and not in each phase: see repeat 0 and 1" in line for line in said)
    assert any("in 2 of 4 phases" in line for line in said)


def test_a_phase_without_counters_is_not_held_against_the_audit() -> None:
    found = changed(trials(), {(0, "cache"): {"prefix_hits": 1.0, "counters": "none"}})
    assert any("in 10 of 10 phases" in line for line in analyse(found).conclusion())


def test_the_memory_curve_bends_where_hits_rise_most() -> None:
    found = along("gpu_memory_utilization", [0.8, 0.5, 0.6, 0.7])
    hits = {0: 64 * 4, 1: 0, 2: 20, 3: 64 * 4}
    found = changed(found, {(point, "cache"): {"cached_tokens": tokens} for point, tokens in hits.items()})
    (line,) = [one for one in analyse(found).conclusion() if one.startswith("cache: over gpu_memory")]
    assert "rises most from 0.6 to 0.7, 5.0% to 64%" in line and "is reached within a point at 0.7" in line
    flat = [one for one in analyse(found).conclusion() if one.startswith("cold: over gpu_memory")]
    assert flat == [
        "cold: over gpu_memory_utilization the share of prompt tokens hit rises nowhere; it is 0% at the most"
    ]


def test_the_bound_lies_between_what_failed_and_what_started() -> None:
    gone = {"started": False, "failure": "No available memory"}
    found = along("gpu_memory_utilization", [0.3, 0.4, 0.5], compare="nothing", repeats=range(2))
    below = analyse(changed(found, {(0, "run"): gone, (1, "run"): gone}))
    assert (below.bounds[0].largest_failed, below.bounds[0].smallest_started) == (0.4, 0.5)
    said = list(below.conclusion())
    assert any("the server starts with 0.5 and not with 0.4 (No available memory)" in line for line in said)
    odd = analyse(changed(found, {(2, "run"): gone}))
    assert any("no bound can be given" in line for line in odd.conclusion())
    none = analyse(changed(found, {(point, "run"): gone for point in range(3)}))
    assert any("started with no value tried, up to 0.5" in line for line in none.conclusion())
    assert analyse(found).bounds == []


def test_room_for_what_is_in_flight_at_once() -> None:
    """Four requests of 105 tokens a second apart, which take less, or all of which overlap."""
    apart = analyse(trials(repeats=[0])).capacity[1]
    assert (apart.phase, apart.needed_tokens, apart.kv_tokens) == ("cache", 105, 1000)
    found = trials(repeats=[0])
    together = replace(found, requests=tuple(replace(row, sent_s=0.0, finish_s=5.0) for row in found.requests))
    tight = analyse(changed(together, {(0, "cache"): {"kv_tokens": 400, "preemptions": 2}}))
    assert tight.capacity[1].needed_tokens == 420
    assert any("only as far as they share; 2 preemptions" in line for line in tight.key_results())


def test_whether_the_effect_grows_with_requests() -> None:
    found = along("requests", [4, 8], noise=0.01)
    slower = replace(
        found,
        phases=tuple(
            replace(row, ttft_mean_ms=row.ttft_mean_ms + 15)
            if row.point == 1 and row.phase == "cold" and row.ttft_mean_ms
            else row
            for row in found.phases
        ),
    )
    one = next(each for each in analyse(slower).growth if each.metric == "ttft_mean_ms")
    assert (one.fewest, one.most, one.pairs) == (4, 8, 5) and one.difference == pytest.approx(-15, abs=1)
    assert any("the effect grows in size" in line for line in analyse(slower).conclusion())
    assert any("by the number of requests" in line and "not told apart" in line for line in analyse(found).conclusion())


def test_limits_of_a_batch_are_told_by_their_means() -> None:
    found = along("max_num_seqs", [4, 8], repeats=range(2))
    found = changed(found, {(1, "cache"): {"output_tokens_per_s": 99.0, "ttft_mean_ms": 12.0}})
    said = list(analyse(found).conclusion())
    assert any("cache: most output tokens/s at max_num_seqs 8: 99.0, a mean without an interval" in one for one in said)
    assert any("cache: lowest mean TTFT at max_num_seqs 8: 12.0 ms" in one for one in said)


def test_requests_that_failed_are_told() -> None:
    found = changed(trials(repeats=range(2)), {(0, "cache"): {"completed": 3}})
    assert any("cache: 6 of 8 requests completed" in line for line in analyse(found).conclusion())
