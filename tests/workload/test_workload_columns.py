from __future__ import annotations

import math

import numpy as np
import pytest

from kvsim.errors import WorkloadError
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.replicas import replicated
from kvsim.workload.request import Request
from kvsim.workload.workload import CHUNK_REQUESTS, Workload

INFO = WorkloadInfo(source="test", format="synthetic")


def shared_head() -> Workload:
    """Two requests share the first 10 tokens of chain 0; the third shares nothing."""
    return Workload(
        arrival_s=np.array([0.0, 1.0, 4.0]),
        prompt_tokens=np.array([15, 12, 7], dtype=np.int32),
        output_tokens=np.array([3, 2, 1], dtype=np.int32),
        session_id=np.array([0, 1, -1]),
        output_chain=np.array([1, -2, -3]),
        piece_offsets=np.array([0, 2, 4, 5]),
        piece_chain=np.array([0, 1, 0, -2, -3]),
        piece_tokens=np.array([10, 5, 10, 2, 7], dtype=np.int32),
        info=INFO,
    )


def test_requests_come_out_as_plain_values_in_order() -> None:
    assert list(shared_head()) == [
        Request(0, 0.0, 15, 3, 0, ((0, 10), (1, 5)), 1),
        Request(1, 1.0, 12, 2, 1, ((0, 10), (-2, 2)), -2),
        Request(2, 4.0, 7, 1, -1, ((-3, 7),), -3),
    ]
    assert type(next(iter(shared_head())).arrival_s) is float
    assert type(next(iter(shared_head())).pieces[0][0]) is int


def test_iteration_crosses_chunks() -> None:
    count = 2 * CHUNK_REQUESTS + 1
    tokens = np.arange(1, count + 1, dtype=np.int32)
    workload = Workload.private(np.arange(count) * 0.5, tokens, tokens, INFO)
    seen = list(workload)
    assert [request.request_id for request in seen] == list(range(count))
    assert [request.pieces for request in seen] == [((-1 - i, i + 1),) for i in range(count)]
    assert list(workload) == seen


def test_span_and_rate_count_the_gaps() -> None:
    workload = shared_head()
    assert len(workload) == 3
    assert workload.span_s == 4.0
    assert workload.mean_rate_per_s == 0.5
    assert workload.limited(1).mean_rate_per_s == math.inf


def test_scaling_multiplies_times_and_says_so() -> None:
    scaled = shared_head().scaled(0.5)
    assert scaled.arrival_s.tolist() == [0.0, 0.5, 2.0]
    assert scaled.info.notes == ("arrival times multiplied by 0.5",)
    assert shared_head().stretched_to(4.0).mean_rate_per_s == pytest.approx(4.0)


def test_the_first_requests_alone() -> None:
    first = shared_head().limited(2)
    assert list(first) == list(shared_head())[:2]
    assert first.info.notes == ("cut to the first 2 of 3 requests",)
    assert len(shared_head().limited(99)) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.scaled(0), "arrival scale is 0"),
        (lambda w: w.scaled(math.inf), "arrival scale is inf"),
        (lambda w: w.stretched_to(-1), "arrival rate is -1"),
        (lambda w: w.limited(1).stretched_to(2), "a single request has no rate"),
        (lambda w: w.limited(0), "number of requests is 0"),
        (lambda w: replicated(w, 0, seed=1), "number of replicas is 0"),
        (lambda w: replicated(w.limited(1), 2, seed=1), "a single request has no rate"),
    ],
)
def test_what_makes_no_sense_is_refused(change, words) -> None:
    with pytest.raises(WorkloadError, match=words):
        change(shared_head())


def test_columns_that_disagree_are_refused() -> None:
    good = shared_head()
    columns = {name: getattr(good, name) for name in good.__dataclass_fields__}
    for broken in (
        {"piece_tokens": good.piece_tokens + 1},
        {"arrival_s": good.arrival_s[::-1]},
        {"piece_offsets": good.piece_offsets[:-1]},
    ):
        with pytest.raises(ValueError, match="must"):
            Workload(**{**columns, **broken})


def test_a_million_requests_fit_120_mb() -> None:
    count = 1_000_000
    tokens = np.full(count, 9, dtype=np.int32)
    workload = Workload.private(np.arange(count, dtype=np.float64), tokens, tokens, INFO)
    columns = [value for value in vars(workload).values() if isinstance(value, np.ndarray)]
    # A second and a third piece a request would take 24 bytes more.
    assert sum(column.nbytes for column in columns) + 24 * count < 120e6
