"""A run that kvsim itself made, measured again: nothing is off. And runs that cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.cli import main
from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.validate.accuracy import accuracy_of
from kvsim.validate.calibrate.residual_fit import residual_keys
from kvsim.validate.compare_run import run_accuracy
from kvsim.validate.measured_run import read_run
from kvsim.validate.predict_run import load_run, predict_run
from kvsim.workload.read import read_trace

PROFILE = Path("rtx-pro-6000_llama-3.1-8b_tp1_bf16")
ENGINE = {"tensor_parallel_size": 1, "max_num_seqs": 16, "max_num_batched_tokens": 512, "max_model_len": 4096}
COUNT = 40
TIMES = ("queued_s", "scheduled_s", "first_token_s", "finish_s")


@pytest.fixture
def measured(tmp_path: Path) -> tuple[Path, Path]:
    return made(tmp_path, [])


def made(tmp_path: Path, sets: list[str]) -> tuple[Path, Path]:
    """Folder and workload of a run whose times are those that kvsim predicts with these settings."""
    folder, workload = tmp_path / "run", tmp_path / "workload.jsonl"
    folder.mkdir()
    generator = np.random.default_rng(3)
    rows = []
    with workload.open("w", encoding="utf-8") as lines:
        for i in range(COUNT):
            prompt, output = int(generator.integers(20, 900)), int(generator.integers(1, 120))
            row = {"input_toks": prompt, "output_toks": output, "arrival_time_ns": int(i * 2e7)}
            lines.write(json.dumps(row | {"input_tok_ids": generator.integers(0, 9999, prompt).tolist()}) + "\n")
            rows.append((i * 0.02, prompt, output))
    _write(folder, [_request(i, *row, 0.0, 0.05, 0.1, 0.2) for i, row in enumerate(rows)])
    run = read_run(folder)
    found = predict_run(run, read_trace(workload), load_run(run, PROFILE, None, sets))
    times = zip(*(found.requests[name] for name in TIMES), strict=True)
    _write(folder, [_request(i, *row, *map(float, at)) for i, (row, at) in enumerate(zip(rows, times, strict=True))])
    return folder, workload


def _request(
    i: int, arrival_s: float, prompt: int, output: int, queued_s: float, started_s: float, first_s: float, last_s: float
) -> dict[str, Any]:
    clock_s = 5000.0
    return {
        "request_id": f"r-{i}", "input_toks": prompt, "output_toks": output, "arrival_time": 1e9 + arrival_s,
        "queued_ts": clock_s + max(queued_s, arrival_s), "scheduled_ts": clock_s + max(started_s, arrival_s),
        "first_token_ts": clock_s + max(first_s, arrival_s), "last_token_ts": clock_s + max(last_s, arrival_s),
    }  # fmt: skip


def _write(folder: Path, rows: list[dict[str, Any]]) -> None:
    meta = {"model": "meta-llama/Llama-3.1-8B", "vllm_version": "0.19.0"}
    meta |= {"engine_kwargs": ENGINE, "num_requests": COUNT}
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    (folder / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_run_of_its_own_is_predicted_exactly(
    measured: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder, workload = measured
    out, plot = tmp_path / "out.json", tmp_path / "plot.png"
    flags = ["--measured", str(folder), "--workload", str(workload), "--profile", str(PROFILE)]
    assert main(["validate", "run", *flags, "--json", str(out), "--plot", str(plot)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    for metric in ("ttft", "ttft_from_queued", "tpot", "e2e"):
        # Times were written on a wall clock of 1e9 s: 1e-7 s is what a double keeps there.
        assert report["errors"][metric]["mape_pct"] < 1e-3, metric
    assert report["engine_steps"] > 100
    assert {row["kind"] for row in report["steps"]} == {"decode", "mixed"}
    assert all(abs(row["error_pct"]) < 0.1 for row in report["steps"])
    assert sum(row["steps"] for row in report["steps"]) > 100
    assert plot.stat().st_size > 10_000
    assert "E2E" in capsys.readouterr().out


def test_slower_steps_are_seen(measured: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder, workload = measured
    out = tmp_path / "out.json"
    flags = ["--measured", str(folder), "--workload", str(workload), "--profile", str(PROFILE), "--json", str(out)]
    assert main(["validate", "run", *flags, "--set", "pd_separation.compute.overhead_factor=1.1"]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert 5 < report["errors"]["e2e"]["mean_pct"] < 30
    assert all(9.5 < row["error_pct"] < 10.5 for row in report["steps"] if row["kind"] == "decode")
    capsys.readouterr()


def test_a_residual_fit_finds_what_the_profile_misses(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder, workload = made(tmp_path, [f"{key}={value}" for key, value in residual_keys(PROFILE, 1.12, 0.002).items()])
    profile = tmp_path / "mended.yaml"
    flags = ["--measured", str(folder), "--workload", str(workload), "--profile", str(PROFILE), "-o", str(profile)]
    assert main(["calibrate", "requests", *flags, "--first", "25"]) == 0
    mended = load_config(overlay=profile)
    assert mended.config.pd_separation.compute.overhead_factor == pytest.approx(1.12, rel=0.02)
    assert abs(mended.provenance.fit_error["held_out_mean_error_pct"]["e2e"]) < 0.5
    run = read_run(folder)
    found = predict_run(run, read_trace(workload), load_run(run, profile, None, []))
    assert abs(run_accuracy(run, found)["e2e"].mean_pct) < 0.5
    capsys.readouterr()
    assert main(["calibrate", "requests", *flags, "--first", "5"]) == 2
    assert "takes 10 requests or more" in capsys.readouterr().err


def _spoilt(place: int, key: str, value: object) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: rows[place].update({key: value})


BAD = {
    r"requests.jsonl: line 4: output_toks = 0: must be a whole number": _spoilt(3, "output_toks", 0),
    r"requests.jsonl: line 1: arrival_time = -1: must be a time": _spoilt(0, "arrival_time", -1),
    r"requests.jsonl: line 2: first_token_ts = None": _spoilt(1, "first_token_ts", None),
    r"requests.jsonl: line 2: .* must not go back in time": _spoilt(1, "first_token_ts", 1.0),
    r"requests.jsonl: line 2: the request takes .* at most a day": _spoilt(1, "last_token_ts", 1e6),
    r"requests.jsonl: line 3: request_id = 'r-0' stands there twice": _spoilt(2, "request_id", "r-0"),
    r"requests.jsonl: line 3: request_id = \[1\]: must be text or a whole number": _spoilt(2, "request_id", [1]),
    r"requests.jsonl: line 2: scheduled_ts must lie between": _spoilt(1, "scheduled_ts", 1.0),
    r"meta.json states 40 requests, requests.jsonl holds 39": lambda rows: rows.pop(),
    r"request 5 was measured with 7 output tokens; the workload's has": _spoilt(4, "output_toks", 7),
}


@pytest.mark.parametrize(("message", "spoil"), BAD.items(), ids=range(len(BAD)))
def test_runs_that_cannot_be_are_refused_in_one_line(
    measured: tuple[Path, Path], capsys: pytest.CaptureFixture, message: str, spoil: Callable[[Any], None]
) -> None:
    folder, workload = measured
    rows = [json.loads(line) for line in (folder / "requests.jsonl").read_text(encoding="utf-8").splitlines()]
    spoil(rows)
    _write(folder, rows)
    with pytest.raises(ConfigError, match=message):
        run = read_run(folder)
        predict_run(run, read_trace(workload), load_run(run, PROFILE, None, []))
    flags = ["--measured", str(folder), "--workload", str(workload), "--profile", str(PROFILE)]
    assert main(["validate", "run", *flags]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=30), st.floats(0.5, 2.0))
def test_errors_are_relative(times: list[float], factor: float) -> None:
    measured = np.array([*times, np.nan])
    found = asdict(accuracy_of(measured * factor, measured))
    for name, value in found.items():
        expected = abs(factor - 1) * 100 if name == "mape_pct" else (factor - 1) * 100
        assert value == pytest.approx(expected, abs=1e-6), name
