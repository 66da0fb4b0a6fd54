"""The laws of conservation hold for a good run and notice a bad one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kvsim.record.result import COLUMNS, COMPONENTS, Table
from kvsim.sim.log.conservation import RequestCounts, exact, request_checks


def table() -> Table:
    """Two requests: arrived at 0 and 1, first token at 2 and 4, done at 5 and 9."""
    columns = {name: np.zeros(2) for name in COLUMNS}
    columns |= {
        "request_id": np.array([0.0, 1.0]),
        "arrival_s": np.array([0.0, 1.0]),
        "first_token_s": np.array([2.0, 4.0]),
        "finish_s": np.array([5.0, 9.0]),
        "prompt_tokens": np.array([10.0, 20.0]),
        "hit_tokens": np.array([4.0, 0.0]),
        "loaded_tokens": np.array([0.0, 5.0]),
        "computed_tokens": np.array([6.0, 15.0]),
        "queue_s": np.array([0.5, 1.0]),
        "prefill_s": np.array([1.5, 2.0]),
    }
    return columns


def counts() -> RequestCounts:
    found = RequestCounts()
    found.arrive(0.0)
    found.arrive(1.0)
    found.complete(5.0)
    found.complete(9.0)
    return found


def broken(of_table: Table, of_counts: RequestCounts) -> list[str]:
    return [check.name for check in request_checks(of_table, of_counts) if not check.ok]


def test_a_good_run_breaks_no_law() -> None:
    assert broken(table(), counts()) == []
    assert len(request_checks(table(), counts())) == 5


def test_the_population_is_integrated_on_its_own() -> None:
    found = counts()
    assert found.population_s == 5.0 + 8.0
    assert (found.in_flight, found.arrived, found.completed) == (0, 2, 2)


@pytest.mark.parametrize(
    ("spoil", "law"),
    [
        (lambda t: t["queue_s"].__setitem__(0, 0.5 + 2e-9), "largest |TTFT - sum of its parts|, s"),
        (lambda t: t["hit_tokens"].__setitem__(1, 1.0), "prompt tokens = hit + loaded + computed, over all requests"),
        (lambda t: t["finish_s"].__setitem__(1, 9.1), "Little's law: integral of N(t) = sum of sojourn times, s"),
    ],
)
def test_a_spoiled_table_is_noticed(spoil: Callable[[Table], None], law: str) -> None:
    spoiled = table()
    spoil(spoiled)
    assert broken(spoiled, counts()) == [law]


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_negative_part_is_noticed(component: str) -> None:
    spoiled = table()
    other = "prefill_s" if component != "prefill_s" else "queue_s"
    moved = spoiled[component][0] + 0.25
    spoiled[component][0] -= moved
    spoiled[other][0] += moved
    assert broken(spoiled, counts()) == ["smallest part of a TTFT, s"]


def test_a_lost_request_is_noticed() -> None:
    found = counts()
    lost = {name: column[:1] for name, column in table().items()}
    assert "requests in = done + failed + in flight" in broken(lost, found)


def test_while_someone_is_in_flight_little_s_law_is_not_asked() -> None:
    found = counts()
    found.arrive(10.0)
    assert broken(table(), found) == []
    assert len(request_checks(table(), found)) == 4


def test_failures_leave_at_once() -> None:
    found = RequestCounts()
    found.arrive(1.0)
    found.fail(1.0, 0.5)
    assert (found.in_flight, found.population_s) == (0, 0.0)


def test_exact_is_exact() -> None:
    assert exact("n", 3, 3).ok
    assert not exact("n", 3, 3 + 1e-12).ok


@pytest.mark.parametrize(("gap_s", "ok"), [(1e-9, True), (1e-6, False), (1e-4, False)])
def test_times_of_long_runs_are_known_less_exactly(gap_s: float, ok: bool) -> None:
    """A part that is wrong by a microsecond is seen after a day, and rounding after 10,000 years is no fault."""
    for since_s, holds in ((86_400.0, ok), (3e11, True)):
        table = {name: np.zeros(1) for name in COLUMNS}
        table |= {
            "arrival_s": np.array([since_s]),
            "first_token_s": np.array([since_s + 1]),
            "finish_s": np.array([since_s + 2]),
        }
        table["queue_s"] = np.array([1 - gap_s])
        counts = RequestCounts()
        checks = {check.name: check.ok for check in request_checks(table, counts)}
        assert checks["largest |TTFT - sum of its parts|, s"] == holds
