"""Studies on the terminal and as pictures, from a small report."""

from __future__ import annotations

from typing import Any

from crowding import crowded
from rich.console import Console

from kvsim.report.plots import study_painters
from kvsim.report.tables import print_studies
from kvsim.study.questions.compare import compare_sentence
from kvsim.study.questions.context_lengths import context_sentence
from kvsim.study.questions.pd_ratio import pd_ratio_sentence
from kvsim.study.questions.transfer import transfer_sentence
from kvsim.study.questions.unified_budget import unified_budget_sentence
from kvsim.study.words import preamble


def around(mean: float, half_width: float | None = 1.0) -> dict[str, Any]:
    return {"mean": mean, "half_width": half_width}


SAMPLE = {
    "instances": 8, "of_instances": 128, "prefill_instances": 2, "decode_instances": 6, "trace_requests": 19_366,
    "replications": 12, "fewest_replications": 3, "confidence": 0.95, "tie_share": 0.01, "precision": 0.05,
    "within_budget": True, "requests": 900,
}  # fmt: skip


def apart(mean: float, verdict: str = "", half_width: float | None = 1.0) -> dict[str, Any]:
    """A difference as a study reports it."""
    words = verdict or ("lower" if mean < 0 else "higher")
    tie, precise = words in ("same", "tie"), half_width is not None and half_width <= 0.05 * abs(mean)
    return {**around(mean, half_width), "verdict": words, "tie": tie, "precise": precise or tie}


def point(ratio: list[int], rate: float, **marks: bool) -> dict[str, Any]:
    found = {"balanced": False, "configured": False, "best": False, "tie": False, "open": False, **marks}
    return {
        "ratio": ratio,
        "analytic_requests_per_s": rate + 2,
        "throughput_requests_per_s": around(rate, None if rate < 20 else 1.0),
        "difference_to_best": apart(rate - 40, "tie" if found["tie"] else "open" if found["open"] else "lower"),
        "runs": 3,
        **found,
    }


def ratios(requests: int = 900) -> dict[str, Any]:
    points = [
        point([1, 7], 10.0, configured=True),
        point([3, 5], 40.0, best=True, balanced=True),
        point([4, 4], 39.5, tie=True),
        point([5, 3], 39.0, open=True),
    ]
    asked = {"requests": requests, "requests_needed": 900, "offered_requests_per_s": 46.0, "unsaturated": []}
    return {**SAMPLE, **asked, "balanced": [3, 5], "best": [3, 5], "points": points}


def transfer() -> dict[str, Any]:
    def row(name: str, change: float, tie: bool) -> dict[str, Any]:
        figures = ("ttft_mean_ms", "ttft_p99_ms", "transfer_mean_ms", "hidden_share", "nic_out_utilisation")
        return {
            "name": name,
            "tie": tie,
            "ttft_mean_difference_ms": apart(change, "tie" if tie else "open" if abs(change) < 1 else "", 0.3),
            **{figure: around(0.5) for figure in figures},
        }

    rows = [
        row("as configured", 0.0, False),
        row("pull", 0.01, True),
        row("fifo", 0.2, False),
        row("NIC x 1/4", 9.0, False),
    ]
    return {**SAMPLE, "loads": {"pd": 0.7}, "rows": rows}


def unified_budget() -> dict[str, Any]:
    def row(tokens: int, good_share: float, change: float, **marks: bool) -> dict[str, Any]:
        figures = ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "tpot_p99_ms")
        return {
            "max_num_batched_tokens": tokens,
            "used": False,
            "tie": False,
            "good_share": around(good_share, 0.01),
            "good_share_difference": apart(change, "tie" if marks.get("tie") else "", 0.01),
            **{figure: around(float(tokens)) for figure in figures},
            **marks,
        }

    rows = [row(2048, 0.5, -0.4), row(4096, 0.895, -0.005, tie=True), row(8192, 0.9, 0.0, used=True)]
    return {**SAMPLE, "loads": {"unified": 0.68}, "rows": rows}


def context() -> dict[str, Any]:
    metrics = ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms")
    systems = {name: {metric: around(20_000.0, 2_500.0) for metric in metrics} for name in ("unified", "pd")}

    def row(tokens: int, change: dict[str, Any]) -> dict[str, Any]:
        ran = {"pd_ratio": [12, 4], "load": {"unified": 0.66, "pd": 0.7}, "requests_per_s": 30.8}
        differences = {metric: apart(0.1, "tie") if metric == "tpot_mean_ms" else change for metric in metrics}
        return {"context_tokens": tokens, **ran, **systems, "pd_minus_unified": differences}

    rows = [row(4096, apart(-5000.0)), row(32768, apart(700.0, half_width=400.0)), row(131072, apart(20.0, "open"))]
    sample = {name: value for name, value in SAMPLE.items() if name != "requests"}
    return {**sample, "load": 0.7, "rows": rows}


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
    same = study["keys"][-1]["rows"][0]
    assert {apart["verdict"] for apart in same["pd_difference"].values()} == {"same"}
    same["unseen"] = "no tiers are in use (set pd_separation.tiers)"
    assert compare_sentence(study).endswith("changes nothing: no tiers are in use (set pd_separation.tiers)")


def test_a_sentence_says_when_the_budget_ended_the_runs() -> None:
    for say, study in ((transfer_sentence, transfer()), (compare_sentence, compare()), (context_sentence, context())):
        assert "budget" not in say(study)
        assert say({**study, "within_budget": False}).endswith("before each difference was known to 5% of itself")


def test_rates_too_low_to_saturate_are_said_to_be() -> None:
    said = pd_ratio_sentence({**ratios(500), "unsaturated": [[3, 5], [4, 4]]})
    assert said.endswith(
        "each with its own hits, 3:5 does; by arithmetic 3:5, 4:4 could take more than the 46.0 requests/s "
        "offered; runs of 500 requests are not steady"
    )


def test_a_sentence_says_when_the_rate_of_the_run_is_too_much_for_the_study() -> None:
    for say, study in ((transfer_sentence, transfer()), (compare_sentence, compare())):
        said = say({**study, "loads": {"unified": 0.9, "pd": 1.31}})
        assert said.endswith(
            "; by arithmetic these runs ask for more than they can serve (PD 131%): times grow with their length"
        )
        assert "ask for more" not in say(study)
    assert "(unified 105%)" in unified_budget_sentence({**unified_budget(), "loads": {"unified": 1.05}})


def test_the_preamble_says_what_runs_served() -> None:
    said = preamble(every_study())
    assert (
        "below 1%" in said and "fewer instances than the run above" in said and "19,366 requests of the trace" in said
    )
    drawn = {"transfer": transfer() | {"trace_requests": None, "of_instances": 8}}
    assert preamble(drawn) == "Studies: a tie is a difference surely below 1%, an open one is not told apart."


def compare() -> dict[str, Any]:
    metrics = ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "prefix_hit_rate")
    found = {metric: around(0.5) for metric in metrics}
    changes = {metric: apart(20.0, "tie" if metric == "tpot_mean_ms" else "") for metric in metrics}
    far = {metric: apart(20_665.0, half_width=3_000.0) for metric in metrics}
    unclear = {metric: apart(20_665.0, "open", None) for metric in metrics}
    none = {metric: apart(0.0, "same", 0.0) for metric in metrics}
    little = {metric: apart(0.01, "tie") for metric in metrics}

    def row(value: Any, unified: dict[str, Any], pd: dict[str, Any], unseen: str | None = None) -> dict[str, Any]:
        both = {"unified": found, "pd": found}
        return {"value": value, "unseen": unseen, **both, "unified_difference": unified, "pd_difference": pd}

    keys = [
        {"key": "routing.prefill", "configured": "affinity", "rows": [row("two_choices", none, changes)]},
        {"key": "routing.load_guard", "configured": 2, "rows": [row(9, unclear, far)]},
        {"key": "engine.block_size", "configured": 16, "rows": [row(32, none, little)]},
        {"key": "stepwise", "configured": False, "rows": [row(True, none, none)]},
    ]
    loads = {"unified": 0.68, "pd": 0.7}
    return {**SAMPLE, "loads": loads, "configured": {"unified": found, "pd": found}, "keys": keys}


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
