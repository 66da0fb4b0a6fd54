"""The runs of a sweep: which, in which order, with which seeds and ids."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.errors import ConfigError
from kvsim.sweep.plan import Plan, seed_of
from kvsim.sweep.schema import Range
from kvsim.sweep.sweep import Sweep, read_sweep, sweep_of

KEYS = {"rate": (1, 2, 5), "engine.max_num_seqs": (8, 16)}


def sweep(**changes: object) -> Sweep:
    base = {
        "fixed": {"server": "vllm serve x"},
        "sets": {},
        "keys": KEYS,
        "sampling": "grid",
        "samples": None,
        "replications": 2,
        "seed": 7,
        "files": {},
        "folder": Path(),
    }
    return Sweep(**(base | changes))  # type: ignore[arg-type]


def test_a_grid_is_every_combination_and_the_last_key_changes_fastest() -> None:
    runs = list(Plan(sweep()).runs())
    assert [tuple(run.values.values()) for run in runs[::2]] == list(product(*KEYS.values()))
    assert [(run.number, run.point, run.replication) for run in runs] == [(n, n // 2, n % 2) for n in range(12)]
    assert list(runs[0].values) == list(KEYS)


def test_a_replication_has_the_same_seed_at_every_point_and_whatever_their_number() -> None:
    few, more = (list(Plan(sweep(replications=n)).runs()) for n in (2, 5))
    assert {run.seed for run in few if run.replication == 1} == {seed_of(7, 1)}
    assert [run.seed for run in more[:2]] == [run.seed for run in few[:2]]
    assert len({seed_of(7, n) for n in range(1000)} | {seed_of(8, n) for n in range(1000)}) == 2000
    assert all(0 <= seed_of(7, n) < 2**53 for n in range(100))


def test_an_id_is_of_what_is_run_and_of_nothing_else() -> None:
    runs = list(Plan(sweep()).runs())
    assert len({run.id for run in runs}) == len(runs)
    wider = {run.id: run for run in Plan(sweep(keys=KEYS | {"rate": (9, 1, 2, 5)}, replications=3)).runs()}
    assert {wider[run.id].values["rate"] for run in runs} == {1, 2, 5}
    assert not {run.id for run in Plan(sweep(sets={"slo.ttft_ms": 1.0})).runs()} & {run.id for run in runs}


def test_a_file_is_known_by_its_content() -> None:
    def ids(content: str, name: str = "a.csv") -> list[str]:
        one = sweep(fixed={"mode": "pd"}, keys={"trace": (name,)}, files={name: content})
        return [run.id for run in Plan(one).runs()]

    assert ids("aa") == ids("aa", "b.csv") != ids("bb")


@given(
    low=st.floats(1e-3, 1e3),
    factor=st.floats(1.1, 1e4),
    log=st.booleans(),
    sampling=st.sampled_from(["random"]),
    seed=st.integers(0, 99),
)
def test_drawn_values_are_within_their_range(low: float, factor: float, log: bool, sampling: str, seed: int) -> None:
    ranges = {"rate": Range(low=low, high=low * factor, log=log), "requests": Range(low=1.0, high=3.0, integer=True)}
    plan = Plan(sweep(keys=ranges, sampling=sampling, samples=20, replications=1, seed=seed))
    for run in plan.runs():
        assert low <= run.values["rate"] <= low * factor
        assert run.values["requests"] in (1, 2, 3) and isinstance(run.values["requests"], int)


def test_a_latin_hypercube_has_one_sample_in_each_part_of_every_axis() -> None:
    keys = {"rate": Range(low=0.0, high=8.0), "load": Range(low=1.0, high=256.0, log=True), "tp": (1, 2)}
    plan = Plan(sweep(keys=keys, sampling="lhs", samples=8, replications=1))
    points = [run.values for run in plan.runs()]
    assert sorted(int(point["rate"]) for point in points) == list(range(8))
    assert sorted(int(point["load"]).bit_length() for point in points) == list(range(1, 9))
    assert sorted(point["tp"] for point in points) == [1] * 4 + [2] * 4
    assert points == [run.values for run in Plan(sweep(keys=keys, sampling="lhs", samples=8, replications=1)).runs()]


def test_points_that_are_drawn_twice_are_run_once() -> None:
    plan = Plan(sweep(sampling="random", samples=50, replications=1))
    assert len(plan) == plan.num_points == 6
    assert len({run.id for run in plan.runs()}) == 6


def test_too_many_runs_are_refused_before_they_are_made() -> None:
    keys = {f"k{n}": tuple(range(1000)) for n in range(3)}
    with pytest.raises(ConfigError, match=r"1,000,000,000 points x 2 replications are 2,000,000,000 runs; allowed: 5"):
        Plan(sweep(keys=keys), max_runs=5)
    assert len(Plan(sweep(), max_runs=12)) == 12


def test_a_sweep_is_read_again_from_what_it_says() -> None:
    one = sweep(keys={"rate": Range(low=1.0, high=2.0), "tp": (1, None)}, sampling="lhs", samples=3)
    assert sweep_of(one.says, Path()) == one
    assert sweep_of(one.says, Path()).digest == one.digest != sweep().digest


def test_files_are_named_from_the_sweeps_own(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    (tmp_path / "s.yaml").write_text("mode: pd\nkeys: {trace: [t.csv], routing.decode: [capacity]}\n")
    found = read_sweep(tmp_path / "s.yaml")
    assert list(found.files) == ["t.csv"] and found.folder == tmp_path
    assert found.seed == 42 and found.replications == 1
