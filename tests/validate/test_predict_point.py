"""Operating points: what is read, and that more users wait longer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvsim.cli import main
from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.validate.clients.users import CLIENTS, users
from kvsim.validate.operating_points import OperatingPoint, read_points
from kvsim.validate.predict_point import predict_point

HEAD = "model,gpu,backend_version,precision,tp_size,isl,osl,concurrency,ttft_mean_ms,tpot_mean_ms\n"
ROW = "meta-llama/Llama-3.1-8B,h100_sxm,0.19.0,bf16?,1,512,64,{users},50,8.5\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "points.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_points_are_predicted_in_order(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path, out = written(tmp_path, HEAD + "".join(ROW.format(users=n) for n in (1, 8, 64))), tmp_path / "out.json"
    assert main(["validate", "points", str(path), "--json", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    points = report["points"]
    assert [point["concurrency"] for point in points] == [1, 8, 64]
    assert [point["dtype_assumed"] for point in points] == [True] * 3
    assert all(point["profile"] == "h100_llama-3.1-8b_tp1_bf16" and point["warning"] is None for point in points)
    for metric in ("ttft_ms", "tpot_ms"):
        found = [point["predicted"][metric] for point in points]
        assert found == sorted(found)
    assert points[0]["error_pct"]["tpot"] == pytest.approx((points[0]["predicted"]["tpot_ms"] / 8.5 - 1) * 100)
    assert set(report["median_abs_error_pct"]) >= {"ttft", "tpot"}
    capsys.readouterr()


def test_one_user_waits_for_nobody() -> None:
    point = OperatingPoint(2, "llama-3.1-8b", "h100-sxm", "0.19.0", "bf16", False, 1, 1000, 50, 1, None, None)
    found = predict_point(point)
    config = load_config(overlay=Path("h100_llama-3.1-8b_tp1_bf16"), sets=["engine.tensor_parallel_size=1"]).config
    assert config.steptime.coefficients is not None
    assert not found.saturated
    assert 0.01 < found.ttft_s < 0.05
    assert found.tpot_s < found.ttft_s


def test_answers_of_one_token_have_no_time_per_output_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    point = OperatingPoint(2, "llama-3.1-8b", "h100-sxm", "0.19.0", "bf16", False, 1, 1000, 1, 1, None, None)
    assert predict_point(point).tpot_s is None
    row = ROW.format(users=1)
    path, out = written(tmp_path, HEAD + row.replace(",64,", ",1,")), tmp_path / "out.json"
    assert main(["validate", "points", str(path), "--json", str(out)]) == 0
    capsys.readouterr()


def test_lengths_are_exact_or_spread_as_the_benchmark_does(tmp_path: Path) -> None:
    rows = [ROW, ROW.replace("bf16?", "bf16"), ROW.replace("bf16?", "bf16").replace("\n", ",exact_lengths\n")]
    head = HEAD.replace("\n", ",client\n")
    points = read_points(written(tmp_path, head + "".join(row.format(users=4) for row in rows)))
    assert [point.client for point in points] == ["exact_lengths", "random_lengths", "exact_lengths"]
    exact = users(CLIENTS["exact_lengths"], 4, 1000, 500, 1)
    spread = users(CLIENTS["random_lengths"], 4, 1000, 500, 1)
    assert set(exact.prompt_tokens) == {1000}
    assert set(exact.output_tokens) == {500}
    assert 800 <= spread.prompt_tokens.min() < 850 < 950 < spread.prompt_tokens.max() <= 1000
    assert 400 <= spread.output_tokens.min() < 425 < 475 < spread.output_tokens.max() <= 500
    assert list(exact.graph.as_turns()[0][:6]) == [-1, -1, -1, -1, 0, 1]


BAD = {
    r"points.csv: line 2: client = 'x': must be one of random_lengths, exact_lengths": HEAD.replace("\n", ",client\n")
    + ROW.format(users=1).replace("\n", ",x\n"),
    r"points.csv: no column 'isl'": HEAD.replace("isl,", "") + "a\n",
    r"points.csv: holds no operating point": HEAD,
    r"points.csv: line 2: concurrency = '0': must be a whole number": HEAD + ROW.format(users=0),
    r"points.csv: line 2: precision = 'bf17': must be one of": HEAD + ROW.format(users=1).replace("bf16?", "bf17"),
    r"points.csv: line 2: tpot_mean_ms = '-1': must be milliseconds": HEAD + ROW.format(users=1).replace("8.5", "-1"),
    r"unknown model 'meta-llama/Lama-3.1-8B'": HEAD + ROW.format(users=1).replace("Llama-3.1", "Lama-3.1"),
    r"unknown GPU 'h900_sxm'": HEAD + ROW.format(users=1).replace("h100", "h900"),
}


@pytest.mark.parametrize(("message", "text"), BAD.items(), ids=range(len(BAD)))
def test_bad_tables_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, message: str, text: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=message):
        for point in read_points(path):
            predict_point(point)
    assert main(["validate", "points", str(path), "--json", str(tmp_path / "out.json")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "out.json").exists()
