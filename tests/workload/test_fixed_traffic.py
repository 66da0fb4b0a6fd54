from __future__ import annotations

import numpy as np
import pytest

from kvsim.errors import WorkloadError
from kvsim.workload.synthetic.fixed import fixed


def test_constant_arrivals() -> None:
    workload = fixed(3, 4.0, 100, 7, "constant", seed=1)
    assert [(r.arrival_s, r.prompt_tokens, r.output_tokens, r.pieces) for r in workload] == [
        (0.25, 100, 7, ((-1, 100),)),
        (0.5, 100, 7, ((-2, 100),)),
        (0.75, 100, 7, ((-3, 100),)),
    ]


def test_poisson_gaps_are_exponential_and_seeded() -> None:
    workload = fixed(50_000, 8.0, 10, 1, "poisson", seed=3)
    gaps = np.diff(workload.arrival_s)
    assert gaps.mean() == pytest.approx(1 / 8, rel=0.02)
    assert gaps.std() == pytest.approx(1 / 8, rel=0.02)
    assert workload.arrival_s.tolist() == fixed(50_000, 8.0, 10, 1, "poisson", seed=3).arrival_s.tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 1.0, 1, 1, "poisson"), "number of requests is 0"),
        ((1, 1.0, 0, 1, "poisson"), "number of prompt tokens is 0"),
        ((1, 1.0, 1, -1, "poisson"), "number of output tokens is -1"),
        ((1, 0.0, 1, 1, "poisson"), "arrival rate is 0.0"),
        ((1, 1.0, 1, 1, "poison"), "did you mean 'poisson'"),
    ],
)
def test_bad_arguments(arguments, words: str) -> None:
    with pytest.raises(WorkloadError, match=words):
        fixed(*arguments, seed=1)
