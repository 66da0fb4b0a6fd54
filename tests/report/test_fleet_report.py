"""What a report says of a fleet: its tables in 80 columns, its warnings, its picture, its JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from reports import read_back, report_of, summary
from rich.console import Console

from kvsim.failures import Failures
from kvsim.record.figures import SystemSummary
from kvsim.report import caveats
from kvsim.report.conclude import conclude
from kvsim.report.fleet_tables import MOST_INCIDENTS
from kvsim.report.plots import plot_report
from kvsim.report.tables import print_report

AROUND = {"requests": 100, "failed": 0, "within_ttft": 1.0, "ttft_p50_ms": 80.5, "ttft_p99_ms": 12345.6}
INCIDENT: dict[str, Any] = {
    "kind": "rolling_restart",
    "where": "96 decode",
    "begin_s": 12345.6,
    "end_s": 23456.7,
    "instances": 96,
    "requests_hit": 1234,
    "lost_prefill_tokens": 5678,
    "recovery": "recovered",
    "recovery_s": 43.21,
    "before": AROUND,
    "during": AROUND | {"requests": 12345, "failed": 123, "within_ttft": 0.91},
    "after": {"requests": 0, "failed": 0, "within_ttft": None, "ttft_p50_ms": None, "ttft_p99_ms": None},
}
FLEET: dict[str, Any] = {
    "requests_hit": 1240,
    "resent": 12,
    "router_gave_up": 4,
    "timed_out": 30,
    "retried": 25,
    "gave_up": 5,
    "unserved": 2,
    "failed_in_window": 6,
    "held": 0,
    "lost_prefill_tokens": 987_654,
    "storm": {
        "amplification": 1.37,
        "worst": {"begin_s": 60.0, "length_s": 12.5, "requests": 100, "sent_again": 150, "amplification": 2.5},
    },
    "instances": {
        "decode": {
            "instances": 96,
            "mean_serving": 95.5,
            "fewest_serving": 95,
            "mean_paid": 96.0,
            "gpu_hours": 1.0,
            "times_s": [0.0, 5.0, 10.0],
            "serving": [96, 95, 96],
            "paid": [96, 96, 96],
        }
    },
    "window_requests": 100,
    "slo_share": 0.99,
    "incidents": [INCIDENT],
    "over_time": {
        "bin_s": 5.0,
        "requests": [50, 60],
        "failed": [0, 7],
        "sent_again": [0, 37],
        "ttft_p50_ms": [80.0, None],
        "ttft_p99_ms": [90.0, None],
    },
}
REQUESTS = {"arrived": 110, "completed": 100, "failed": 10, "failed_in_window": 9, "completed_in_window": 91}


def told(**changed: Any) -> SystemSummary:
    """A system with a fleet, of whose failed requests three fit nowhere."""
    return summary(requests=REQUESTS, fleet=FLEET | changed)


def printed(*results: SystemSummary, width: int = 80) -> list[str]:
    out = io.StringIO()
    print_report(Console(file=out, width=width), report_of(*results))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_the_tables_fit_80_columns() -> None:
    lines = printed(told())
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for row in (
        "decode instances in service, fewest                         95 of 96",
        "sent again by the router                                          12",
        "given up by the router                                             4",
        "attempts a request                                              1.37",
        "at worst                              2.50 in 12.5 s from 60.0 s on",
    ):
        words = row.split("  ")
        assert any(words[0] in line and words[-1].strip() in line for line in lines), row
    assert "times held at the router" not in text, "rows of nothing are left out"
    at = next(place for place, line in enumerate(lines) if "rolling_restart 96 decode" in line)
    assert [" ".join(line.split()) for line in lines[at : at + 3]] == [
        "rolling_restart 96 decode before 100 100% 0 80.5 12,346",
        "12,346 to 23,457 s, 1,234 hit during 12,345 91% 123 80.5 12,346",
        "within the SLO after 43.2 s after 0 - 0 - -",
    ]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"recovery": "never_outside", "recovery_s": 0.0}, "never outside the SLO"),
        ({"recovery": "not_by_the_end", "recovery_s": None}, "outside the SLO to the end"),
        ({"recovery": "too_few_requests", "recovery_s": None}, "too few requests to tell"),
        ({"end_s": None}, "from 12,346 s on, 1,234 hit"),
    ],
)
def test_how_requests_recovered_is_said(changed: dict[str, Any], words: str) -> None:
    assert any(words in line for line in printed(told(incidents=[INCIDENT | changed])))


def test_of_many_incidents_the_gravest_are_shown() -> None:
    many = [INCIDENT | {"where": f"decode {n}", "recovery_s": float(n % 20)} for n in range(40)]
    lines = printed(told(incidents=many))
    shown = [line.split()[2] for line in lines if line.startswith(" rolling_restart")]
    assert shown == [str(n) for n in range(40) if n % 20 >= 20 - MOST_INCIDENTS // 2]
    assert any(f"{MOST_INCIDENTS} of 40" in line for line in lines)


def test_requests_fail_for_what_they_failed_for() -> None:
    report = report_of(told())
    found = [line for line in caveats.warnings(report) if "failed" in line]
    count = "they count against the SLO"
    assert found == [
        f"PD: 3 requests failed: longer than model.max_model_len or the KV blocks of an instance allow; {count}",
        f"PD: 5 requests failed: their clients gave them up; {count}",
        f"PD: 2 requests failed: no instance was left to serve them, and none was to come; {count}",
    ]
    sentence = conclude(report)
    assert "3.0% of requests fit no instance of PD" in sentence
    assert "6.0% of requests were given up or had no instance left on PD" in sentence
    one = summary(requests=REQUESTS | {"failed": 1}, fleet=FLEET | {"gave_up": 0, "unserved": 1})
    assert "PD: 1 request failed: no instance was left to serve it, and none was to come; it counts" in " ".join(
        caveats.warnings(report_of(one))
    )


def test_the_json_has_a_section_only_where_there_is_a_fleet() -> None:
    assert "fleet" not in json.loads(report_of(summary()).to_json())["results"][0]
    report = report_of(told())
    tree = json.loads(report.to_json())
    assert tree["results"][0]["fleet"] == FLEET
    assert read_back(tree).results == report.results


def test_the_picture_is_painted_where_there_is_a_fleet(tmp_path: Path) -> None:
    failures = Failures()
    written = plot_report(tmp_path, report_of(told(), told()), (), failures)
    assert tmp_path / "fleet.png" in written and not failures.found
    assert (tmp_path / "fleet.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "fleet.png").unlink()
    assert tmp_path / "fleet.png" not in plot_report(tmp_path, report_of(summary()), (), failures)


def test_what_is_without_a_fleet_is_noted() -> None:
    report = report_of(told())
    assert not any("are without" in note for note in caveats.notes(report))
    clients = report.config.clients.model_copy(update={"timeout_s": 4.0})
    config = report.config.model_copy(update={"clients": clients})
    assert (
        "maximum rates, loads and rates that are searched for are without clients.timeout_s: of instances that all "
        "serve, and clients that wait"
    ) in caveats.notes(report_of(told(), config=config))


NONE = dict.fromkeys(("mean", "p50", "p90", "p95", "p99", "max"))


def test_nothing_is_said_of_latencies_that_nobody_has() -> None:
    """All requests were given up."""
    goodput = {"requests_per_s": 0.0, "share": 0.0}
    lost = [summary(name=name, ttft_ms=NONE, tpot_ms=NONE, goodput=goodput) for name in ("unified", "pd")]
    said = conclude(report_of(*lost))
    assert "serves a request within the SLO" in said and "p99 TTFT and TPOT" not in said
    assert not any("Where TTFT goes" in line for line in printed(lost[0]))
    said = conclude(report_of(summary(name="unified", ttft_ms=NONE), mode="predict", cluster={"instances": 2}))
    assert "answer no request that counts at" in said and " - ms" not in said
    policies = [summary(name="lru", ttft_ms=NONE), summary(name="arc")]
    said = conclude(report_of(*policies, mode="cluster"))
    assert "of lru no request that counts has a first token" in said and " 0 ms" not in said
    assert "lru, and" not in said.split(";")[0]


def test_who_was_spared_is_said_before_who_is_better() -> None:
    spared = summary(name="unified", events_left_out=[0])
    assert conclude(report_of(spared, summary())).startswith("[Not under the same failures: unified without")
    assert "same failures" not in conclude(report_of(spared))
