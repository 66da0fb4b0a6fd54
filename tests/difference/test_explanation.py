"""What TTFT consists of, who makes its tail, and what causes do to each other."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import Row, coefficients, plan, workload
from test_diff_cases import case

from kvsim.difference.explain import ExplainAnswer, ExplainSpec, Interplay, run_explain
from kvsim.difference.explain_words import overlap_words
from kvsim.difference.tail import bands, tail_of
from kvsim.errors import ConfigError
from kvsim.record.plain import plain
from kvsim.record.result import COMPONENTS, SystemResult
from kvsim.report.json_report import json_text
from kvsim.sim.executor import Serial, whole
from kvsim.sim.run import Case

SPEC = ExplainSpec(case("case", ["pd"]), replications=2, seed=3)


@pytest.fixture(scope="module")
def answer() -> ExplainAnswer:
    return run_explain(SPEC, Serial())


def test_every_cause_is_told_and_together_they_leave_nothing_of_their_parts(answer: ExplainAnswer) -> None:
    assert [each.name for each in answer.removals] == ["link", "queue", "interference", "hits"]
    assert not any(each.impossible for each in answer.removals)
    for band in answer.waterfall:
        assert math.fsum(band.parts_ms.values()) == pytest.approx(band.ttft_ms)
    for removal in (*answer.removals, answer.together):
        parts = math.fsum(each.difference or 0.0 for each in removal.parts)
        assert parts == pytest.approx(removal.ttft[0].difference, abs=1e-9)
    gone = {each.name: {part.figure: part.b for part in each.parts} for each in (*answer.removals, answer.together)}
    assert gone["link"]["transfer"] == pytest.approx(0, abs=1e-6)
    for name in ("queue", "all"):
        for part in ("queue", "decode_wait", "interference"):
            assert gone[name][part] == pytest.approx(0, abs=1e-9)
    assert gone["all"]["transfer"] == pytest.approx(0, abs=1e-6)
    hits = {each.name: each.hit_rate for each in answer.removals}
    assert hits["hits"] is not None and hits["hits"].b is not None and hits["hits"].b > 0.97
    assert hits["queue"] is not None and hits["queue"].difference == pytest.approx(0)
    for each in answer.interplay:
        assert each.difference == pytest.approx(each.together - each.alone_sum)
    mean = answer.interplay[0]
    alone = math.fsum(each.ttft[0].difference or 0.0 for each in answer.removals)
    assert (mean.alone_sum, mean.together) == pytest.approx((alone, answer.together.ttft[0].difference))


def test_what_a_unified_system_has_none_of() -> None:
    answer = run_explain(ExplainSpec(case(), "unified", replications=1), Serial())
    link, *others = answer.removals
    assert link.impossible == "nothing moves over links" and not link.ttft
    assert all(each.ttft for each in others) and answer.system == "unified"
    with pytest.raises(ConfigError, match="no system 'unifed'; did you mean 'unified'"):
        run_explain(ExplainSpec(case(), "unifed"), Serial())


def test_the_same_seed_gives_the_same_explanation(answer: ExplainAnswer) -> None:
    assert json_text(plain(run_explain(SPEC, Serial()))) == json_text(plain(answer))


def served(count: int = 60) -> SystemResult:
    made = plan(2, 1, times=coefficients(p1_s_per_token=0.01), block_size=4, num_blocks=500)
    requests = workload([Row(float(i), 8, 2) for i in range(count)])
    (found,) = whole(Serial().run([Case("pd", "pd", made, requests, 1)]))
    return found


def with_tail(result: SystemResult, slow: list[int], **facts: float) -> SystemResult:
    """``result`` in which some requests waited ten seconds longer, and have other facts."""
    rows = np.isin(result.table["request_id"], slow)
    table = {name: column.copy() for name, column in result.table.items()}
    for name in ("first_token_s", "finish_s", "queue_s"):
        table[name][rows] += 10.0 + table["request_id"][rows] / 1000
    for name, value in facts.items():
        table[name][rows] = value
    return replace(result, table=table)


def test_the_tail_is_those_that_wait_longest() -> None:
    slow = list(range(20, 30))
    found = tail_of(with_tail(served(), slow, prompt_tokens=4000.0), 3)
    assert found is not None and (found.requests, found.of_requests) == (10, 60)
    assert [each.request_id for each in found.rows] == [29, 28, 27]
    assert {each.part for each in found.rows} == {"queue"} and found.rows[0].part_ms == pytest.approx(10_029.0)
    traits = {each.name: each for each in found.traits}
    assert traits["prompt tokens"].is_common and traits["prompt tokens"].chance == 1.0
    assert (traits["prompt tokens"].tail, traits["prompt tokens"].others) == (4000.0, 8.0)
    assert not traits["preemptions"].is_common and traits["preemptions"].chance == 0.5


def test_an_instance_is_common_where_others_are_not_on_it() -> None:
    one = served()
    slow = list(range(20, 30))
    alone = replace(one, table=one.table | {"prefill_instance": one.table["request_id"] % 4})
    spread, crowded = tail_of(with_tail(alone, slow), 3), tail_of(with_tail(alone, slow, prefill_instance=2.0), 3)
    assert spread is not None and not spread.instance_is_common
    assert crowded is not None and crowded.instance_is_common
    assert (crowded.instance, crowded.instance_share) == (2, 1.0)


def test_arrivals_before_are_counted_in_the_window() -> None:
    """A request a second; the p99 of TTFT is about 10 s, so ten came before each but the first."""
    found = tail_of(with_tail(served(), list(range(40, 50))), 3)
    assert found is not None and found.window_s == pytest.approx(10.1, abs=0.1)
    before = next(each for each in found.traits if each.name == "arrivals before")
    assert before.tail == 10.0


def test_warm_up_makes_no_tail() -> None:
    one = with_tail(served(), [3, 50])
    one = replace(one, measured=one.table["request_id"] >= 10)
    found = tail_of(one, 1)
    assert found is not None and found.of_requests == 50 and found.rows[0].request_id == 50
    assert tail_of(replace(one, measured=one.table["request_id"] == 9), 1) is None


def test_bands_are_of_the_requests_around_a_percentile() -> None:
    one = served(401)
    order = np.argsort(one.table["request_id"])
    table = {name: column[order].copy() for name, column in one.table.items()}
    for name in COMPONENTS:
        table[name][:] = 0.0
    table["queue_s"] = np.arange(401.0)
    table["first_token_s"] = table["arrival_s"] + table["queue_s"]
    found = {each.at: each for each in bands(replace(one, table=table))}
    assert [each.requests for each in found.values()] == [401, 5, 5, 5]
    assert [each.ttft_ms for each in found.values()] == [200e3, 200e3, 360e3, 396e3]
    assert found["p90"].parts_ms["queue"] == 360e3


@pytest.mark.parametrize(
    ("difference", "half_width", "words"),
    [
        (0.0, 0.0, "by -3.00 ms, each alone by -3.00 ms in sum: each takes its own"),
        (0.5, 1.0, "what they do to each other is not told apart from nothing (+0.500 ± 1.00 ms)"),
        (0.5, 0.1, "some of it goes with any one of them (+0.500 ± 0.100 ms)"),
        (-0.5, 0.1, "some of it goes with none of them alone (-0.500 ± 0.100 ms)"),
        (0.5, None, "in sum (one run)"),
    ],
)
def test_what_causes_do_to_each_other_is_said(difference: float, half_width: float | None, words: str) -> None:
    each = Interplay(
        figure="p99", alone_sum=-3.0 - difference, together=-3.0, difference=difference, half_width=half_width
    )
    assert overlap_words(each, runs=1 if half_width is None else 3).endswith(words)
