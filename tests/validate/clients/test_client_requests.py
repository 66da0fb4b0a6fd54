"""Requests one by one: the means over requests and over tokens, failures, and when recorded times are taken."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kvsim.errors import ConfigError
from kvsim.validate.clients.definitions import itl_of_gaps
from kvsim.validate.clients.requests import Requests, Row, recorded_traffic, result_of

ROWS = [
    Row(100.0, 10, 2, 1.0, 2.0),
    Row(104.0, 30, 5, 1.0, 9.0),
    Row(103.0, 20, 1, 0.5, 0.5),
    Row(101.0, 50, None, None, None, answered=False),
]


def test_tpot_is_over_requests_and_itl_over_tokens() -> None:
    """Gaps 1, and 4 x 2; an answer of one token has none."""
    requests = Requests.of("r", ROWS)
    assert (requests.tpot_mean_s(), requests.itl_mean_s()) == ((1 + 2) / 2, (1 + 8) / 5)
    assert (requests.completed, requests.mean_tokens(), requests.span_s()) == (3, (20.0, 8 / 3), 13.0)


def test_requests_are_sent_in_order_and_the_failed_as_long_as_the_mean() -> None:
    rows = Requests.of("r", ROWS).sent_rows(limit=None)
    assert rows.sent_s is not None
    assert rows.sent_s.tolist() == [0.0, 1.0, 3.0, 4.0]
    assert (rows.prompt_tokens.tolist(), rows.output_tokens.tolist()) == ([10, 50, 20, 30], [2, 3, 1, 5])


@pytest.mark.parametrize(("limit", "recorded"), [(None, True), (2, True), (1, False)])
def test_times_that_follow_from_answers_are_not_replayed(limit: int | None, recorded: bool) -> None:
    """At most one is in flight, as each ends before or when the next is sent: a limit of one may have made that so."""
    requests = Requests.of("r", [Row(float(place), 10, 2, 0.5, 1.0) for place in range(4)])
    assert (requests.sent_rows(limit).sent_s is not None) == recorded


def test_the_load_is_that_of_its_requests() -> None:
    requests = Requests.of("r", ROWS)
    load = result_of(requests, recorded_traffic(requests), name="r", client="c")
    assert (load.traffic.requests, load.failures, load.requests_per_s) == (4, 1, pytest.approx(3 / 13))
    assert load.traffic.rate_per_s == pytest.approx(3 / 4)
    workload = load.traffic.workload("r", 1)
    assert (workload.arrival_s.tolist(), workload.prompt_tokens.tolist()) == ([0.0, 1.0, 3.0, 4.0], [10, 50, 20, 30])


@pytest.mark.parametrize(
    ("field", "value"),
    [("sent_s", "x"), ("prompt_tokens", -1), ("output_tokens", math.nan), ("ttft_s", 1e6), ("e2e_s", True)],
)
def test_a_bad_value_is_named(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"r: request 2: {field} = .*: must be a number from 0 to"):
        Requests.of("r", [ROWS[0], ROWS[1]._replace(**{field: value})])


def test_chunks_of_several_tokens_are_no_itl() -> None:
    gaps_s = {"mean": 0.02, "p99": 0.05}
    assert itl_of_gaps(0.0201, gaps_s)[0] == {"mean": 0.0201, "p99": 0.05}
    found, words = itl_of_gaps(0.01, gaps_s)
    assert (found, words) == (
        {"mean": 0.01},
        "ITL is between chunks of 2.0 tokens: its mean made one a token, its percentiles not compared",
    )
    assert itl_of_gaps(0.04, gaps_s)[1].startswith("2.0 gaps are counted a token")
    assert itl_of_gaps(None, gaps_s)[0] == {}
