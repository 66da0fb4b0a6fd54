"""Folders of recorded runs: read, predicted, and held against what was measured and what others said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kvsim.cli import main
from kvsim.errors import ConfigError
from kvsim.plan.instance import spec_of
from kvsim.validate.leaderboard.forecast import forecast, plan_of, server_of
from kvsim.validate.leaderboard.recorded import read_leaderboard, read_run
from kvsim.validate.leaderboard.score import beside, errors_pct, score, spreads, stages

WORKLOAD: dict[str, Any] = {
    "stages": [{"rate_per_s": 4.0, "duration_s": 10}, {"rate_per_s": 8.0, "requests": 60}],
    "request_timeout_s": 300,
    "prompts": {
        "groups": 2, "prompts_per_group": 3, "system_prompt_tokens": 32, "tokens_as_encoded": {"mean": 200.0},
    },
    "output_tokens": 20,
}  # fmt: skip
ENGINE: dict[str, Any] = {
    "engine": "vLLM 0.15.1", "model": "meta-llama/Llama-3.1-8B-Instruct", "precision": "BF16", "gpu": "h100-sxm",
    "tensor_parallel_size": 1, "max_num_batched_tokens": 2048, "max_num_seqs": 64, "num_gpu_blocks": 4000,
}  # fmt: skip
STAGE = {"ttft_ms": {"mean": 25.0, "p90": 30.0}, "e2e_ms": {"mean": 160.0, "p90": 170.0}, "itl_ms": {"mean": 7.0}}
QUEUED = {"ttft_ms": {"mean": 9000.0}, "e2e_ms": {"mean": 10000.0}, "itl_ms": {"mean": 20.0}}


def run_folder(root: Path, name: str, stages: list[dict[str, Any]], peers: dict[str, Any], **engine: Any) -> Path:
    made = root / name
    made.mkdir(parents=True)
    windows = {f"stage_{place}": stage for place, stage in enumerate(stages)} | {
        "all": stages[0],
        "first_300": stages[0],
    }
    texts = {
        "workload.yaml": yaml.safe_dump(WORKLOAD),
        "engine.yaml": yaml.safe_dump(ENGINE | engine),
        "measured.json": json.dumps({"windows": windows}),
        "peers.json": json.dumps(peers),
    }
    for file, text in texts.items():
        (made / file).write_text(text, encoding="utf-8")
    return made


@pytest.fixture
def board(tmp_path: Path) -> Path:
    root = tmp_path / "board"
    other = {"stage_0": {"ttft_mean": 50.0, "e2e_mean": 80.0}, "stage_1": {"ttft_mean": 18000.0, "e2e_mean": 5000.0}}
    run_folder(root, "b", [STAGE, QUEUED], {"other": other, "first": {"first_300": {"e2e_mean": 320.0}}})
    run_folder(root, "a", [STAGE, STAGE], {"other": {"stage_1": {"ttft_mean": 25.0}}})
    return root


def test_a_run_is_read_as_it_stands(board: Path) -> None:
    first, second = read_leaderboard(board)
    assert (first.name, second.name) == ("a", "b")
    assert [stage.requests for stage in second.stages] == [40, 60]
    assert [stage.shared.sent_before for stage in second.stages if stage.shared is not None] == [False, True]
    assert second.windows == ["stage_0", "stage_1", "all"]
    assert [second.saturated(window) for window in second.windows] == [False, True, True]
    assert second.measured["stage_0"]["e2e_p90"] == 170.0


def test_a_prediction_is_the_engine_that_was_told(board: Path) -> None:
    found = forecast(read_leaderboard(board)[0])
    assert (found.level, found.calibration) == ("measured", "measured: h100_llama-3.1-8b_tp1_bf16")
    assert set(found.windows) == {"stage_0", "stage_1", "all", "first_300"}
    stage, whole, first = (found.windows[name] for name in ("stage_0", "all", "first_300"))
    assert first == stage
    assert whole["e2e_mean"] == pytest.approx(
        (40 * stage["e2e_mean"] + 60 * found.windows["stage_1"]["e2e_mean"]) / 100
    )
    assert stage["e2e_mean"] == pytest.approx(stage["ttft_mean"] + 19 * stage["itl_mean"])
    # 6 of the 40 requests are computed whole or behind their group's head; the later stage finds all of them.
    assert found.windows["stage_1"]["ttft_p90"] < stage["ttft_p99"]


def test_errors_are_of_what_both_have() -> None:
    measured = {"ttft_mean": 20.0, "e2e_mean": 100.0, "itl_mean": 0.0}
    assert errors_pct({"ttft_mean": 25.0, "itl_mean": 3.0, "e2e_p50": 1.0}, measured) == {"ttft_mean": 25.0}
    (spread,) = spreads([{"e2e_mean": -10.0}, {"e2e_mean": 20.0}, {}]).values()
    assert (spread.median_pct, spread.mean_pct, spread.worst_pct, spread.windows) == (15.0, 15.0, 20.0, 2)


def test_peers_are_compared_on_the_windows_that_both_predicted(board: Path) -> None:
    scored = [score(run) for run in read_leaderboard(board)]
    assert [(one.run.name, window) for one, window in stages(scored, saturated=True)] == [("b", "stage_1")]
    found = {peer: (what, ours, theirs) for peer, what, ours, theirs in beside(scored)}
    assert found["first"][0] == "first 300 requests"
    assert found["first"][2]["e2e_mean"].median_pct == pytest.approx(100.0)
    what, ours, theirs = found["other"]
    assert what == "stages"
    # Of the run that queued only the stage that did not counts: TTFT 50 for 25, and 25 for 25 of the other run.
    assert (theirs["ttft_mean"].mean_pct, theirs["ttft_mean"].windows) == (50.0, 2)
    assert (theirs["e2e_mean"].mean_pct, theirs["e2e_mean"].windows) == (50.0, 1)
    assert {key: one.windows for key, one in ours.items()} == {"ttft_mean": 2, "e2e_mean": 1}


def test_the_command_prints_and_writes_all_of_it(
    board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder(board, "c", [STAGE, STAGE], {}, model="nobody/knows-it")
    out = tmp_path / "l.json"
    assert main(["validate", "leaderboard", str(board), "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert all(len(line) <= 80 for line in printed.splitlines())
    assert "c: not predicted: " in printed and "2 of 3 runs predicted" in printed
    found = json.loads(out.read_text(encoding="utf-8"))
    stage = found["runs"]["a"]["windows"]["stage_0"]
    error = 100 * (stage["predicted"]["e2e_mean"] / 160.0 - 1)
    assert stage["error_pct"]["e2e_mean"] == pytest.approx(error, abs=1e-3)
    assert {"cpu_s", "calibration", "windows"} <= found["runs"]["b"].keys()
    assert found["summary"]["unsaturated"]["ttft_mean"]["windows"] == 3
    assert found["summary"]["saturated"]["ttft_mean"]["windows"] == 1
    assert list(found["summary"]["not_predicted"]) == ["c"]


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("workload.yaml", "stages: []", "a/workload.yaml: stages"),
        ("workload.yaml", yaml.safe_dump(WORKLOAD | {"output_tokens": 0}), "output_tokens"),
        ("engine.yaml", yaml.safe_dump(ENGINE | {"precision": "INT3"}), "precision"),
        ("workload.yaml", yaml.safe_dump(WORKLOAD | {"max_in_flight": 0}), "max_in_flight"),
        ("measured.json", "{}", "a/measured.json: windows"),
        ("measured.json", "{", "measured.json"),
        ("engine.yaml", yaml.safe_dump(ENGINE | {"engine": "banana"}), "must name vLLM and its version"),
        ("engine.yaml", yaml.safe_dump(ENGINE | {"gpu": 5}), "gpu = 5: must be a GPU's name"),
        ("engine.yaml", yaml.safe_dump(ENGINE | {"kv_offloading_gib_per_gpu": "big"}), "kv_offloading_gib_per_gpu"),
        ("measured.json", json.dumps({"windows": {"stage_7": STAGE}}), "windows.stage_7"),
        ("peers.json", "[]", "must be a mapping of simulators"),
        ("peers.json", json.dumps({"x": {"stage_0": {"e2e_mean": "fast"}}}), "e2e_mean"),
    ],
)
def test_a_broken_run_costs_itself_alone(board: Path, file: str, text: str, said: str, capsys: Any) -> None:
    (board / "a" / file).write_text(text, encoding="utf-8")
    assert main(["validate", "leaderboard", str(board)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "a: not predicted: a/" in printed and said in printed and "1 of 2 runs predicted" in printed
    (board / "b" / file).write_text(text, encoding="utf-8")
    assert main(["validate", "leaderboard", str(board)]) == 2
    captured = capsys.readouterr()
    assert "none of 2 runs can be predicted; the first: a/" in captured.err and captured.err.count("\n") == 1


def test_a_folder_without_runs_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no folder in it has workload.yaml, engine.yaml, measured.json, peers.json"):
        read_leaderboard(tmp_path)


def test_engines_that_share_their_load_serve_it_together(tmp_path: Path) -> None:
    """Two engines of a data-parallel server have half the requests each, so that their steps are shorter."""
    one = read_run(run_folder(tmp_path, "one", [STAGE, STAGE], {}))
    two = read_run(run_folder(tmp_path, "two", [STAGE, STAGE], {}, data_parallel_size=2))
    assert forecast(two).windows["stage_1"]["itl_mean"] < forecast(one).windows["stage_1"]["itl_mean"]


def test_older_engines_have_their_host_time(tmp_path: Path) -> None:
    """0.4 ms a step and 26 us a sequence more than engines that schedule ahead."""
    new, old = (
        forecast(read_run(run_folder(tmp_path, version, [STAGE, STAGE], {}, engine=f"vLLM {version}")))
        for version in ("0.15.1", "0.12.0")
    )
    assert old.windows["stage_0"]["itl_mean"] - new.windows["stage_0"]["itl_mean"] > 0.4


def test_what_an_engine_has_and_nobody_reads_is_named(tmp_path: Path) -> None:
    plain = read_run(run_folder(tmp_path, "plain", [STAGE, STAGE], {}))
    run = read_run(run_folder(tmp_path, "more", [STAGE, STAGE], {}, foo_bar=3, enable_lora=True, inferred=["foo"]))
    found = forecast(run)
    assert found.calibration.endswith("; not read of its engine: foo_bar")
    assert found.windows["stage_0"]["itl_mean"] > forecast(plain).windows["stage_0"]["itl_mean"]


@pytest.mark.parametrize(
    ("engine", "grouped"),
    [
        ({"num_gpu_blocks": 40_000}, True),  # of twelve of the 48 layers each: 15 GiB a GPU
        ({"num_gpu_blocks": 8_253}, False),  # as many of all of them: 12.6 GiB
        ({"num_gpu_blocks": 40_000, "kv_offloading_gib_per_gpu": 8}, False),
        ({"num_gpu_blocks": 40_000, "kv_offloading_gib_per_gpu": 0}, True),
        ({"num_gpu_blocks": None}, True),
        ({"num_gpu_blocks": None, "kv_offloading_gib_per_gpu": 8}, False),
    ],
)
def test_recorded_blocks_are_of_the_layers_that_their_bytes_fit(
    tmp_path: Path, engine: dict[str, Any], grouped: bool
) -> None:
    scout = {"model": "meta-llama/Llama-4-Scout-17B-16E", "precision": "FP8", "tensor_parallel_size": 2}
    run = read_run(run_folder(tmp_path, "scout", [STAGE, STAGE], {}, **scout, max_model_len=16_384, **engine))
    assert (spec_of(server_of(run.engine).config).kv_groups is not None) == grouped


@pytest.mark.parametrize(("gib", "held_gib", "tiers"), [(0, None, ()), (None, None, ()), (8, 16.0, ("dram",))])
def test_recorded_offloading_is_a_tier_of_all_gpus(
    tmp_path: Path, gib: int | None, held_gib: float | None, tiers: tuple[str, ...]
) -> None:
    run = read_run(run_folder(tmp_path, "a", [STAGE], {}, tensor_parallel_size=2, kv_offloading_gib_per_gpu=gib))
    config = server_of(run.engine).config
    assert plan_of(run.engine).tiers == config.pd_separation.tiers == tiers
    if held_gib is not None:
        assert config.hardware.dram.capacity_gb == pytest.approx(held_gib * 1.073741824, rel=1e-12)
        assert config.cache.write_generated  # as 0.15 does
