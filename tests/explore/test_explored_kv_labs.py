"""Runs of the KV lab on the site: a row a point and phase, intervals, requests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kv_trials import trials

from kvsim.cli.entry import main
from kvsim.explore.collect import collect
from kvsim.explore.site import detail_of, index_of
from kvsim.failures import Failures
from kvsim.lab.kv.analysis.report import write_report
from kvsim.lab.kv.folder import write_run
from kvsim.lab.kv.trial import Trials


def reported(folder: Path, found: Trials, *, plots: bool = False) -> Path:
    folder.mkdir()
    failures = Failures()
    write_run(folder, found)
    write_report(folder, found, failures, plots=plots)
    assert not failures.found
    return folder


def test_a_point_and_phase_is_an_entry(tmp_path: Path) -> None:
    points: list[dict[str, float]] = [{"requests": 4}, {"requests": 8}]
    found = trials(points=points, vary={"requests": [4, 8]}, order="alternate", repeats=range(4), backend="url")
    (one,) = collect([reported(tmp_path / "run", found) / "lab-result.json"], tmp_path / "site").artefacts
    assert [entry.name for entry in one.entries] == [
        f"requests {count}, {phase}" for count in (4, 8) for phase in ("cold", "cache")
    ]
    cold, cache = one.entries[:2]
    assert (cold.cache, cache.cache, cold.order, cold.backend) == ("off", "on", "alternate", "url")
    assert (cold.model, cold.gpu, cold.workload) == ("Qwen/Qwen3-8B", "h100", "shared")
    assert (cache.figures.hit_rate, cache.figures.requests) == (0.64, 16)
    ttft_ms = [row.ttft_mean_ms for row in found.phases if (row.point, row.phase) == (0, "cache")]
    assert cache.figures.ttft_mean_ms == pytest.approx(sum(each or 0 for each in ttft_ms) / 4)
    assert cache.curves["TTFT"][0][0] == 0 and len(cache.curves["E2E"]) == 9


def test_the_page_has_intervals_phases_and_requests(tmp_path: Path) -> None:
    folder = reported(tmp_path / "run", trials(), plots=True)
    found = collect([folder], tmp_path / "site")
    (one,) = found.artefacts
    assert not found.skipped and one.picture == folder / "figure.png" and one.kind == "lab"
    blocks = {block["title"]: block for block in one.blocks}
    told = json.loads((folder / "lab-result.json").read_text())
    effect = told["effects"][0]
    row = blocks["Paired differences, as a share of the first phase"]["rows"][0]
    assert row == [
        "ttft mean: cache less cold",
        *(effect[n] / effect["base_mean"] for n in ("difference", "low", "high")),
    ]
    assert len(blocks["Phases"]["rows"]) == 2 and len(blocks["Requests"]["rows"]) == 6
    json.dumps([index_of([one]), detail_of(one)], allow_nan=False)


def test_one_repeat_or_none_that_started_is_shown(tmp_path: Path) -> None:
    reported(tmp_path / "one", trials(repeats=[0], compare="nothing"))
    assert main(["explore", str(tmp_path / "one"), "-o", str(tmp_path / "site"), "--quiet"]) == 0
    other = tmp_path / "one" / "lab-result.json"
    other.write_text(json.dumps(json.loads(other.read_text()) | {"version": "0.0.0"}))
    assert main(["explore", str(other), "-o", str(tmp_path / "site"), "--quiet"]) == 2
