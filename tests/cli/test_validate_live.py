"""``validate live`` from the command line: rows measured before, a server, files, and every way to get it wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from model_server import Behaviour, Model
from simulated_server import LINE, MODEL, TRUE, Noise, measured, traffic

from kvsim.config import load_config
from kvsim.live.forms import WHOLE
from kvsim.measure.files import write_rows
from kvsim.measure.result import MeasuredRun

Kvsim = Callable[..., Any]
COUNT = 60


@cache
def recorded(seed: int = 1) -> MeasuredRun:
    return measured(traffic(COUNT, 3.0, seed), noise=Noise(0.02, 0.0005), seed=seed)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    write_rows(path, recorded())
    return path


def test_rows_are_calibrated_on_and_every_file_is_written(kvsim: Kvsim, rows: Path, tmp_path: Path) -> None:
    names = {name: tmp_path / name for name in ("live.json", "live.csv", "live.png", "mine.yaml")}
    json_, csv_, png, profile = names.values()
    found = kvsim(
        *("validate", "live", "--measured", rows, "--line", LINE, "--calibrate"),
        *("--json", json_, "--csv", csv_, "--plot", png, "--profile-out", profile),
    )
    assert found.code == 0, found.err
    assert "step times fitted whole to the first 30 requests" in found.out
    assert "not fitted on: 30 requests" in found.out
    assert all(len(line) <= 80 for line in found.out.splitlines())
    report = json.loads(json_.read_text())
    parts = report["compared"]["parts"]
    assert [parts[name]["requests"] for name in ("whole", "fitted_on", "not_fitted_on")] == [60, 30, 30]
    assert abs(parts["not_fitted_on"]["metrics"]["e2e"]["errors"]["mean_pct"]) < 5
    assert parts["whole"]["hits"]["equal_share"] == 1.0
    table = list(csv.DictReader(csv_.open()))
    assert [row["part"] for row in table].count("not fitted on") == 30
    errors = [float(row["e2e_ms_predicted"]) / float(row["e2e_ms"]) - 1 for row in table]
    assert max(map(abs, errors)) < 0.5
    assert png.read_bytes()[:4] == b"\x89PNG"
    _check_profile(kvsim, profile, rows, report)


def _check_profile(kvsim: Kvsim, profile: Path, rows: Path, report: dict) -> None:  # type: ignore[type-arg]
    """The overlay says what was fitted; ``predict`` takes it, and so does ``validate live``, front end and all."""
    values = report["calibration"]["values"]
    coefficients = load_config(overlay=profile).config.steptime.coefficients
    assert coefficients is not None
    for name in WHOLE:
        assert getattr(coefficients, name) == pytest.approx(values[name], rel=1e-4)
    assert coefficients.const_s == pytest.approx(TRUE[0], rel=0.15)
    written = yaml.safe_load(profile.read_text())
    assert written["fit_error"]["fitted_on_first"] == 30
    assert written["provenance"]["front_end_ms"] == pytest.approx(1e3 * report["calibration"]["front_end_s"], rel=1e-3)
    again = profile.with_suffix(".json")
    found = kvsim("validate", "live", "--measured", rows, "--line", LINE, "--profile", profile, "--json", again)
    assert found.code == 0, found.err
    second = json.loads(again.read_text())
    assert second["calibration"] is None
    ours, theirs = (each["compared"]["parts"]["whole"]["metrics"]["e2e"]["predicted_ms"] for each in (second, report))
    assert ours == pytest.approx(theirs, rel=1e-3)
    found = kvsim(
        *("predict", LINE, "--calibration-profile", profile, "--workload", "in=300,out=30", "--rate", "2"),
        *("--requests", "50", "--no-search", "--quiet"),
    )
    assert found.code == 0, found.err


def test_a_profile_that_is_known_is_scaled(kvsim: Kvsim, rows: Path, tmp_path: Path) -> None:
    """Of another machine: what is fitted is a factor and a host's time, and the file holds on its own."""
    json_, profile = tmp_path / "live.json", tmp_path / "mine.yaml"
    found = kvsim(
        *("validate", "live", "--measured", rows, "--line", LINE, "--gpu", "h100-sxm", "--calibrate"),
        *("--json", json_, "--profile-out", profile),
    )
    assert found.code == 0, found.err
    assert "before calibration, not fitted on: 30 requests" in found.out
    report = json.loads(json_.read_text())
    assert set(report["calibration"]["values"]) == {"factor", "host_s"}
    before, after = (
        abs(report[name]["parts"]["not_fitted_on"]["metrics"]["e2e"]["errors"]["mean_pct"])
        for name in ("before_calibration", "compared")
    )
    assert after < before
    assert load_config(overlay=profile).config.steptime.method == "fitted"


def test_a_server_is_measured_predicted_and_compared(kvsim: Kvsim, tmp_path: Path) -> None:
    json_, out = tmp_path / "live.json", tmp_path / "rows.jsonl"
    with Model(Behaviour(first_s=0.01, token_s=0.002)) as server:
        found = kvsim(
            *("validate", "live", "--url", server.url, "--line", LINE, "--gpu", "h100-sxm", "--repeats", "2"),
            *("--workload", "in=40,out=4", "--rate", "40", "--requests", "20", "--json", json_, "--out", out),
        )
    assert found.code == 0, found.err
    report = json.loads(json_.read_text())
    assert [run["answered"] for run in report["runs"]] == [20, 20]
    assert report["server"]["told_by"] == ["/v1/models", "the line"]
    whole = report["compared"]["parts"]["whole"]
    assert whole["requests"] == 40
    assert whole["metrics"]["ttft"]["error_pct"]["half_width"] is not None
    assert (tmp_path / "rows-1.jsonl").is_file() or (tmp_path / "rows.1.jsonl").is_file()


def test_rows_say_which_model_and_version_it_was(kvsim: Kvsim, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, replace(recorded(), server={"version": "0.32.0", "max_model_len": 4096}))
    found = kvsim("validate", "live", "--measured", path)
    assert found.code == 0, found.err
    assert f"one run of {MODEL}, vLLM 0.32.0" in found.out
    said = " ".join(found.out.split())
    assert "nobody says how many tokens a step has: vLLM's defaults are taken" in said
    assert "nobody says on what it runs: predicted is" in said


def test_damaged_rows_are_named_and_nothing_is_written(kvsim: Kvsim, rows: Path, tmp_path: Path) -> None:
    lines = rows.read_text().splitlines()
    broken = json.loads(lines[5])
    broken["finish_s"] = broken["sent_s"] - 1
    lines[5] = json.dumps(broken)
    rows.write_text("\n".join(lines) + "\n")
    json_ = tmp_path / "live.json"
    found = kvsim("validate", "live", "--measured", rows, "--line", LINE, "--json", json_)
    assert found.code == 2
    assert len(found.err.splitlines()) == 1
    assert "rows.jsonl: request 5: finish_s" in found.err
    assert not json_.exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "give --url URL, or rows that were measured before by --measured FILE"),
        (("--url", "http://127.0.0.1:1", "--measured", "ROWS"), "give --url URL, or rows"),
        (("--measured", "NAMELESS"), "which model is served is nowhere said"),
        (("--measured", "ROWS", "--line", "vllm serve nobody/knows"), "unknown model 'nobody/knows'"),
        (("--measured", "ROWS", "--line", LINE, "--profile-out", "x.yaml"), "--profile-out needs --calibrate"),
        (("--measured", "ROWS", "--line", LINE, "--repeats", "2"), "--repeats needs --url"),
        (("--measured", "ROWS", "--line", LINE, "--gpu", "h100", "--profile", "x"), "exclude each other"),
        (("--measured", "nothing.jsonl", "--line", LINE), "nothing.jsonl"),
        (("--measured", "ROWS", "--line", LINE, "--calibrate", "--calibrate-share", "0.1"), "a fit takes 20"),
        (("--measured", "ROWS", "--line", LINE, "--json", "ROWS"), "--json"),
        (("--measured", "ROWS", "--line", LINE, "--plot", "no/folder.png"), "no/folder.png"),
        (("--url", "http://127.0.0.1:1", "--rate", "2"), "no server answers at http://127.0.0.1:1"),
        (("--url", "127.0.0.1", "--rate", "2"), "http://HOST:PORT"),
        (("--measured", "ROWS", "--model-config", MODEL, "--vllm-version", "new"), "--vllm-version"),
    ],
)
def test_bad_input_is_one_line(kvsim: Kvsim, rows: Path, flags: tuple[str, ...], words: str) -> None:
    nameless = rows.with_name("nameless.jsonl")
    write_rows(nameless, replace(recorded(), model=""))
    given = [{"ROWS": str(rows), "NAMELESS": str(nameless)}.get(flag, flag) for flag in flags]
    found = kvsim("validate", "live", *given)
    assert found.code == 2, found
    assert found.out == ""
    assert len(found.err.splitlines()) == 1
    assert words in found.err
