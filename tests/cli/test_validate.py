"""``validate``: predicted beside measured in 80 columns, doubts said, bad input in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from client_files import aiperf, bench, guidellm, stage, written

from kvsim.cli import main

FLAGS = ["--profile", "h100_llama-3.1-8b_tp1_bf16", "--model", "llama-3.1-8b"]


def validate(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    assert main(["validate", *map(str, arguments)]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    return out


def figures(out: str, name: str) -> list[str]:
    """The columns of a row."""
    return next(line for line in out.splitlines() if line.strip().startswith(name)).replace(name, "").split()


@pytest.mark.parametrize(
    ("values", "measured"),
    [
        (stage(), {"TTFT mean (ms)": "30.00", "ITL mean (ms)": "7.642", "E2E mean (s)": "0.500"}),
        (bench(), {"requests/s": "9.000", "TTFT mean (ms)": "80.00", "TPOT mean (ms)": "8.000"}),
        (aiperf(), {"TTFT mean (ms)": "60.00", "TPOT mean (ms)": "9.000", "E2E mean (s)": "0.400"}),
        (
            guidellm({"type_": "constant", "rate": 4.0}),
            {"requests/s": "3.900", "TTFT mean (ms)": "60.00", "ITL mean (ms)": "9.000", "E2E mean (s)": "0.400"},
        ),
    ],
    ids=["inference-perf", "bench", "aiperf", "guidellm"],
)  # fmt: skip
def test_load_shows_predicted_beside_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture, values: object, measured: dict[str, str]
) -> None:
    json_out = tmp_path / "out.json"
    out = validate(capsys, "load", written(tmp_path / "r.json", values), *FLAGS, "--json", json_out)
    (entry,) = json.loads(json_out.read_text(encoding="utf-8"))["loads"]
    for name, value in measured.items():
        theirs, ours, error = figures(out, name)
        assert theirs == value
        assert float(error.rstrip("%")) == pytest.approx((float(ours) / float(theirs) - 1) * 100, abs=0.2)
    assert set(entry["error_pct"]) >= {"ttft_mean", "requests_per_s"}
    assert " ".join(f"definitions: {'; '.join(entry['measured']['definitions'])}".split()) in " ".join(out.split())
    assert entry["comparable"]


def test_load_says_first_that_most_requests_have_no_answer(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path, json_out = written(tmp_path / "stage_0.json", stage(count=73, failed=407)), tmp_path / "out.json"
    out = validate(capsys, "load", path, *FLAGS, "--json", json_out)
    plain = " ".join(out.split())
    assert plain.index("no comparison: 407 of 480 requests (85%) have no answer") < plain.index("requests/s")
    assert "cut at the client's 300 s" in plain
    assert "4 requests/s" in plain
    assert figures(out, "without an answer (%)") == ["84.79", "0.000", "-"]
    assert "%" not in "".join(figures(out, "TTFT mean (ms)"))
    (entry,) = json.loads(json_out.read_text(encoding="utf-8"))["loads"]
    assert (entry["comparable"], entry["error_pct"], entry["predicted"]["completed"]) == (False, {}, 480)


def test_a_stage_without_answers_does_not_cost_the_others(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    dead = {"load_summary": {"count": 41, "requested_rate": 9.0}, "successes": {"count": 0}, "failures": {"count": 41}}
    written(tmp_path / "stage_0.json", stage(failed=0))
    written(tmp_path / "stage_1.json", dead)
    json_out = tmp_path / "out.json"
    out = validate(capsys, "load", tmp_path, *FLAGS, "--json", json_out)
    assert "stage_1.json: no comparison: none of 41 requests has an answer" in " ".join(out.split())
    alive, empty = json.loads(json_out.read_text(encoding="utf-8"))["loads"]
    assert (alive["comparable"], empty["comparable"], empty["predicted"]) == (True, False, None)


@pytest.mark.parametrize(
    ("values", "flags", "said"),
    [
        (bench(model_id="Qwen/Qwen3-32B"), [], "r.json was measured with Qwen/Qwen3-32B; predicted is llama-3.1-8b"),
        (bench(), ["--tensor-parallel", "2"], "holds for tensor_parallel_size 1; this run has 2"),
        (bench(), ["--model", "qwen3-32b"], "holds for model llama-3.1-8b; this run has qwen3-32b"),
        (bench(failed=1), [], "1 of 51 requests without an answer; the figures are the others'"),
        (bench(mean_tpot_ms=100.0), [], "TPOT is -9"),
        (bench(), [], "assumed: prompts share nothing"),
    ],
    ids=["model", "degree", "profile", "failures", "far off", "prompts"],
)
def test_load_says_what_is_doubtful(
    tmp_path: Path, capsys: pytest.CaptureFixture, values: object, flags: list[str], said: str
) -> None:
    out = validate(capsys, "load", written(tmp_path / "r.json", values), *FLAGS, *flags)
    assert said in " ".join(out.split())


def test_load_with_the_right_profile_has_no_warning(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = written(tmp_path / "r.json", aiperf() | {"error_summary": []})
    assert "warning" not in validate(capsys, "load", path, *FLAGS)


def test_load_takes_the_model_from_the_file_and_the_nearest_step_times(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = written(tmp_path / "r.json", bench(model_id="meta-llama/Llama-3.1-8B-Instruct"))
    json_out = tmp_path / "out.json"
    short = " ".join(validate(capsys, "load", path, "--json", json_out).split())
    assert "predicted: meta-llama/Llama-3.1-8B-Instruct on 1 x h100-sxm, vLLM of today" in short
    assert "profile h100_llama-3.1-8b_tp1_bf16" in short
    assert (
        "taken: the model from r.json (--model says another); h100-sxm as configured (--gpu); step times of the "
        "nearest measured instance (--profile)" in short
    )
    report = json.loads(json_out.read_text(encoding="utf-8"))
    assert report["profile"] == "h100_llama-3.1-8b_tp1_bf16" and report["warnings"] == []
    told = validate(capsys, "load", path, *FLAGS)
    assert "taken:" not in told and figures(told, "TPOT mean (ms)") == figures(
        validate(capsys, "load", path), "TPOT mean (ms)"
    )


def test_load_on_another_gpu_says_how_its_step_times_are_known(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = written(tmp_path / "r.json", bench(model_id="meta-llama/Llama-3.1-8B-Instruct"))
    out = " ".join(validate(capsys, "load", path, "--gpu", "h20").split())
    assert "on 1 x h20, vLLM of today, step times scaled from profile h100_llama-3.1-8b_tp1_bf16" in out
    assert "warning: llama-3.1-8b bf16 on 1 x h20 was not measured" in out
    refused(capsys, "--gpu and --profile exclude each other", "load", path, *FLAGS, "--gpu", "h200")
    refused(capsys, "unknown GPU 'h1000'", "load", path, "--gpu", "h1000")
    refused(capsys, "--model MODEL says it", "load", written(tmp_path / "s.json", bench(model_id="mine")))


HEAD = "model,gpu,backend_version,precision,tp_size,isl,osl,concurrency,ttft_mean_ms,tpot_mean_ms\n"


def points(tmp_path: Path, *rows: str) -> Path:
    return written(tmp_path / "points.csv", HEAD + "".join(f"llama-3.1-8b,h100_sxm,,bf16?,1,{row}\n" for row in rows))


def test_points_stand_beside_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Answers of one token have no TPOT, whatever the table says; what was not measured has no error."""
    json_out = tmp_path / "out.json"
    table = points(tmp_path, "512,64,4,50,8.5", "512,1,4,50,3", "512,8,4,,")
    out = validate(capsys, "points", table, "--json", json_out)
    first, short, unknown = [line.split() for line in out.splitlines() if line.strip().startswith("512")]
    assert (first[3], first[6], len(first)) == ("50.00", "8.500", 9)
    assert short[7:] == ["-", "-"]
    assert (unknown[3], unknown[5], unknown[6], unknown[8]) == ("-", "-", "-", "-")
    report = json.loads(json_out.read_text(encoding="utf-8"))
    assert [point["error_pct"]["tpot"] is None for point in report["points"]] == [False, True, True]
    assert report["median_abs_error_pct"]["saturation_recognised_pct"] == 100.0


def run_folder(tmp_path: Path, outputs: list[int], **meta: Any) -> tuple[Path, Path]:
    folder, workload = tmp_path / "run", tmp_path / "workload.jsonl"
    folder.mkdir()
    engine = {"tensor_parallel_size": 1, "max_num_seqs": 16, "max_model_len": 4096}
    written(folder / "meta.json", {"model": "llama-3.1-8b", "vllm_version": "0.19.0", "engine_kwargs": engine} | meta)
    rows, requests = [], []
    for i, output in enumerate(outputs):
        times = {"arrival_time": float(i), "queued_ts": float(i), "first_token_ts": i + 0.02}
        last = i + 0.02 + 0.008 * (output - 1)
        rows.append({"request_id": i, "input_toks": 200, "output_toks": output, "last_token_ts": last, **times})
        requests.append({"input_toks": 200, "output_toks": output, "arrival_time_ns": int(i * 1e9)})
        requests[-1]["input_tok_ids"] = list(range(200 * i, 200 * (i + 1)))
    for path, lines in ((folder / "requests.jsonl", rows), (workload, requests)):
        written(path, "".join(json.dumps(line) + "\n" for line in lines))
    return folder, workload


def run(capsys: pytest.CaptureFixture, made: tuple[Path, Path], profile: str, *flags: object) -> str:
    return validate(capsys, "run", "--measured", made[0], "--workload", made[1], "--profile", profile, *flags)


def test_run_shows_means_and_the_gpu_that_is_another(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    made = run_folder(tmp_path, [10, 20, 30], gpu="NVIDIA RTX PRO 6000 Blackwell Server Edition")
    out = run(capsys, made, "h100_llama-3.1-8b_tp1_bf16")
    assert "warning: run was measured on rtx-pro-6000; predicted is h100-sxm" in " ".join(out.split())
    assert figures(out, "TTFT ")[0] == "20.00"
    assert figures(out, "TPOT")[0] == "8.000"


def test_run_that_does_not_say_its_gpu(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = run(capsys, run_folder(tmp_path, [10]), "h100_llama-3.1-8b_tp1_bf16")
    assert "run does not say on which GPU it was measured; predicted is h100-sxm" in " ".join(out.split())


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({}, "without scheduled_ts it is not known which of them compute prompts"),
        ({"data_parallel_size": 2}, "requests do not say which of the 2 engines served them"),
        (
            {"speculative_config": {"method": "ngram", "num_speculative_tokens": 3}},
            "with drafts a step makes more than a token of a sequence",
        ),
    ],
)
def test_run_says_why_its_steps_are_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture, engine: dict[str, Any], said: str
) -> None:
    arguments = {"tensor_parallel_size": 1, "max_num_seqs": 16, "max_model_len": 4096, **engine}
    made = run_folder(tmp_path, [10], gpu="h100", engine_kwargs=arguments)
    out = run(capsys, made, "h100_llama-3.1-8b_tp1_bf16")
    assert f"steps of the run are not known: {said}" in " ".join(out.split())


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("nightly", "run names vLLM 'nightly', which is no version: taken for one of today"),
        ("0.40.0", "run: vLLM 0.40.0 is newer than 0.32, the latest that is known, whose rules are taken"),
        ("0.12.0", "run: vLLM 0.12.0: the rules of its scheduler were not recorded; those of 0.15 are taken"),
    ],
)
def test_run_of_another_version_is_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture, version: str, said: str
) -> None:
    made = run_folder(tmp_path, [10], gpu="h100", vllm_version=version)
    assert said in " ".join(run(capsys, made, "h100_llama-3.1-8b_tp1_bf16").split())


def test_run_of_single_tokens_has_no_tpot(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    made, json_out = run_folder(tmp_path, [1, 1], gpu="h100"), tmp_path / "out.json"
    out = run(capsys, made, "h100_llama-3.1-8b_tp1_bf16", "--json", json_out)
    assert set(figures(out, "TPOT")) == {"-"}
    assert json.loads(json_out.read_text(encoding="utf-8"))["errors"]["tpot"]["mean_pct"] is None


BAD_META = {
    "engine_kwargs.gpu_memory_utilization = 'much'": {"gpu_memory_utilization": "much"},
    "engine_kwargs.dtype = 'float1'": {"dtype": "float1"},
    "engine_kwargs.max_num_seqs = 0": {"max_num_seqs": 0},
    "none of 1 requests fits": {"max_model_len": 64},
}


@pytest.mark.parametrize(("message", "engine"), BAD_META.items(), ids=range(len(BAD_META)))
def test_bad_runs_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, message: str, engine: dict[str, object]
) -> None:
    folder, workload = run_folder(tmp_path, [10], engine_kwargs=engine)
    flags = ["--measured", folder, "--workload", workload, "--profile", "h100_llama-3.1-8b_tp1_bf16"]
    refused(capsys, message, "run", *flags)


def refused(capsys: pytest.CaptureFixture, message: str, *arguments: object) -> None:
    assert main(["validate", *map(str, arguments)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_bad_loads_and_points_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    load = written(tmp_path / "r.json", bench())
    refused(capsys, "must be like 0.32.0", "load", load, *FLAGS, "--vllm-version", "new")
    refused(capsys, "r.json: is empty", "load", written(tmp_path / "r.json", ""), *FLAGS)
    refused(capsys, "concurrency = '²'", "points", points(tmp_path, "512,64,²,50,8.5"))
    refused(capsys, "concurrency = '200000'", "points", points(tmp_path, "512,64,200000,50,8.5"))
    unknown = written(tmp_path / "points.csv", f"{HEAD}llama-9,h100,,bf16?,1,512,64,4,50,8\n")
    refused(capsys, "line 2: model.name: unknown model 'llama-9'", "points", unknown)
    refused(capsys, "holds no operating point", "points", points(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 5000, '{"config": {}, "requests": [], "steps": []}'])
def test_bad_recordings_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture, text: str) -> None:
    refused(capsys, "recording.json", "oracle", written(tmp_path / "recording.json", text))


def test_a_recording_of_nothing_is_not_identical(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    settings = {"num_blocks": 9, "block_size": 4, "max_num_batched_tokens": 8, "max_num_seqs": 2, "max_model_len": 32}
    empty = {"config": settings, "requests": [], "steps": []}
    refused(capsys, "holds no request: nothing to compare", "oracle", written(tmp_path / "r.json", empty))


def test_load_takes_several_files_in_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    one, two = written(tmp_path / "one.json", bench()), written(tmp_path / "two.json", aiperf())
    json_out = tmp_path / "out.json"
    out = validate(capsys, "load", one, "--measured", two, *FLAGS, "--json", json_out)
    names = [entry["measured"]["name"] for entry in json.loads(json_out.read_text(encoding="utf-8"))["loads"]]
    assert names == ["one.json", "two.json"]
    assert max(len(line) for line in out.splitlines()) <= 80


def test_load_says_that_it_is_beyond_saturation(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """500 a second, of which 20 were answered; a queue of two minutes."""
    values = bench(
        request_rate=500.0, max_concurrency=None, completed=2000, num_prompts=2000, request_throughput=20.0,
        total_input_tokens=2_048_000, total_output_tokens=256_000, mean_ttft_ms=48_000.0,
    )  # fmt: skip
    json_out = tmp_path / "out.json"
    out = validate(capsys, "load", written(tmp_path / "r.json", values), *FLAGS, "--json", json_out)
    assert "beyond saturation, as measured and as predicted: 500 requests/s are sent, 20 were" in " ".join(out.split())
    (entry,) = json.loads(json_out.read_text(encoding="utf-8"))["loads"]
    assert (entry["saturated"]["measured"], entry["saturated"]["predicted"]) == (True, True)
