"""The learned policy trained on a run's own first requests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import Row, plan, workload

from kvsim.config import load_config
from kvsim.errors import WorkloadError
from kvsim.modes.training import Train, accesses_of, is_learned, trained, with_model, without_first


def rows(num: int) -> list[Row]:
    return [Row(float(i), pieces=((i % 2, 512), (-1 - i, 300)), session_id=i % 3, output_tokens=2) for i in range(num)]


def test_chunks_are_numbered_as_they_come() -> None:
    found = accesses_of(workload(rows(3)), plan(1, 1))
    assert found.offsets == [0, 3, 6, 9]
    assert found.keys == [0, 1, 2, 3, 4, 5, 0, 1, 6]
    assert found.time_s == [0.0, 1.0, 2.0]
    assert found.turn == [0, 0, 0]


def test_what_trained_is_not_served() -> None:
    whole = replace(workload(rows(10)))
    rest = without_first(whole, 4)
    assert len(rest) == 6
    assert rest.arrival_s[0] == 0.0
    assert np.array_equal(rest.prompt_tokens, whole.prompt_tokens[4:])
    assert rest.request(0).pieces == whole.request(4).pieces
    assert Train("split", 0.4).num_requests(whole) == 4


def test_too_few_requests_are_refused_and_a_named_model_is_kept(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="too short to learn from"):
        trained(workload(rows(10)), plan(1, 1), Train("warmup", 0.3), tmp_path / "m.txt")
    assert not (tmp_path / "m.txt").exists()
    config = load_config(sets=["policies.eviction=learned"]).config
    assert is_learned(config)
    assert not is_learned(with_model(config, tmp_path / "m.txt"))
