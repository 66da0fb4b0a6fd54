"""Chunks of repeats make the run that they are of, byte for byte; what is not one run is refused."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kv_trials import design_tree, trials

from kvsim.lab.kv.analysis.merge import merged, read_chunks
from kvsim.lab.kv.folder import REQUESTS, RUN, write_run
from kvsim.lab.kv.trial import Trials

WHOLE = trials(repeats=range(6), points=[{"requests": 2}, {"requests": 4}], vary={"requests": [2, 4]}, requests=2)


def part(found: Trials, repeats: list[int]) -> Trials:
    return replace(
        found,
        phases=tuple(row for row in found.phases if row.repeat in repeats),
        requests=tuple(row for row in found.requests if row.repeat in repeats),
    )


def written(folder: Path, found: Trials) -> Path:
    folder.mkdir(parents=True)
    write_run(folder, found)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@given(st.lists(st.integers(0, 3), min_size=6, max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_any_split_in_any_order_gives_the_bytes_of_the_whole(owners: list[int], draws: Any) -> None:
    whole = replace(WHOLE, design={**WHOLE.design, "repeats": 6})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chunks = []
        for owner in sorted(set(owners)):
            repeats = [repeat for repeat in range(6) if owners[repeat] == owner]
            chunks.append(written(folder / f"chunk{owner}", part(whole, repeats)))
        chunks.append(chunks[0])
        draws.shuffle(chunks)
        found, _ = read_chunks(chunks, skip_damaged=False)
        together = files_of(written(folder / "merged", merged(found)))
        assert together == files_of(written(folder / "whole", whole))


def test_repeats_are_those_asked_for_or_there(tmp_path: Path) -> None:
    one = written(tmp_path / "a", replace(part(WHOLE, [0, 1]), design={**WHOLE.design, "repeats": 2}))
    two = written(tmp_path / "b", replace(part(WHOLE, [2, 3]), design={**WHOLE.design, "repeats": 2}))
    found, _ = read_chunks([two, one], skip_damaged=False)
    assert merged(found).design["repeats"] == 4


def test_notes_of_chunks_stand_in_one_order(tmp_path: Path) -> None:
    one = written(tmp_path / "a", replace(part(WHOLE, [0]), notes=("zeroth", "both")))
    two = written(tmp_path / "b", replace(part(WHOLE, [1]), notes=("both", "first")))
    orders = [merged(read_chunks(each, skip_damaged=False)[0]) for each in ([one, two], [two, one])]
    assert orders[0] == orders[1] and orders[0].notes == ("zeroth", "both", "first")


def test_the_verb_writes_the_run_and_its_report(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    one, two = written(tmp_path / "a", part(WHOLE, [0, 2])), written(tmp_path / "b", part(WHOLE, [1, 2, 3]))
    found = kvsim("lab", "merge", one, two, "-o", tmp_path / "x", "--no-plot")
    other = kvsim("lab", "merge", two, one, "-o", tmp_path / "y", "--no-plot", "--quiet")
    assert (found.code, other.code) == (0, 0) and found.out.split() == other.out.split() and "4 repeats" in other.out
    assert files_of(tmp_path / "x") == files_of(tmp_path / "y") and "lab-result.json" in files_of(tmp_path / "x")
    assert "repeats are missing: 4" in other.err and "wrote" not in other.err
    assert kvsim("lab", "merge", one, "-o", tmp_path / "x", "--no-plot").code == 0


def test_a_damaged_chunk_is_named_and_left_out_on_demand(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    one, two = written(tmp_path / "a", part(WHOLE, [0, 1])), written(tmp_path / "b", part(WHOLE, [2, 3]))
    (two / REQUESTS).write_text((two / REQUESTS).read_text()[:-40])
    found = kvsim("lab", "merge", one, two, "-o", tmp_path / "x")
    assert found.code == 2 and found.err.count("\n") == 1 and str(two / REQUESTS) in found.err
    assert not (tmp_path / "x").exists()
    found = kvsim("lab", "merge", one, two, "-o", tmp_path / "x", "--skip-damaged", "--no-plot")
    assert found.code == 0 and f"left out: {two / REQUESTS}" in found.err and "2 repeats" in found.out
    assert kvsim("lab", "merge", two, "-o", tmp_path / "y", "--skip-damaged").code == 2


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(WHOLE, name="else"), "design 'drawn' and 'else'"),
        (replace(WHOLE, backend="url"), "backend 'simulated' and 'url'"),
        (replace(WHOLE, design=design_tree(vary={"requests": [2, 4]}, seed=9)), "seed is 0 and 9"),
        (replace(WHOLE, server={"gpu": "b"}), "server: gpu is 'h' and 'b'"),
        (trials(seed=2, repeats=[0], points=[{"requests": 2}], vary={"requests": [2, 4]}), "repeat 0 has other rows"),
    ],
)
def test_chunks_of_other_runs_are_refused(kvsim: Callable[..., Any], tmp_path: Path, other: Trials, said: str) -> None:
    one, two = written(tmp_path / "a", part(WHOLE, [0])), written(tmp_path / "b", part(other, [0]))
    found = kvsim("lab", "merge", one, two, "-o", tmp_path / "x")
    assert found.code == 2 and found.err.count("\n") == 1
    assert said in found.err and str(one) in found.err and str(two) in found.err


def test_bad_input_of_merge_is_one_line(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    one = written(tmp_path / "a", part(WHOLE, [0]))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "kept.txt").write_text("x")
    for arguments, said in (
        (("-o", tmp_path / "x"), "DIR is missing"),
        ((one,), "-o DIR is missing"),
        ((one, "-o", one), "which is read"),
        ((one, "-o", mine), "no lab-run.json"),
        ((tmp_path / "none", "-o", tmp_path / "x"), "none"),
        ((mine, "-o", tmp_path / "x"), RUN),
    ):
        found = kvsim("lab", "merge", *arguments)
        assert found.code == 2 and found.err.count("\n") == 1 and said in found.err, arguments
    assert (mine / "kept.txt").read_text() == "x" and not (tmp_path / "x").exists()
