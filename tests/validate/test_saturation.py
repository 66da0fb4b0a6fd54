"""Which loads are beyond saturation: queues that grow, and not runs that are short or answers that are long."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from kvsim.validate.clients.traffic import Traffic
from kvsim.validate.saturation import Answered, saturation_of

LOAD = Traffic(requests=1000, rate_per_s=10.0, prompt_tokens=1000, output_tokens=100)
ALONE_S = 0.05


def served_at(capacity_per_s: float, alone_s: float = 1.0, load: Traffic = LOAD) -> Answered:
    """A server of one queue: below its capacity nobody waits, above it the i-th waits i (1/c - 1/r)."""
    slower_s = max(0.0, 1 / capacity_per_s - 1 / load.rate_per_s)
    waits_s = [place * slower_s for place in range(load.requests)]
    mean_s, end_s = sum(waits_s) / load.requests, load.requests / load.rate_per_s + waits_s[-1] + alone_s
    return Answered(load.requests, load.requests / end_s, ALONE_S + mean_s, alone_s + mean_s)


@pytest.mark.parametrize(
    ("capacity", "saturated"), [(20.0, False), (10.0, False), (8.0, True), (5.0, True), (1.0, True)]
)
def test_a_queue_that_grows(capacity: float, saturated: bool) -> None:
    found = saturation_of(LOAD, ALONE_S, served_at(capacity), served_at(20.0))
    assert found is not None
    assert (found.measured, found.predicted) == (saturated, False)
    assert (found.sentence is not None) == saturated


def test_a_short_run_of_long_answers_is_none() -> None:
    short = replace(LOAD, requests=20)
    found = saturation_of(short, ALONE_S, served_at(20.0, 30.0, short), served_at(20.0, 30.0, short))
    assert found is not None
    assert found.sentence is None


def test_waiting_at_the_client_counts() -> None:
    """With a limit in flight TTFT stays small, and only the run gets longer."""
    at_the_client = Answered(1000, 5.0, ALONE_S, 1.0)
    found = saturation_of(replace(LOAD, max_in_flight=5), ALONE_S, at_the_client, served_at(20.0))
    assert found is not None
    assert found.measured


def test_the_sentence_says_which_side() -> None:
    slow, fast = served_at(5.0), served_at(20.0)
    both, one, other = (saturation_of(LOAD, ALONE_S, *pair) for pair in ((slow, slow), (slow, fast), (fast, slow)))
    assert both is not None
    assert one is not None
    assert other is not None
    assert both.sentence == (
        "beyond saturation, as measured and as predicted: 10 requests/s are sent, 4.98 were answered and 4.98 are "
        "predicted; waiting grows with the length of the run"
    )
    assert (one.sentence or "").startswith(
        "beyond saturation as measured, not as predicted: 10 requests/s are sent, 4.98"
    )
    assert (other.sentence or "").startswith("beyond saturation as predicted, not as measured")


def test_closed_loops_have_no_rate() -> None:
    assert saturation_of(replace(LOAD, rate_per_s=math.inf), ALONE_S, served_at(5.0), served_at(5.0)) is None
