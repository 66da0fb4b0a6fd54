"""``steps``: what is told of a server's steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

LINE = "vllm serve meta-llama/Llama-3.1-8B-Instruct --max-model-len 8192"


def told(kvsim, *arguments: str) -> tuple[str, dict]:
    code, out, err = kvsim("steps", *arguments, "--json", "steps.json")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    return out, json.loads(Path("steps.json").read_text())


@pytest.mark.parametrize(
    "more",
    [
        ("--gpu", "h100-sxm"),
        ("--gpu", "b200"),
        ("--gpu", "l40s", "--calibration-profile", "none"),
        ("--gpu", "h100", "--calibration-profile", "h100_70b_reference", "--set", "engine.max_num_seqs=8"),
    ],
)
def test_four_usual_steps(kvsim, more: tuple[str, ...]) -> None:
    line = LINE.replace("8B-", "70B-") + " -tp 4" if "h100_70b_reference" in more else LINE
    out, report = told(kvsim, "--engine", line, *more)
    one, full, prompt, mixed = report["steps"]
    assert one["decodes"] == [{"count": 1, "context_tokens": 1024}] and not one["prefills"]
    assert full["decodes"][0]["count"] > 1 and mixed["decodes"] and mixed["prefills"]
    assert not prompt["decodes"] and prompt["prefills"][0]["tokens"] <= 8192
    for step in report["steps"]:
        assert sum(part["time_ms"] or 0 for part in step["parts"]) == pytest.approx(step["time_ms"])
        assert step["times_limit"] == pytest.approx(step["time_ms"] / step["limit_ms"]) and step["times_limit"] > 1
        assert f"\n{step['times_limit']:.2f} x the " in out


def test_a_step_of_ones_own(kvsim) -> None:
    asked = ("--decode", "32:4096", "--decode", "1:8000", "--prefill", "512:1024")
    out, report = told(kvsim, "--engine", LINE, "--gpu", "h100", *asked)
    assert "32 decodes on 4,096 tokens, 1 decode on 8,000 tokens, a prompt of 512 tokens\nbehind 1,024: " in out
    (step,) = report["steps"]
    assert step["prefills"] == [{"tokens": 512, "prefix_tokens": 1024}]
    decode = next(part for part in step["parts"] if part["name"] == "attention_decode")
    assert decode["bytes"] == pytest.approx((32 * 4096 + 8000) * 131072, rel=0.01)
    assert decode["known"] == report["known"] == "measured"
    layers = next(part for part in step["parts"] if part["name"] == "layers")
    assert layers["members"][0]["name"] == "qkv_proj" and layers["members"][0]["time_ms"] is None
    assert "A formula of whole steps has no times of operators" in out


def test_it_is_said_how_times_are_known(kvsim) -> None:
    roofline, report = told(kvsim, "--engine", LINE, "--gpu", "h100", "--calibration-profile", "none")
    assert "step times by the data sheet's arithmetic (roofline)" in " ".join(roofline.split())
    assert "A formula of whole steps" not in roofline and report["known"] == "modelled"
    assert report["steps"][0]["operators_have_times"] is True
    scaled, report = told(kvsim, "--engine", LINE, "--gpu", "h100-pcie")
    assert f"step times scaled from profile {report['profile']}" in " ".join(scaled.split())
    assert report["known"] == "scaled"


@pytest.mark.parametrize(
    ("gpu", "dtype", "said"),
    [
        ("h100", "awq", "989 TFLOPS in bf16, 450 GB/s"),
        ("h100", "fp8", "1,979 TFLOPS in fp8, 989 in bf16, 450 GB/s"),
        ("a100-80gb", "fp8", "312 TFLOPS in bf16, 300 GB/s"),
        ("h100", "modelopt_fp4", "989 TFLOPS in bf16, 450 GB/s"),
        ("b200", "modelopt_fp4", "9,000 TFLOPS in fp4, 2,250 in bf16, 900 GB/s"),
        ("h100", "int8_per_channel_weight_only", "989 TFLOPS in bf16, 450 GB/s"),
    ],
)
def test_peaks_are_of_the_types_that_are_computed_in(kvsim, gpu: str, dtype: str, said: str) -> None:
    line = f"{LINE} --quantization {dtype}"
    code, out, _ = kvsim("steps", "--engine", line, "--gpu", gpu, "--decode", "1:100")
    assert code == 0 and said in " ".join(out.split())


def test_uneven_experts_are_said_to_be_the_fullest_gpus(kvsim) -> None:
    shares = ",".join(["3"] * 64 + ["1"] * 64)
    more = ("--set", "engine.expert_load.distribution=measured", "--set", f"engine.expert_load.shares=[{shares}]")
    out, _ = told(kvsim, "--engine", "vllm serve Qwen/Qwen3-30B-A3B -dp 2 -ep", "--gpu", "h100", *more)
    assert "The experts are those of the GPU that gets 1.50 times the mean." in " ".join(out.split())


@pytest.mark.parametrize(
    ("line", "more", "said"),
    [
        (LINE, (), []),
        (f"{LINE} --enable-dbo", (), ["not modelled: overlapped micro-batches (--enable-dbo)"]),
        (LINE, ("--set", "engine.vllm_version=9.9.9"), ["engine.vllm_version: vLLM 9.9.9 is newer than 0.32"]),
        (LINE, ("--set", "engine.dp_sync_interval=4"), ["set, but without effect on steps: engine.dp_sync_interval"]),
        (
            f"{LINE} -tp 3",
            (),
            ["vLLM does not start such a server: 32 attention heads do", "llama-3.1-8b bf16 on 3 x h100-sxm was not"],
        ),
        (
            LINE,
            ("--calibration-profile", "h100_70b_reference"),
            ["profile h100_70b_reference holds for model", "profile h100_70b_reference holds for tensor"],
        ),
    ],
)
def test_what_is_otherwise_is_said(kvsim, line: str, more: tuple[str, ...], said: list[str]) -> None:
    out, report = told(kvsim, "--engine", line, "--gpu", "h100", *more, "--decode", "1:100")
    assert [warning[: len(start)] for warning, start in zip(report["warnings"], said, strict=True)] == said
    assert " ".join(out.split()).count("warning: ") == len(said)


def test_beyond_a_profile_is_said(kvsim) -> None:
    line = "vllm serve meta-llama/Llama-3.1-8B-Instruct"
    out, report = told(kvsim, "--engine", line, "--gpu", "h100", "--decode", "1:100000")
    assert "which was measured up to 32,768 tokens of context only" in " ".join(out.split())
    assert report["steps"][0]["unmeasured"] == ["measured up to 32,768 tokens of context only"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--decode", "32"), "--decode: '32'; allowed: N:CONTEXT, whole numbers from 1 on"),
        (("--decode", "0:5"), "--decode: '0:5'; allowed: N:CONTEXT"),
        (("--decode", "1:"), "--decode: '1:'; allowed: N:CONTEXT"),
        (("--prefill", "x:1"), "--prefill: 'x:1'; allowed: TOKENS or TOKENS:PREFIX, whole numbers"),
        (("--prefill", "-4"), "--prefill: '-4'; allowed: TOKENS"),
        (("--decode", "1:9000"), "9,000 tokens of a sequence; allowed: up to the max_model_len = 8,192"),
        (("--prefill", "8192", "--decode", "1:5"), "8,193 tokens in a step; allowed: up to the max_num_batched_tokens"),
        (("--decode", "2000:8"), "2,000 sequences in a step; allowed: up to the max_num_seqs = 1,024"),
        (("--decode", "900:8000"), "450,000 blocks of KV; allowed: up to the "),
    ],
)
def test_steps_that_never_run_are_refused(kvsim, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = kvsim("steps", "--engine", LINE, "--gpu", "h100-sxm", *arguments)
    assert (code, out) == (2, "")
    assert said in err and err.count("\n") == 1


def test_a_server_is_wanted(kvsim) -> None:
    code, _, err = kvsim("steps")
    assert code == 2 and "no server is given" in err


def test_stages_of_a_pipeline_stand_above_the_operators(kvsim) -> None:
    out, report = told(kvsim, "--engine", f"{LINE} -pp 2", "--gpu", "h100", "--decode", "8:1000")
    (step,) = report["steps"]
    way = step["pipeline"]
    assert way["alone_ms"] == pytest.approx(sum(way["stages_ms"]) + sum(way["sends_ms"]))
    assert way["every_ms"] == pytest.approx(max(way["stages_ms"][0] + way["sends_ms"][0], way["stages_ms"][1]))
    assert sum(part["time_ms"] or 0 for part in step["parts"]) == pytest.approx(step["time_ms"])
    assert "2 stages of 1 x h100-sxm" in out
    assert "Stages " in out and "a full pipeline ends one every" in " ".join(out.split())
