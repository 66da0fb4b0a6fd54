"""Cases that users and other simulators got wrong: each with its reason. The folder is not part of the repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from places import DATA

from kvsim.cli import main

CASES = DATA.parent / "cases"
ENGINE = ("--set", "model.name=llama-3.1-8b", "--set", "engine.tensor_parallel_size=1")
ONE = (
    *("--set", "cluster.simulate_racks=1", "--set", "cluster.simulate_gpus_per_rack=2"),
    *("--set", "cluster.gpus_per_rack=2", "--set", "cluster.total_gpus=2", "--set", "pd_separation.pd_ratio=[1,1]"),
    *("--set", "pd_experiments.warmup_requests=0", "--set", "engine.tune_colocated_budget=false"),
)


def case(name: str, file: str = "trace.jsonl") -> Path:
    path = CASES / name / file
    if not path.exists():
        pytest.skip(f"no {path}: it stands beside the data that KVSIM_DATA names")
    return path


def why(folder: Path, *words: str) -> dict[str, str]:
    report = folder / "r.json"
    assert (
        main([*words, "--no-studies", "--no-plot", "--report-json", str(report), "--quiet", "--out", str(folder)]) == 0
    )
    return {reason["rule"]: reason["sentence"] for reason in json.loads(report.read_text())["why"]}


def test_a_prefix_shorter_than_a_block(tmp_path: Path) -> None:
    trace = case("04-prefix-shorter-than-a-block")
    asked = ("--pd", "--workload-trace", str(trace), *ENGINE, *ONE)
    found = why(tmp_path, *asked, "--set", "engine.block_size=784", "--set", "cache.chunk_tokens=784")
    assert found["shared_below_block"] == (
        "19 prompts of 20 share a head of at most 240 tokens, which fills no block of 784 (engine.block_size): neither "
        "routing nor memory can make 42% of prompt tokens (4,560) hits."
    )
    small = why(tmp_path, *asked)
    assert not {"shared_below_block", "shorter_than_block"} & set(small)


def test_the_end_that_goes_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = "05-which-end-of-a-prefix-goes-first"
    sets = (
        *("cache.num_workers=1", "cache.tiers=[]", "engine.num_gpu_blocks_override=6", "model.max_model_len=80"),
        "experiments.warmup_requests=0",
    )
    flags = [word for each in sets for word in ("--set", each)]
    found = why(tmp_path, "--workload-trace", str(case(folder)), "--policy", "lru", *ENGINE, *flags)
    assert found["repeated_whole"].startswith("10% of prompt tokens (16) are the last block of 1 prompt")
    assert "evicted" not in found
    assert main(["hits", str(case(folder, "accesses.jsonl")), "--eviction", "lru", "--capacity-blocks", "5"]) == 0
    said = "why: lru with 5 blocks: an engine uses the blocks of a prompt from its tail to its head and hits 0.3000; "
    assert f"{said}in the order of the file, head to tail, 0.0000 hit.\n" in capsys.readouterr().out


def test_a_hit_behind_a_missing_head(capsys: pytest.CaptureFixture[str]) -> None:
    trace = case("06-hit-behind-a-missing-head")
    assert main(["hits", str(trace), "--eviction", "fifo,lru", "--capacity-blocks", "3"]) == 0
    said = "why: fifo with 3 blocks: 1 of 2 accesses that hit stand behind a missing block of their prompt, and an "
    assert f"{said}engine computes them again.\n" in capsys.readouterr().out
