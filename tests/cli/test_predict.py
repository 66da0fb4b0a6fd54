"""``kvsim predict``: from a line to a report, and every way to get it wrong; ``kvsim profiles``."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from kvsim import simulate
from kvsim.cli.served import DEFAULT_WORKLOAD
from kvsim.plan.measured_profiles import measured_profiles
from kvsim.workload.words import USUAL

SMALL = "vllm serve meta-llama/Llama-3.1-8B-Instruct --max-num-seqs 64"


def test_a_line_gives_a_calibrated_answer_with_its_reason(kvsim, empty: Path) -> None:
    code, out, err = kvsim(
        "predict", SMALL, "--gpu", "h100", "--workload", "in=400,out=40", "--rate", "5", "--requests", "600",
        "--report-json", "r.json", "--report-csv", "r.csv", "--jobs", "1", "--slo", "ttft=100,tpot=20",
    )  # fmt: skip
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80
    report = json.loads(Path("r.json").read_text())
    assert (report["run"]["mode"], report["calibration"]["level"]) == ("predict", "measured")
    (result,) = report["results"]
    assert result["requests"]["completed"] == 600 and result["conservation"]["ok"]
    cluster = report["cluster"]
    assert cluster["binding"]["binds"] in cluster["binding"]["gains"]
    assert cluster["slo_rate"]["requests_per_s"] <= cluster["slo_rate"]["max_requests_per_s"]
    assert cluster["kv_cache_tokens_per_instance"] == cluster["kv_blocks_per_instance"] * 16
    assert report["launch"]["arguments"] == {"max_num_seqs": 64}
    assert report["config"]["slo"]["ttft_ms"] == 100
    flat = " ".join(out.split())
    assert (
        "binds" in flat and "steps off by" in flat and "of requests keep TTFT <= 100 ms and mean TPOT <= 20 ms" in flat
    )
    assert len(Path("r.csv").read_text().splitlines()) == 601


def test_users_in_a_closed_loop_and_a_trace(kvsim, empty: Path) -> None:
    flags = ("--gpu", "h100", "--no-search", "--quiet", "--jobs", "1", "--report-json", "r.json")
    code, out, err = kvsim(
        "predict", SMALL, *flags, "--workload", "in=300-500,out=20", "--concurrency", "8", "--requests", "200"
    )
    assert (code, err) == (0, "") and "with 8 users" in out
    report = json.loads(Path("r.json").read_text())
    assert report["workload"]["users"] == 8 and report["cluster"]["slo_rate"] is None
    rows = "".join(f'{{"timestamp": {100 * at}, "input_length": 300, "output_length": 20}}\n' for at in range(50))
    Path("t.jsonl").write_text(rows)
    code, out, err = kvsim("predict", SMALL, *flags, "--workload", "t.jsonl")
    assert (code, err) == (0, "") and "at 10.2 requests/s" in out


def test_what_is_drafted_is_reported_and_exported(kvsim, empty: Path) -> None:
    """Counters of the report, of vLLM's names and of the table are of one run; whose acceptances they are is said."""
    line = "vllm serve meta-llama/Llama-3.1-8B-Instruct --spec-method eagle3 --spec-tokens 2"
    flags = ("--gpu", "h100", "--workload", "in=200,out=50", "--rate", "5", "--requests", "60", "--no-search")
    code, out, _ = kvsim("predict", line, *flags, "--report-json", "r.json", "--export", "prometheus=m.prom")
    assert code == 0
    drafts = json.loads((empty / "r.json").read_text())["results"][0]["drafts"]
    assert drafts["num_draft_tokens"] == 2 * drafts["num_drafts"] > 1000
    first, second = drafts["acceptance_by_position"]
    assert (first, second) == (pytest.approx(0.74, abs=0.06), pytest.approx(0.54, abs=0.06))
    assert drafts["mean_acceptance_length"] == pytest.approx(1 + first + second)
    assert f"tokens a verification {drafts['mean_acceptance_length']:.2f}" in " ".join(out.split())
    assert "published for eagle3/mt-bench" in " ".join(out.split())
    counters = dict(row.rsplit(" ", 1) for row in (empty / "m.prom").read_text().splitlines() if row[0] != "#")
    totals = {name.partition("{")[0].removeprefix("vllm:"): float(value) for name, value in counters.items()}
    assert totals["spec_decode_num_drafts_total"] == drafts["num_drafts"]
    assert totals["spec_decode_num_accepted_tokens_total"] == drafts["num_accepted_tokens"]


def test_a_model_without_profile_says_how_far_its_sibling_is(kvsim, empty: Path) -> None:
    code, out, _ = kvsim(
        "predict", "vllm serve google/gemma-2-9b", "--gpu", "h20", "--workload", "in=100,out=10", "--rate", "2",
        "--requests", "100", "--no-search", "--jobs", "1",
    )  # fmt: skip
    flat = " ".join(out.split())
    assert code == 0 and "scaled from profile h100_qwen3-8b_tp1_bf16: this instance was not measured" in flat
    assert "model alone is off by" in flat or "differ in GPU and model, scaled so, are off by" in flat


def test_the_modes_take_the_line(kvsim, empty: Path) -> None:
    code, _, err = kvsim(
        "--pd", "--engine", "vllm serve meta-llama/Llama-3.1-8B -tp 1", "--gpus", "8", "--workload", "in=500,out=50",
        "--requests", "200", "--rate", "4", "--no-plot", "--no-studies", "--quiet", "--report-json", "r.json",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads(Path("r.json").read_text())
    assert report["cluster"]["gpus"] == 8 and report["workload"]["requests"] == 200
    assert report["config"]["model"]["name"] == "meta-llama/Llama-3.1-8B"


def test_a_server_that_nobody_says_a_workload_of_is_served_one_kind(kvsim, empty: Path) -> None:
    """By ``predict``, by ``--pd`` and from Python."""
    few = ("--quiet", "--jobs", "1", "--report-json", "r.json")
    reports = []
    for flags in (
        ("predict", SMALL, "--requests", "300", "--no-search"),
        ("predict", SMALL, "--requests", "300", "--no-search", "--workload", USUAL),
        ("--pd", "--engine", SMALL, "--gpus", "4", "--preset", "smoke", "--no-plot", "--no-studies"),
    ):
        assert kvsim(*flags, *few).code == 0
        reports.append(json.loads(Path("r.json").read_text())["workload"])
    assert DEFAULT_WORKLOAD == USUAL and reports[0] == reports[1]
    assert reports[0]["source"] == reports[2]["source"] == "synthetic chat"
    a_request = [told["prompt_tokens"] / told["requests"] for told in reports]
    assert a_request[2] == pytest.approx(a_request[0], rel=0.1)
    assert simulate(SMALL, requests=300, searches_rate=False, detail=False).workload.source == "synthetic chat"


def test_settings_of_chat_that_predict_does_not_take_are_named(kvsim, empty: Path) -> None:
    flags = ("--requests", "100", "--no-search", "--jobs", "1", "--set", "pd_trace.output_tokens_mean=300")
    out = " ".join(kvsim("predict", SMALL, *flags).out.split())
    assert "warning: set, but without effect on this run: pd_trace.output_tokens_mean" in out


BAD = {
    "predict": "no server is given",
    "predict 'vllm serve' --gpu h100": "model",
    "predict 'vllm serve nobody/knows-it'": "unknown model 'nobody/knows-it'",
    "predict 'vllm serve llama-3.1-8b --max-num-sqs 3'": "did you mean '--max-num-seqs'?",
    "predict 'vllm serve llama-3.1-8b' --gpu h101": "unknown GPU 'h101'",
    "predict 'vllm serve llama-3.1-70b' --gpu l4": "does not fit 1 x l4",
    "predict 'vllm serve llama-3.1-8b' --workload sharegtp": "did you mean 'sharegpt'?",
    "predict 'vllm serve llama-3.1-8b' --rate 5 --concurrency 3": "exclude each other",
    "predict 'vllm serve llama-3.1-8b' --rate 0": "allowed: a finite number > 0",
    "predict 'vllm serve llama-3.1-8b' --rate 1e12": "allowed: 1e-09 to 1e+09 requests/s",
    "predict 'vllm serve llama-3.1-8b' --slo ttft": "allowed: ttft=MS,tpot=MS",
    "predict 'vllm serve llama-3.1-8b' --slo ttft=fast": "slo.ttft_ms = 'fast'",
    "predict 'vllm serve llama-3.1-8b' --instances 0": "allowed: a whole number >= 1",
    "predict 'vllm serve llama-3.1-8b' --set engine.nope=1": "nope",
    "predict 'vllm serve llama-3.1-8b' --report-json nowhere/r.json": "there is no folder",
    "predict 'vllm serve llama-3.1-8b' --engine-args a.yaml": "exclude each other",
    "predict 'vllm serve llama-3.1-8b --spec-method eagle'": "num_speculative_tokens = None: must be given",
    "predict 'vllm serve llama-3.1-8b -sc 3'": "speculative_config = 3: must be a JSON object",
    "predict 'vllm serve llama-3.1-8b' --set engine.speculative.method=medusa": "engine.speculative.method = 'medusa'",
    "predict --engine-args nosuch.yaml": "nosuch.yaml",
    "predict 'vllm serve llama-3.1-8b' --calibration-profile h100_nope": "unknown calibration profile",
    "predict 'vllm serve llama-3.1-8b' --workload in=200000,out=10 --rate 1": "200,000",
    "--pd --engine 'vllm serve llama-3.1-8b' --gpus 7 --tp 2": "--gpus is 7; allowed: a multiple of the 2 GPUs",
    "--pd --rate 5 --load 0.7": "exclude each other",
    "--pd --requests 5": "--requests needs --workload",
    "--pd --workload chat --workload-trace t.csv": "exclude each other",
    "profiles nobody/knows-it": "unknown model",
    "profiles --gpu h100": "--gpu needs a MODEL",
    "profiles llama-3.1-8b --gpu h101": "unknown GPU",
}


@pytest.mark.parametrize(("line", "words"), BAD.items(), ids=range(len(BAD)))
def test_bad_input_is_one_line(kvsim, empty: Path, line: str, words: str) -> None:
    code, out, err = kvsim(*shlex.split(line))
    assert (code, out) == (2, ""), (code, out)
    assert err.startswith("kvsim: error: ") and err.count("\n") == 1, err
    assert words in err and "Traceback" not in err
    assert list(empty.iterdir()) == []


def test_profiles_tells_what_was_measured_and_how_a_model_is_known(kvsim, empty: Path) -> None:
    code, out, _ = kvsim("profiles", "--json", "p.json")
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    told = json.loads(Path("p.json").read_text())
    assert len(told["profiles"]) == len(measured_profiles()) and told["scaling_error"]["another KV size"] is None
    assert told["scaling_error"]["roofline"]["instances"] == len(measured_profiles())
    code, out, _ = kvsim("profiles", "meta-llama/Llama-3.1-70B-Instruct", "--gpu", "h100", "--json", "q.json")
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    levels = {
        (one["weight_dtype"], one["tensor_parallel_size"]): (one["level"], one["differences"])
        for one in json.loads(Path("q.json").read_text())["levels"]
    }
    assert levels["bf16", 1] == ("unfit", []) and levels["bf16", 4] == ("measured", [])
    assert levels["bf16", 2] == ("scaled", ["degree"])
