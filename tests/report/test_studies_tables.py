"""Studies on the terminal and as pictures, from a small report."""

from __future__ import annotations

import math
from dataclasses import replace

from answers import RUNS, SIZE, apart, around
from crowding import crowded
from rich.console import Console

from kvsim.report.plots import study_painters
from kvsim.report.tables import print_studies
from kvsim.study.answer import StudyAnswer
from kvsim.study.intervals import Verdict
from kvsim.study.questions.compare import CompareAnswer, ComparedKey, Differences, ValueRow, compare_sentence
from kvsim.study.questions.context_lengths import LengthRow, LengthsAnswer, context_sentence
from kvsim.study.questions.pd_ratio import RatioAnswer, RatioPoint, pd_ratio_sentence
from kvsim.study.questions.transfer import TransferAnswer, TransferFigures, TransferRow, transfer_sentence
from kvsim.study.questions.unified_budget import BudgetAnswer, BudgetFigures, BudgetRow, unified_budget_sentence
from kvsim.study.replication import Apart
from kvsim.study.words import preamble

SAMPLE = replace(SIZE, of_instances=128, prefill_instances=2, decode_instances=6, trace_requests=19_366)
OFTEN = replace(RUNS, replications=12)


def point(ratio: tuple[int, int], rate: float, *marks: str) -> RatioPoint:
    known = {name: name in marks for name in ("balanced", "configured", "best", "tie", "open")}
    return RatioPoint(
        ratio=ratio,
        analytic_requests_per_s=rate + 2,
        throughput_requests_per_s=around(rate, math.inf if rate < 20 else 1.0),
        difference_to_best=apart(rate - 40, "tie" if known["tie"] else "open" if known["open"] else "lower"),
        runs=3,
        **known,
    )


def ratios(requests: int = 900) -> RatioAnswer:
    points = (
        point((1, 7), 10.0, "configured"),
        point((3, 5), 40.0, "best", "balanced"),
        point((4, 4), 39.5, "tie"),
        point((5, 3), 39.0, "open"),
    )
    return RatioAnswer(
        size=SAMPLE,
        runs=OFTEN,
        requests=requests,
        requests_needed=900,
        offered_requests_per_s=46.0,
        balanced=(3, 5),
        best=(3, 5),
        tied=((4, 4),),
        unsaturated=(),
        points=points,
    )


def transfer() -> TransferAnswer:
    def row(name: str, change: float, tie: bool) -> TransferRow:
        verdict: Verdict | None = "tie" if tie else "open" if abs(change) < 1 else None
        return TransferRow(
            name=name,
            changes={},
            figures=TransferFigures(
                ttft_mean_ms=around(0.5),
                ttft_p50_ms=around(0.5),
                ttft_p99_ms=around(0.5),
                transfer_mean_ms=around(0.5),
                hidden_share=around(0.5),
                nic_out_utilisation=around(0.5),
            ),
            ttft_mean_difference_ms=apart(change, verdict, 0.3),
            runs=3,
            tie=tie,
        )

    rows = (
        row("as configured", 0.0, False),
        row("pull", 0.01, True),
        row("fifo", 0.2, False),
        row("NIC x 1/4", 9.0, False),
    )
    return TransferAnswer(size=SAMPLE, runs=OFTEN, requests=900, requests_per_s=12.0, loads={"pd": 0.7}, rows=rows)


def unified_budget() -> BudgetAnswer:
    def row(tokens: int, good_share: float, change: float, *, tie: bool = False, used: bool = False) -> BudgetRow:
        latency = around(float(tokens))
        return BudgetRow(
            max_num_batched_tokens=tokens,
            used=used,
            figures=BudgetFigures(
                ttft_mean_ms=latency,
                ttft_p99_ms=latency,
                tpot_mean_ms=latency,
                tpot_p99_ms=latency,
                good_share=around(good_share, 0.01),
            ),
            good_share_difference=apart(change, "tie" if tie else None, 0.01),
            runs=3,
            tie=tie,
        )

    rows = (row(2048, 0.5, -0.4), row(4096, 0.895, -0.005, tie=True), row(8192, 0.9, 0.0, used=True))
    return BudgetAnswer(size=SAMPLE, runs=OFTEN, requests=900, requests_per_s=12.0, loads={"unified": 0.68}, rows=rows)


def context() -> LengthsAnswer:
    metrics = ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms")
    means = {metric: around(20_000.0, 2_500.0) for metric in metrics}

    def row(tokens: int, change: Apart) -> LengthRow:
        return LengthRow(
            context_tokens=tokens,
            requests=300,
            requests_per_s=30.8,
            pd_ratio=(12, 4),
            load={"unified": 0.66, "pd": 0.7},
            runs=OFTEN,
            unified=means,
            pd=means,
            pd_minus_unified={metric: apart(0.1, "tie") if metric == "tpot_mean_ms" else change for metric in metrics},
        )

    rows = (row(4096, apart(-5000.0)), row(32768, apart(700.0, half_width=400.0)), row(131072, apart(20.0, "open")))
    return LengthsAnswer(size=SAMPLE, runs=OFTEN, output_tokens=256, load=0.7, rows=rows)


def test_sentences_name_winners_and_call_ties_ties() -> None:
    said = pd_ratio_sentence(ratios())
    assert "P:D 3:5 serves most" in said and said.endswith("3:5 does")
    assert "on 8 instances, tied with 4:4, not told apart from 5:3; by arithmetic, each with" in said
    assert pd_ratio_sentence(ratios(500)).endswith("runs of 500 requests are not steady")
    said = compare_sentence(compare()).partition(": ")[2]
    assert said == (
        "prefill=two_choices: PD +20.0 ms; load_guard=9: unified not told apart, PD +20,665 ± 3,000 ms; "
        "block_size=32: a tie; stepwise=true: changes nothing"
    )
    said = transfer_sentence(transfer())
    assert said.endswith(": fifo not told apart, NIC x 1/4 +9.00 ms; the others tie")
    said = context_sentence(context())
    assert said.endswith(
        "4,096 tokens: PD by 25%; 32,768 tokens: unified by 3.5% ± 2.0%; 131,072 tokens: not told apart"
    )
    said = unified_budget_sentence(unified_budget())
    assert (
        said
        == "unified with 8,192 tokens a step: 90% within the SLO; 2,048 has 40.0 points less; the others tie in that"
    )


def test_a_setting_that_changes_nothing_says_why() -> None:
    study = compare()
    *others, last = study.keys
    (same,) = last.rows
    assert {apart.verdict for apart in same.pd_difference.values()} == {"same"}
    same = replace(same, unseen="no tiers are in use (set pd_separation.tiers)")
    study = replace(study, keys=(*others, replace(last, rows=(same,))))
    assert compare_sentence(study).endswith("changes nothing: no tiers are in use (set pd_separation.tiers)")


def test_a_sentence_says_when_the_budget_ended_the_runs() -> None:
    for say, study in ((transfer_sentence, transfer()), (compare_sentence, compare()), (context_sentence, context())):
        assert "budget" not in say(study)
        assert say(replace(study, runs=replace(OFTEN, within_budget=False))).endswith(
            "before each difference was known to 5% of itself"
        )


def test_rates_too_low_to_saturate_are_said_to_be() -> None:
    said = pd_ratio_sentence(replace(ratios(500), unsaturated=((3, 5), (4, 4))))
    assert said.endswith(
        "each with its own hits, 3:5 does; by arithmetic 3:5, 4:4 could take more than the 46.0 requests/s "
        "offered; runs of 500 requests are not steady"
    )


def test_a_sentence_says_when_the_rate_of_the_run_is_too_much_for_the_study() -> None:
    for say, study in ((transfer_sentence, transfer()), (compare_sentence, compare())):
        said = say(replace(study, loads={"unified": 0.9, "pd": 1.31}))
        assert said.endswith(
            "; by arithmetic these runs ask for more than they can serve (PD 131%): times grow with their length"
        )
        assert "ask for more" not in say(study)
    assert "(unified 105%)" in unified_budget_sentence(replace(unified_budget(), loads={"unified": 1.05}))


def test_the_preamble_says_what_runs_served() -> None:
    said = preamble(every_study())
    assert (
        "below 1%" in said and "fewer instances than the run above" in said and "19,366 requests of the trace" in said
    )
    drawn = {"transfer": replace(transfer(), size=replace(SAMPLE, trace_requests=None, of_instances=8))}
    assert preamble(drawn) == "Studies: a tie is a difference surely below 1%, an open one is not told apart."


def compare() -> CompareAnswer:
    metrics = ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "prefix_hit_rate")
    found = {metric: around(0.5) for metric in metrics}
    changes = {metric: apart(20.0, "tie" if metric == "tpot_mean_ms" else None) for metric in metrics}
    far = {metric: apart(20_665.0, half_width=3_000.0) for metric in metrics}
    unclear = {metric: apart(20_665.0, "open", math.inf) for metric in metrics}
    none = {metric: apart(0.0, "same", 0.0) for metric in metrics}
    little = {metric: apart(0.01, "tie") for metric in metrics}

    def key(name: str, configured: object, value: object, unified: Differences, pd: Differences) -> ComparedKey:
        row = ValueRow(
            value=value,
            unseen=None,
            unified=found,
            unified_difference=unified,
            unified_runs=3,
            pd=found,
            pd_difference=pd,
            pd_runs=3,
        )
        return ComparedKey(key=name, configured=configured, rows=(row,))

    return CompareAnswer(
        size=SAMPLE,
        runs=OFTEN,
        requests=900,
        requests_per_s=12.0,
        loads={"unified": 0.68, "pd": 0.7},
        configured={"unified": found, "pd": found},
        keys=(
            key("routing.prefill", "affinity", "two_choices", none, changes),
            key("routing.load_guard", 2, 9, unclear, far),
            key("engine.block_size", 16, 32, none, little),
            key("stepwise", False, True, none, none),
        ),
    )


def every_study() -> dict[str, StudyAnswer]:
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
    assert max(map(len, lines)) <= 80 and not any("…" in line for line in lines)
    assert any(line.rstrip().endswith("at the run's rate, there unified 68%, PD 70% of the maximum,") for line in lines)
    row = next(line for line in lines if line.strip().startswith("3:5"))
    assert "40.0 ± 1.00" in row and "best, balanced" in row
    settings = next(at for at, line in enumerate(lines) if line.strip() == "two_choices")
    assert "unified" in lines[settings + 1] and "PD" in lines[settings + 2] and "+20.0" in lines[settings + 2]
    assert lines[settings - 1].strip() == "prefill=" and any(line.strip() == "load_guard=9" for line in lines)
    assert "tie" in next(line for line in lines if "pull" in line)


def test_every_study_has_a_picture() -> None:
    figures = {name: paint() for name, paint in study_painters(every_study()).items()}
    assert sorted(figures) == sorted(f"study_{name}.png" for name in every_study())
    labels = [text.get_text() for text in figures["study_pd_ratio.png"].axes[0].texts]
    assert any("3:5" in label and "best" in label for label in labels)
    assert {name: crowded(figure) for name, figure in figures.items() if crowded(figure)} == {}
    ways = [label.get_text() for label in figures["study_transfer.png"].axes[0].get_yticklabels()]
    assert ways == ["NIC x 1/4", "fifo (open)", "pull (tie)"]
