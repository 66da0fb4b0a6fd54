"""What requests on an instance share, as they met: by hand."""

from __future__ import annotations

import numpy as np
import pytest
from builders import Row, plan, workload

from kvsim.capacity.demand import demand_of
from kvsim.capacity.gathered import beside_s, gathered_prompts, unified_facts
from kvsim.workload.workload import Workload

HEAD, OWN = 80, 20


def alike(*heads: int) -> Workload:
    """Requests that begin with one of some heads, and go on alone."""
    return workload([Row(0, 0, 5, ((head, HEAD), (-1 - i, OWN))) for i, head in enumerate(heads)])


def residences(*residences: tuple[int, float, float]) -> dict[str, np.ndarray]:
    """Instance, since when, until when."""
    instance, start_s, end_s = (np.array(values, dtype=np.float64) for values in zip(*residences, strict=True))
    return {
        "request_id": np.arange(len(residences)),
        "prefill_instance": instance,
        "arrival_s": np.zeros(len(residences)),
        "retry_s": np.zeros(len(residences)),
        "proxy_s": np.zeros(len(residences)),
        "queue_s": start_s,
        "finish_s": end_s,
    }


def test_time_beside_others() -> None:
    group, start_s, end_s = np.array([0, 0, 0, 1]), np.array([0.0, 1, 8, 0]), np.array([4.0, 3, 9, 9])
    assert beside_s(group, start_s, end_s).tolist() == [2, 2, 0, 0]


def test_those_of_an_instance_hold_a_head_once() -> None:
    """Two heads, an instance each: six requests hold a head and six tails."""
    table = residences(*((i % 2, 0.0, 10.0) for i in range(12)))
    found = gathered_prompts(alike(*(i % 2 for i in range(12))), table)
    assert found.private_tokens == pytest.approx(OWN)
    assert found.held_tokens(6) == pytest.approx(HEAD + 6 * OWN)


def test_met_by_chance_it_is_what_the_population_has() -> None:
    """Both heads on one instance: of eleven beside one, five hold the same."""
    found = gathered_prompts(alike(*(i % 2 for i in range(12))), residences(*((0, 0.0, 10.0) for _ in range(12))))
    assert found.held_tokens(1) == pytest.approx(HEAD + OWN)
    assert found.held_tokens(2) == pytest.approx(2 * OWN + HEAD * (1 + 6 / 11))


def test_turns_one_after_the_other_share_nothing() -> None:
    found = gathered_prompts(alike(3, 3, 3), residences((0, 0.0, 2.0), (0, 2.5, 4.0), (0, 4.0, 7.0)))
    assert found.held_tokens(4) == pytest.approx(4 * (HEAD + OWN))
    others = gathered_prompts(alike(3, 3), residences((0, 0.0, 2.0), (1, 0.0, 2.0)))
    assert others.held_tokens(4) == pytest.approx(4 * (HEAD + OWN))


def test_shares_are_those_of_other_prompts_too() -> None:
    found = gathered_prompts(alike(3, 3), residences((0, 0.0, 2.0), (0, 0.0, 2.0))).for_prompts_of(2 * (HEAD + OWN))
    assert found.held_tokens(1) == pytest.approx(2 * (HEAD + OWN))
    assert found.held_tokens(3) == pytest.approx(2 * (HEAD + 3 * OWN))


def test_without_a_cache_nothing_is_shared() -> None:
    requests, table = (
        alike(1, 1),
        residences((0, 0.0, 2.0), (0, 0.0, 2.0))
        | {name: np.zeros(2) for name in ("hit_tokens", "loaded_tokens", "transferred_bytes")},
    )
    table["prompt_tokens"] = np.full(2, float(HEAD + OWN))
    rows = np.ones(2, dtype=bool)
    for caching, held in ((True, HEAD + 2 * OWN), (False, 2 * (HEAD + OWN))):
        found = plan(1, 1, enable_prefix_caching=caching)
        demand = demand_of(requests, found, unified_facts(requests, table, rows, found))
        assert demand.shared.held_tokens(2) == pytest.approx(held)
