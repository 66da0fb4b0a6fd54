"""What a terminal and a page say of money and energy, of what is known alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from kvsim.record.figures import Cost, Energy, SystemSummary
from kvsim.record.result import SystemResult
from kvsim.report.money import cost_lines
from kvsim.report.report import Report

COST = Cost(
    gpus=2, window_s=3600.0, gpu_hours=2.0, gpu_usd_per_hour=3.0, price_source="a list", usd=6.0, memory_usd=None,
    usd_per_million_output_tokens=1.5, usd_per_million_tokens=0.5, usd_per_1000_requests=2.0,
    usd_per_1000_good_requests=2.5, power_source="a meter",
    energy=Energy(kwh=1.0, joules_per_output_token=0.25, joules_per_token=0.1, joules_per_good_request=9.0,
                  mean_gpu_power_w=500.0),
)  # fmt: skip
MakeResult, MakeReport = Callable[..., SystemResult], Callable[..., Report]


def summaries(make_result: MakeResult, make_report: MakeReport, **costs: Cost | None) -> list[SystemSummary]:
    (one,) = make_report(make_result("unified", {"prefill_s": 0.5})).results
    return [dataclasses.replace(one, name=name, cost=cost) for name, cost in costs.items()]


def lines(make_result: MakeResult, make_report: MakeReport, **costs: Cost | None) -> list[str]:
    return list(cost_lines(summaries(make_result, make_report, **costs)))


def test_a_line_of_money_and_one_of_energy(make_result: MakeResult, make_report: MakeReport) -> None:
    assert lines(make_result, make_report, unified=COST) == [
        "Money at 3.00 USD a GPU-hour (a list): 1.50 USD per million output tokens, "
        "2.50 per 1,000 requests within the SLO.",
        "Energy, GPUs alone (a meter): 0.250 J per output token, 500 W a GPU.",
    ]


def test_two_systems_beside_each_other_and_more_of_them_by_the_first(
    make_result: MakeResult, make_report: MakeReport
) -> None:
    dearer = dataclasses.replace(COST, usd_per_million_output_tokens=3.0, usd_per_1000_good_requests=None)
    money, energy = lines(make_result, make_report, unified=COST, pd=dearer)
    assert "unified 1.50 USD" in money and "; PD 3.00 USD" in money and money.endswith("no request within the SLO.")
    assert energy.endswith("500 W a GPU, 2 systems alike.")
    money, _ = lines(make_result, make_report, lru=COST, arc=dearer, fifo=dearer)
    assert ": lru 1.50 USD" in money and money.endswith("(the other 2 in the JSON report).")


def test_what_is_not_known_is_not_said(make_result: MakeResult, make_report: MakeReport) -> None:
    no_price = dataclasses.replace(COST, usd=None, usd_per_million_output_tokens=None)
    assert [line[:6] for line in lines(make_result, make_report, unified=no_price)] == ["Energy"]
    no_watts = dataclasses.replace(COST, energy=None)
    assert [line[:5] for line in lines(make_result, make_report, unified=no_watts)] == ["Money"]
    assert lines(make_result, make_report, unified=None) == []
    both = dataclasses.replace(COST, memory_usd=1.0)
    assert "(a list, tiers added)" in lines(make_result, make_report, unified=both)[0]


def test_nothing_is_divided_by_no_token(make_result: MakeResult, make_report: MakeReport) -> None:
    assert COST.energy is not None
    energy = dataclasses.replace(COST.energy, joules_per_output_token=None)
    none = dataclasses.replace(COST, usd_per_million_output_tokens=None, usd_per_1000_good_requests=None, energy=energy)
    assert [line.split(": ")[1] for line in lines(make_result, make_report, unified=none)] == [
        "no output token, no request within the SLO.",
        "no output token, 500 W a GPU.",
    ]
