"""Rows of a measurement become the requests that are predicted; damaged ones are named."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kvsim.errors import ConfigError
from kvsim.live.rows import FEWEST, served_of
from kvsim.measure.result import MeasuredRun, RequestRow


def row(place: int, **changes: Any) -> RequestRow:
    found = RequestRow(
        request_id=place,
        scheduled_s=float(place),
        sent_s=place + 0.5,
        prompt_tokens=100,
        output_tokens=3,
        cached_tokens=32,
        first_token_s=place + 1.0,
        finish_s=place + 2.0,
        chunk_s=(place + 1.0, place + 1.25, place + 2.0),
        chunk_tokens=(1, 1, 1),
        pieces=((0, 40), (-1 - place, 60)),
        output_chain=-1 - place,
    )
    return replace(found, **changes)


def run_of(*rows: RequestRow, **changes: Any) -> MeasuredRun:
    return MeasuredRun(rows=rows, duration_s=30.0, asked=len(rows), **changes)


def rows(count: int = 12) -> list[RequestRow]:
    return [row(place) for place in range(count)]


def test_times_begin_with_the_first_that_was_sent() -> None:
    found = served_of(run_of(*reversed(rows())), "run")
    assert found.requests["arrival_s"].tolist() == [float(place) for place in range(12)]
    assert found.requests["finish_s"][3] == pytest.approx(3 + 1.5)
    assert found.workload.request(3).pieces == ((0, 40), (-4, 60))
    gaps, at_s = found.gaps_s
    assert gaps.tolist() == [0.25, 0.75] * 12
    assert at_s[:2].tolist() == pytest.approx([0.75, 1.5])


def test_a_prompt_is_as_long_as_the_server_counted_it() -> None:
    given = rows()
    given[2] = replace(given[2], prompt_tokens=110)
    given[4] = replace(given[4], prompt_tokens=70)
    found = served_of(run_of(*given), "run").workload
    assert found.request(2).pieces == ((0, 40), (-3, 60), (-3, 10))
    assert found.request(4).pieces == ((0, 40), (-5, 30))


def test_tokens_without_times_come_evenly() -> None:
    given = [replace(each, chunk_s=(), chunk_tokens=()) for each in rows()]
    assert served_of(run_of(*given), "run").token_s[:3].tolist() == pytest.approx([0.5, 1.0, 1.5])


def test_what_the_server_does_not_tell_is_not_known() -> None:
    given = [replace(each, cached_tokens=None) for each in rows()]
    assert np.isnan(served_of(run_of(*given), "run").requests["hit_tokens"]).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"first_token_s": 0.1}, "request 3: sent 3.5 s, first token 0.1 s, last 5 s; allowed: in that order"),
        ({"finish_s": 3.9}, "request 3: sent 3.5 s, first token 4 s, last 3.9 s; allowed: in that order"),
        ({"first_token_s": None}, "request 3: is answered, and has no times of its first and last token"),
        ({"prompt_tokens": 0}, "request 3: 0 prompt and 3 output tokens; allowed: from 1"),
        ({"output_tokens": 0}, "request 3: 100 prompt and 0 output tokens; allowed: from 1"),
        ({"cached_tokens": 101}, "request 3: 101 tokens cached; allowed: up to its 100"),
    ],
)
def test_a_damaged_row_is_named(changes: dict[str, Any], words: str) -> None:
    given = rows()
    given[3] = replace(given[3], **changes)
    with pytest.raises(ConfigError, match=re.escape(words)):
        served_of(run_of(*given), "run")


def test_too_few_answers_are_refused() -> None:
    with pytest.raises(ConfigError, match=f"run: 4 of 4 requests have an answer, allowed: {FEWEST} or more"):
        served_of(run_of(*rows(4)), "run")


def test_survivors_are_refused() -> None:
    given = [*rows(18), *(row(place, status="timeout", finish_s=None) for place in range(18, 20))]
    with pytest.raises(ConfigError, match=r"run: 10% of 20 requests have no answer \(timeout 2\), allowed: up to 5%"):
        served_of(run_of(*given), "run")
    few = [*rows(39), row(39, status="http_500")]
    found = served_of(run_of(*few), "run")
    assert len(found) == 39
    assert found.failures == {"http_500": 1}
