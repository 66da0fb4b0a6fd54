"""A simulated run beside a measured one: errors, signs, hits, and runs that are not of one design."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kv_trials import trials

from kvsim.lab.kv.analysis.compare import compared
from kvsim.lab.kv.analysis.compare_shown import sentences
from kvsim.lab.kv.folder import write_run
from kvsim.lab.kv.trial import Trials

SIM = trials(-20.0, repeats=range(4), noise=0.05)
LIVE = trials(-20.0, repeats=range(4), noise=0.05, seed=2, backend="url")


def written(folder: Path, found: Trials) -> Path:
    folder.mkdir(parents=True)
    write_run(folder, found)
    return folder


def both(tmp_path: Path, sim: Trials = SIM, live: Trials = LIVE) -> tuple[Path, Path]:
    return written(tmp_path / "sim", sim), written(tmp_path / "live", live)


def test_errors_are_of_what_was_measured(tmp_path: Path) -> None:
    live = replace(LIVE, phases=tuple(replace(row, ttft_mean_ms=50.0) for row in LIVE.phases))
    sim = replace(SIM, phases=tuple(replace(row, ttft_mean_ms=40.0) for row in SIM.phases))
    found = compared(*both(tmp_path, sim, live))
    errors = [each.error_pct for each in found.figures if each.metric == "ttft_mean_ms"]
    assert errors == [pytest.approx(-20.0)] * 2
    cold = next(each for each in found.figures if each.metric == "hit_share" and each.phase == "cold")
    assert (cold.predicted, cold.error_pct) == (0.0, None)
    pair = next(each for each in found.effects if each.predicted.metric == "ttft_mean_ms")
    assert (pair.sign, pair.within) == ("same", True)


def test_signs_agree_differ_or_cannot_be_told(tmp_path: Path) -> None:
    def sign(live: Trials, name: str) -> tuple[str, bool | None]:
        found = compared(*both(tmp_path / name, live=live))
        pair = next(each for each in found.effects if each.predicted.metric == "ttft_mean_ms")
        return pair.sign, pair.within

    more = trials(20.0, repeats=range(4), noise=0.05, seed=2, backend="url")
    assert sign(LIVE, "a")[0] == "same" and sign(more, "b") == ("other", False)
    none = trials(0.0, repeats=range(4), noise=0.05, seed=3, backend="url")
    assert sign(none, "c") == ("cannot be told", False)
    bare = tuple(replace(row, ttft_mean_ms=None) for row in LIVE.phases)
    assert sign(replace(LIVE, phases=bare), "d") == ("cannot be told", None)


def test_hits_are_compared_request_by_request(tmp_path: Path) -> None:
    assert "hits are exactly equal in all 32 requests that both have" in list(
        sentences(compared(*both(tmp_path / "a")))
    )
    other = replace(
        LIVE, requests=tuple(replace(r, cached_tokens=(r.cached_tokens or 0) and 48) for r in LIVE.requests)
    )
    said = list(sentences(compared(*both(tmp_path / "b", live=other))))
    assert "hits are equal in 16 of 32 requests that both have; +256 tokens predicted in sum" in said
    gone = replace(LIVE, requests=tuple(replace(row, cached_tokens=None) for row in LIVE.requests))
    assert any("hits cannot be compared" in line for line in sentences(compared(*both(tmp_path / "c", live=gone))))


def test_the_verb_prints_and_writes(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    sim, live = both(tmp_path)
    found = kvsim("lab", "compare", sim, live, "-o", tmp_path / "o")
    assert found.code == 0 and "predicted over 4 repeats, measured over 4 repeats" in found.out
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["compare.json", "compare.png"]
    told = json.loads((tmp_path / "o" / "compare.json").read_text())
    assert told["backends"] == ["simulated", "url"] and len(told["figures"]) == 16
    quiet = kvsim("lab", "compare", sim, live, "--quiet")
    assert quiet.code == 0 and quiet.out == found.out[-len(quiet.out) :] and quiet.err == ""


def test_bad_input_of_compare_is_one_line(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    sim, live = both(tmp_path)
    other = written(tmp_path / "seed", replace(LIVE, design={**LIVE.design, "requests": 99}))
    less = written(tmp_path / "less", replace(LIVE, phases=tuple(r for r in LIVE.phases if r.phase == "cold")))
    (tmp_path / "file.txt").write_text("mine")
    for arguments, said in (
        ((sim,), "two folders are wanted"),
        ((live, sim), "of backend 'url'; the first folder is of 'simulated'"),
        ((sim, other), "requests is 16 and 99; runs of one design are wanted"),
        ((sim, less), "has no phase 'cache' at point 0, which the other has"),
        ((sim, tmp_path / "none"), "none"),
        ((sim, live, "-o", tmp_path / "file.txt"), "file.txt"),
    ):
        found = kvsim("lab", "compare", *arguments)
        assert found.code == 2 and found.err.count("\n") == 1 and said in found.err, (arguments, found.err)
    assert (tmp_path / "file.txt").read_text() == "mine"
