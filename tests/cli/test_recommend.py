"""``kvsim recommend``: from a line to a deployment and its files, and every way to get it wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from kvsim.cli.recommend import OBJECTIVES, slo_of
from kvsim.recommend.question import OBJECTIVES as KNOWN

LINE = "vllm serve meta-llama/Llama-3.1-8B-Instruct"
SHORT = (
    "--gpu", "h100", "--workload", "in=300,out=40", "--jobs", "1",
    "--set", "recommend.fewest_requests=120", "--set", "recommend.lives=1", "--set", "recommend.replications=2",
    "--set", "recommend.most_replications=2", "--set", "recommend.max_num_seqs=[64]", "--no-search",
)  # fmt: skip


def test_a_line_gives_a_deployment_and_what_to_paste(kvsim, empty: Path) -> None:
    code, out, err = kvsim(
        "recommend", LINE, *SHORT, "--gpus", "2", "--rate", "60", "--slo", "ttft=1000,tpot=30,e2e=9000,share=0.95",
        "--report-json", "r.json", "--out", "o",
    )  # fmt: skip
    assert code == 0, err
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "Take 1 x TP1" in out and "To paste:" in out and "vllm serve" in out
    report = json.loads(Path("r.json").read_text())
    assert report["run"]["mode"] == "recommend" and report["run"]["cpu_s"] > 0
    assert report["asked"]["slo"] == {"ttft_ms": 1000.0, "tpot_ms": 30.0, "e2e_ms": 9000.0, "share": 0.95}
    assert report["best"][0]["keeps"] and report["calibration"]["level"] == "measured"
    (server,) = report["configuration"]["vllm"]
    assert server["command"] in Path("o/vllm.sh").read_text()
    for name, key in (("dynamo", "dynamo"), ("llm-d-values", "llmd"), ("kserve", "kserve")):
        assert yaml.safe_load(Path(f"o/{name}.yaml").read_text()) == yaml.safe_load(report["configuration"][key])
    assert Path("o/pareto.png").read_bytes().startswith(b"\x89PNG")
    code, out, err = kvsim(
        "recommend", LINE, *SHORT, "--gpus", "1", "--rate", "30", "--out", "o", "--no-plot", "--quiet"
    )
    assert (code, err) == (0, "") and len(out.splitlines()) == 2


def test_objectives_and_limits_are_those_that_are_known() -> None:
    assert tuple(KNOWN) == OBJECTIVES
    assert slo_of("ttft=2000, e2e=9.5") == (("slo.ttft_ms=2000.0",), 9.5) and slo_of(None) == ((), None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rate", "5", "--gpu", "h1000"), "h100"),
        (("--rate", "5", "--gpu", "h100", "--slo", "itl=5"), "--slo: 'itl=5'; allowed: ttft=MS,tpot=MS,e2e=MS"),
        (("--rate", "5", "--gpu", "h100", "--slo", "e2e=soon"), "--slo: 'e2e=soon'"),
        (("--rate", "5", "--slo", "ttft=2s"), "--slo: 'ttft=2s'; allowed: ttft=MS,tpot=MS,e2e=MS,share=0.99, each a"),
        (("--rate", "5", "--slo", "tpot=nan"), "--slo: 'tpot=nan'"),
        (("--rate", "5", "--slo", "share=99"), "--slo: 'share=99'; allowed: a share of at most 1"),
        (("--rate", "5", "--slo", "ttft=9,tpot=5,ttft=8"), "--slo: ttft is given twice"),
        (("--rate", "5", "--slo", "ttft=9", "--set", "slo.ttft_ms=8"), "--slo and --set both give slo.ttft_ms"),
        (("--gpu", "h100"), "neither --rate nor --gpus"),
        (("--rate", "5", "--objective", "price"), "'price'; allowed: gpus, latency, rate"),
        (("--rate", "5", "--gpus", "2", "--gpu", "h100", "--workload", "chta"), "did you mean"),
        (("--rate", "5", "--gpus", "2", "--gpu", "h100", "--tiers", "tape"), "--tiers has 'tape'; known: dram"),
        (("--rate", "5", "--gpus", "1", "--gpu", "h100", "--slo", "tpot=0.5"), "they are at least TTFT 7"),
        (
            ("--rate", "1e4", "--gpus", "1", "--gpu", "h100", "--workload", "in=300,out=40"),
            "no deployment of up to 1 GPU serves 10000",
        ),
        (("--rate", "5", "--gpus", "1", "--gpu", "h100", "--report-json", "nowhere/r.json"), "there is no folder"),
    ],
)
def test_bad_input_is_one_line(kvsim, empty: Path, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = kvsim("recommend", LINE, *arguments)
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1, err


def test_nothing_fits(kvsim, empty: Path) -> None:
    line = "vllm serve meta-llama/Llama-3.1-70B-Instruct"
    code, out, err = kvsim("recommend", line, "--gpu", "h100", "--gpus", "2", "--rate", "5")
    assert (code, out) == (2, "") and "no deployment fits 2 GPUs; the nearest is TP2" in err and err.count("\n") == 1


def test_files_of_others_are_not_replaced(kvsim, empty: Path) -> None:
    Path("o").mkdir()
    Path("o/dynamo.yaml").write_text("mine: true\n")
    code, out, err = kvsim("recommend", LINE, *SHORT, "--gpus", "1", "--rate", "30", "--out", "o")
    assert (code, out) == (2, "") and "no file of kvsim recommend's" in err
    assert Path("o/dynamo.yaml").read_text() == "mine: true\n"
