"""What is said of one deployment: at ease, overloaded, and without answers of more than a token."""

from __future__ import annotations

import io
import re

from rich.console import Console

import kvsim
from kvsim.record.labels import number
from kvsim.report.tables import print_report
from kvsim.simulation import Simulation

LINE = "vllm serve meta-llama/Llama-3.1-8B-Instruct --max-num-seqs 64"


def predicted(**asked: object) -> Simulation:
    return kvsim.simulate(LINE, gpu="h100", detail=False, searches_rate=False, **asked)  # type: ignore[arg-type]


def test_figures_of_the_sentence_are_the_report_s() -> None:
    found = predicted(workload="in=300,out=30", rate=4, requests=400, slo={"ttft": 50, "tpot": 8})
    (result,) = found.results
    told = found.conclusion
    ttft, tpot = result.ttft_ms, result.tpot_ms
    assert ttft.p50 and ttft.p99 and tpot.p50 and result.goodput.share is not None
    assert told.startswith(f"1 instance of 1 x h100-sxm gives a TTFT of {number(ttft.p50)} ms (p99 {number(ttft.p99)})")
    assert f"a TPOT of {number(tpot.p50)} ms" in told and "keep TTFT <= 50 ms and mean TPOT <= 8 ms." in told
    binding = found.cluster.binding  # type: ignore[attr-defined]
    assert told.endswith(binding.sentence())


def test_an_overloaded_deployment_is_told_as_such() -> None:
    found = predicted(workload="in=4000,out=100", rate=60, requests=1500)
    assert found.results[0].steady.overloaded
    assert re.match(
        r"(\[.*\] )?Unified is overloaded at 60 requests/s: unified: .* come, .* possible", found.conclusion
    )


def test_answers_of_one_token_have_no_tpot() -> None:
    found = predicted(workload="in=300,out=1", rate=4, requests=300)
    assert "TPOT of" not in found.conclusion and found.results[0].tpot_ms.mean is None


def test_several_instances_are_told_in_the_plural() -> None:
    found = predicted(workload="in=300,out=10", rate=4, requests=200, instances=3)
    assert found.conclusion.startswith("3 instances of 1 x h100-sxm give a TTFT of")


def printed(found: Simulation) -> list[str]:
    stream = io.StringIO()
    print_report(Console(width=80, file=stream), found.report)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_the_rate_that_was_asked_is_told_as_it_was_given() -> None:
    """Arrivals at random are as many as asked in the mean alone."""
    found = predicted(workload="in=300,out=30", rate=4, requests=300)
    came = found.results[0].steady.asked_requests_per_s
    assert found.workload.asked_requests_per_s == 4 and came is not None and number(came) != "4"
    (load,) = (line for line in printed(found) if line.startswith("load"))
    assert re.fullmatch(rf"load +4 requests/s asked, {number(came)} came, possible [\d.]+ \(unified\)", load)
    assert " at 4 requests/s; " in found.conclusion


def test_a_rate_that_was_not_met_is_told_beside_the_one_that_was_asked() -> None:
    """Two agents that come at random, nobody after them: users they are not."""
    found = predicted(workload="agent", rate=0.2, requests=30, sets={"seed": 1})
    came = found.results[0].steady.asked_requests_per_s
    assert came is not None and abs(came / 0.2 - 1) > 0.1
    inside = found.workload.window_requests_per_s
    assert f" at {number(came)} requests/s (0.2 asked, {number(inside)} in the measured window)" in found.conclusion


def test_a_run_at_its_own_rate_was_asked_for_none() -> None:
    found = predicted(workload="in=300,out=30", concurrency=4, requests=300)
    assert found.workload.asked_requests_per_s is None


def test_what_was_served_needs_no_heading() -> None:
    lines = printed(predicted(workload="in=300,out=30", rate=4, requests=300))
    place = next(place for place, line in enumerate(lines) if line.startswith(" requests/s"))
    assert lines[place - 2].startswith(" E2E (ms)") and lines[place - 1] == ""
    assert lines[place + 8] == "" and lines[place + 9].startswith("Where TTFT goes")


def test_what_a_reason_says_is_no_note() -> None:
    lines = printed(predicted(workload="in=300,out=30", rate=4, requests=300))
    assert sum("No prompt begins as an earlier" in line for line in lines) == 1
    assert not any("no two requests share content" in line for line in lines)
