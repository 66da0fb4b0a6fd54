"""Studies on the terminal and as pictures, from a small report."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from kvsim.report.studies import (
    compare_sentence,
    context_sentence,
    pd_ratio_sentence,
    print_studies,
    transfer_sentence,
    unified_budget_sentence,
)
from kvsim.report.study_plots import study_painters


def around(mean: float, half_width: float | None = 1.0) -> dict[str, Any]:
    return {"mean": mean, "half_width": half_width}


SAMPLE = {"instances": 8, "replications": 3, "confidence": 0.95}


def point(ratio: list[int], rate: float, **marks: bool) -> dict[str, Any]:
    found = {"balanced": False, "configured": False, "best": False, "tie": False, **marks}
    return {
        "ratio": ratio,
        "analytic_requests_per_s": rate + 2,
        "throughput_requests_per_s": around(rate, None if rate < 20 else 1.0),
        "difference_to_best": around(rate - 40),
        "runs": 3,
        **found,
    }


def ratios(requests: int = 900) -> dict[str, Any]:
    points = [
        point([1, 7], 10.0, configured=True),
        point([3, 5], 40.0, best=True, balanced=True),
        point([4, 4], 39.5, tie=True),
    ]
    best = {"balanced": [3, 5], "best": [3, 5]}
    return {**SAMPLE, "requests": requests, "requests_needed": 900, **best, "points": points}


def transfer() -> dict[str, Any]:
    def row(name: str, change: float, tie: bool) -> dict[str, Any]:
        figures = ("ttft_mean_ms", "ttft_p99_ms", "transfer_mean_ms", "hidden_share", "nic_out_utilisation")
        return {
            "name": name,
            "tie": tie,
            "ttft_mean_difference_ms": around(change),
            **{figure: around(0.5) for figure in figures},
        }

    return {**SAMPLE, "rows": [row("as configured", 0.0, False), row("pull", 0.2, True), row("NIC x 1/4", 9.0, False)]}


def unified_budget() -> dict[str, Any]:
    def row(tokens: int, good_share: float, apart: float, **marks: bool) -> dict[str, Any]:
        figures = ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "tpot_p99_ms")
        return {
            "max_num_batched_tokens": tokens,
            "used": False,
            "tie": False,
            "good_share": around(good_share, 0.01),
            "good_share_difference": around(apart, 0.01),
            **{figure: around(float(tokens)) for figure in figures},
            **marks,
        }

    rows = [row(2048, 0.5, -0.4), row(4096, 0.895, -0.005, tie=True), row(8192, 0.9, 0.0, used=True)]
    return {**SAMPLE, "rows": rows}


def context() -> dict[str, Any]:
    metrics = ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "throughput_requests_per_s")
    systems = {name: {metric: around(20.0) for metric in metrics} for name in ("unified", "pd")}
    apart = {metric: {**around(-5.0), "tie": metric == "tpot_mean_ms"} for metric in metrics}
    return {**SAMPLE, "load": 0.7, "rows": [{"context_tokens": 4096, **systems, "pd_minus_unified": apart}]}


def test_sentences_name_winners_and_call_ties_ties() -> None:
    said = pd_ratio_sentence(ratios())
    assert "P:D 3:5 serves most" in said and "tied with 4:4" in said and said.endswith("balances the two")
    assert pd_ratio_sentence(ratios(500)).endswith("runs of 500 requests are not steady")
    assert compare_sentence(compare()).endswith(": prefill=two_choices: PD +20.0 ms; stepwise=true: a tie")
    assert transfer_sentence(transfer()).endswith("NIC x 1/4 9.00 ms; the others tie")
    assert context_sentence(context()).endswith("4,096 tokens: PD")
    said = unified_budget_sentence(unified_budget())
    assert said == "unified with 8,192 tokens a step: 90% within the SLO; 2,048 has 40.0 points less"


def compare() -> dict[str, Any]:
    metrics = ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "prefix_hit_rate")
    found = {metric: around(0.5) for metric in metrics}
    apart = {metric: {**around(20.0), "tie": metric == "tpot_mean_ms"} for metric in metrics}
    none = {metric: {**around(0.0), "tie": True} for metric in metrics}

    def row(value: Any, pd_difference: dict[str, Any]) -> dict[str, Any]:
        both = {"unified": found, "pd": found}
        return {"value": value, **both, "unified_difference": none, "pd_difference": pd_difference}

    keys = [
        {"key": "routing.prefill", "configured": "affinity", "rows": [row("two_choices", apart)]},
        {"key": "stepwise", "configured": False, "rows": [row(True, none)]},
    ]
    return {**SAMPLE, "configured": {"unified": found, "pd": found}, "keys": keys}


def every_study() -> dict[str, Any]:
    return {
        "compare": compare(),
        "pd_ratio": ratios(),
        "transfer": transfer(),
        "unified_budget": unified_budget(),
        "context": context(),
    }


def test_tables_fit_a_terminal() -> None:
    console = Console(width=80, record=True, file=None, highlight=False)
    with console.capture() as captured:
        print_studies(console, every_study())
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if line.strip().startswith("3:5"))
    assert "40.0 ± 1.00" in row and "best, balanced" in row
    settings = next(at for at, line in enumerate(lines) if "prefill=two_choices" in line)
    assert "unified" in lines[settings + 1] and "PD" in lines[settings + 2] and "+20.0" in lines[settings + 2]
    assert "tie" in next(line for line in lines if "pull" in line)


def test_every_study_has_a_picture() -> None:
    figures = {name: paint() for name, paint in study_painters(every_study()).items()}
    assert sorted(figures) == sorted(f"study_{name}.png" for name in every_study())
    labels = [text.get_text() for text in figures["study_pd_ratio.png"].axes[0].texts]
    assert any("3:5" in label and "best" in label for label in labels)
