"""What is said of one deployment: at ease, overloaded, and without answers of more than a token."""

from __future__ import annotations

import re

import kvsim
from kvsim.record.labels import number
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
        r"(\[.*\] )?Unified is overloaded at [\d.]+ requests/s: unified: .* asked, .* possible", found.conclusion
    )


def test_answers_of_one_token_have_no_tpot() -> None:
    found = predicted(workload="in=300,out=1", rate=4, requests=300)
    assert "TPOT of" not in found.conclusion and found.results[0].tpot_ms.mean is None


def test_several_instances_are_told_in_the_plural() -> None:
    found = predicted(workload="in=300,out=10", rate=4, requests=200, instances=3)
    assert found.conclusion.startswith("3 instances of 1 x h100-sxm give a TTFT of")
