"""Several kinds of GPUs: each answered for itself, in the order of money where there are prices."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

LINE = "vllm serve meta-llama/Llama-3.1-8B-Instruct"
SHORT = (
    "--workload", "in=300,out=40", "--jobs", "1", "--gpus", "2", "--rate", "20", "--no-search", "--no-plot",
    "--set", "recommend.fewest_requests=120", "--set", "recommend.lives=1", "--set", "recommend.replications=2",
    "--set", "recommend.most_replications=2", "--set", "recommend.max_num_seqs=[64]",
    "--set", "recommend.max_num_batched_tokens=[2048]",
)  # fmt: skip


def test_each_kind_has_its_answer_and_one_that_fits_nothing_its_reason(kvsim, empty: Path) -> None:
    code, out, err = kvsim(
        "recommend", LINE, *SHORT, "--gpu", "h100,a100-80gb-sxm,l4", "--price", "h100=4,a100-80gb-sxm=1,l4=0.1",
        "--report-json", "r.json", "--out", "o", "--slo", "ttft=1000,tpot=40,e2e=3000,share=0.95",
    )  # fmt: skip
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80 and "deployment" in out and "E2E s" in out
    kinds = json.loads(Path("r.json").read_text())["kinds"]
    assert (
        [one["gpu"] for one in kinds][2] == "l4"
        and kinds[2]["answer"] is None
        and kinds[2]["why_not"] in " ".join(out.split())
    )
    costs = [one["cost_per_h"] for one in kinds[:2]]
    assert costs == sorted(costs)
    for one in kinds[:2]:
        best = one["answer"]["best"][0]
        assert one["cost_per_h"] == best["gpus"] * {"h100-sxm": 4, "a100-80gb-sxm": 1}[one["gpu"]]
        assert one["answer"]["asked"]["gpu"] == one["gpu"] and best["e2e_ms"]["late"] <= 3000
        assert (Path("o") / one["gpu"] / "vllm.sh").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--gpu", "h100,h100-sxm"), "--gpu names h100-sxm twice"),
        (("--gpu", "h100,"), "--gpu: 'h100,'; allowed: NAME, or NAME,NAME"),
        (("--gpu", "h100,a1000"), "a100"),
        (("--gpu", "h100,l4", "--price", "h100=2"), "--price: l4 has none"),
        (("--gpu", "h100", "--price", "l4=2"), "--price has l4, which --gpu has not; there are: h100-sxm"),
        (("--gpu", "h100", "--price", "h100=free"), "--price: 'h100=free'; allowed: NAME=P, a number > 0"),
        (("--gpu", "l4,l4"), "--gpu names l4 twice"),
    ],
)
def test_kinds_and_prices_that_cannot_be_taken(kvsim, empty: Path, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = kvsim("recommend", LINE, *SHORT, *arguments)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert said in err


def test_a_limit_of_e2e_that_one_request_alone_misses_is_ruled_out(kvsim, empty: Path) -> None:
    code, _, err = kvsim("recommend", LINE, *SHORT, "--gpu", "h100", "--slo", "ttft=1000,tpot=40,e2e=40")
    assert code == 2 and "can keep TTFT <= 1000 ms, mean TPOT <= 40 ms, E2E <= 40 ms" in err
    assert "they are at least TTFT" in err and ", E2E " in err
