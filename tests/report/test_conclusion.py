import dataclasses

import numpy as np
import pytest

from kvsim.capacity.load_search import Load
from kvsim.record.result import Check
from kvsim.report.conclude import conclude

SLOW = [0.5] * 6 + [3.0] * 4
"""Four of ten requests miss a TTFT limit of 2 s."""


@pytest.fixture
def concluded(make_report, make_result):
    def conclude_on(unified, pd, **sections):
        return conclude(make_report(make_result("unified", *unified), make_result("pd", *pd), **sections))

    return conclude_on


def test_pd_wins_by_goodput(concluded):
    text = concluded(({"queue_s": SLOW, "prefill_s": 0.25}, 0.02), ({"transfer_s": 0.3, "prefill_s": 0.1}, 0.02))
    assert text.startswith(
        "PD gives 67% more goodput than unified (0.100 against 0.0600 requests/s within the SLO) "
        "at 0.7 of PD's maximum rate (1.00 requests/s), because unified misses the TTFT limit of 2,000 ms in 40% of "
        "requests and PD in 0%; "
    )
    assert "exposed transfer for PD (75% of 400 ms)" in text
    assert "queue for unified (92% of 3,250 ms)" in text
    assert "unified has" not in text
    assert text.endswith("P:D 4:12 is balanced for this workload.")
    assert text.count(". ") == 0


def test_pd_loses_but_has_the_lower_tpot(concluded):
    text = concluded(({"queue_s": 0.5}, 0.04), ({"decode_wait_s": SLOW}, 0.02))
    assert text.startswith("Unified gives 67% more goodput than PD")
    assert "; PD has the lower p99 TPOT (20.0 against 40.0 ms);" in text


def test_a_tpot_limit_decides(concluded):
    text = concluded(({"queue_s": 0.1}, [0.02] * 2 + [0.09] * 8), ({"queue_s": 0.4}, 0.02))
    assert text.startswith("PD gives 5.00 times the goodput of unified")
    assert "because unified misses the TPOT limit of 50 ms in 80% of requests and PD in 0%" in text
    assert "; unified has the lower p99 TTFT (100 against 400 ms);" in text


def test_fewer_completions_decide(make_report, make_result):
    results = [make_result("unified", {"queue_s": 1.0}, window_s=(0.0, 2.5)), make_result("pd", {}, window_s=(0, 9.3))]
    text = conclude(make_report(*results))
    assert "because unified completes 0.800 requests/s and PD 1.08" in text


def test_where_the_edges_of_a_window_fall_makes_nobody_better(make_report, make_result):
    """Seven of unified's ten and eight of PD's finish within it, all as they should."""
    window_s = (0.5, 8.5)
    results = [make_result("unified", {"queue_s": 1.0}, window_s=window_s), make_result("pd", {}, window_s=window_s)]
    report = make_report(*results)
    counts = [result.requests.completed_in_window for result in report.results]
    assert counts == [8, 8] or abs(counts[0] - counts[1]) == 1
    assert "tie in goodput" in conclude(report)


def test_a_goodput_tie_goes_to_ttft(concluded):
    text = concluded(({"queue_s": 0.5}, 0.04), ({"queue_s": 0.4}, 0.02))
    assert text.startswith("Unified and PD tie in goodput (0.100 and 0.100 requests/s within the SLO) at 0.7 of")
    assert "; PD has the lower p99 TTFT (400 against 500 ms) and the lower p99 TPOT (20.0 against 40.0 ms);" in text


def test_a_ttft_tie_goes_to_tpot(concluded):
    text = concluded(({"queue_s": 0.5}, 0.02), ({"queue_s": 0.49}, 0.03))
    assert "tie in goodput" in text and "lower p99 TTFT" not in text
    assert "; unified has the lower p99 TPOT (20.0 against 30.0 ms);" in text


def test_a_tie_all_over_is_called_one(concluded):
    text = concluded(({"queue_s": 0.5}, 0.02), ({"queue_s": 0.49}, 0.0201))
    assert "tie in goodput" in text and "; their p99 TTFT and TPOT are within 5%;" in text
    assert "lower" not in text


def test_a_winner_against_nothing(concluded):
    text = concluded(({"queue_s": 9.0}, 0.02), ({"queue_s": 0.1}, 0.02))
    assert text.startswith("PD gives 0.100 requests/s within the SLO where unified gives none at 0.7 of")


def test_no_goodput_at_all(concluded):
    text = concluded(({"queue_s": 9.0}, 0.02), ({"queue_s": 8.0}, 0.02))
    assert text.startswith("Neither unified nor PD serves a request within the SLO at 0.7")
    assert "PD has the lower p99 TTFT" in text


@pytest.mark.parametrize(
    "workload, words",
    [
        (
            {"load": Load(rho=0.5, of="unified", requests_per_s=3.0, max_requests_per_s=6.0)},
            "at 0.5 of unified's maximum rate (3.00 requests/s)",
        ),
        ({"load": None}, "at the workload's own 1.00 requests/s"),
        ({"load": None, "span_s": 0.0}, "for this workload"),
    ],
)
def test_the_condition_names_the_load(concluded, workload, words):
    assert f" {words}, because " in concluded(({"queue_s": SLOW},), ({},), workload=workload)


def test_balance_advice(concluded):
    text = concluded(({},), ({},), cluster={"balanced_pd_ratio": (1, 15)})
    assert text.endswith("P:D 1:15 would balance the two sides, where 4:12 was simulated.")
    assert "P:D" not in concluded(({},), ({},), cluster={"balanced_pd_ratio": None})


def test_what_undermines_the_sentence_comes_first(make_report, make_result):
    unified, pd = make_result("unified", {}), make_result("pd", {})
    unsteady = dataclasses.replace(pd, steady=False, steady_why="too short")
    cut = dataclasses.replace(unsteady, incomplete=True)
    broken = dataclasses.replace(cut, checks=(Check("bytes", 1.0, 2.0, False),))
    assert conclude(make_report(unified, pd)).startswith("Unified and PD")
    assert conclude(make_report(unified, unsteady)).startswith("[Indicative only, not steady: PD] ")
    assert conclude(make_report(unified, cut)).startswith("[Partial, interrupted: PD] ")
    assert conclude(make_report(unified, broken)).startswith("[Not to be trusted, conservation violated in PD] ")


def test_one_system_or_none(make_report, make_result):
    text = conclude(make_report(make_result("unified", {"queue_s": 0.5})))
    assert text.startswith("Unified gives 0.100 requests/s within the SLO at 0.7 of")
    assert "nothing to compare it with" in text
    assert conclude(make_report()) == "Nothing was simulated."


def test_a_system_without_requests_is_no_crash(make_report, make_result):
    empty = make_result("pd", {}, measured=np.zeros(10, dtype=bool), window_s=(0.0, 0.0))
    assert conclude(make_report(make_result("unified", {}), empty)).startswith("Unified gives")
