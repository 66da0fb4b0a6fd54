"""``kvsim lab run``, ``audit`` and ``designs``: what they write and print, and bad input in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvsim.lab.kv.folder import read_run
from kvsim.lab.kv.reading import names

GOOD = """\
question: What is saved?
server: vllm serve meta-llama/Llama-3.2-1B-Instruct
gpu: h100-sxm
family: shared_prefix
requests: 3
repeats: 2
"""


@pytest.fixture
def design(tmp_path: Path) -> Callable[..., Path]:
    """A file of a design with further lines."""

    def written(*lines: str, without: str = "\0") -> Path:
        path = tmp_path / "own.yaml"
        kept = [line for line in GOOD.splitlines() if not line.startswith(without)]
        path.write_text("\n".join([*kept, *lines]) + "\n")
        return path

    return written


def test_every_design_is_listed_with_its_question(kvsim: Callable[..., Any]) -> None:
    found = kvsim("lab", "designs")
    listed = [line.split()[0] for line in found.out.splitlines() if not line.startswith(" ")]
    assert found.code == 0 and listed == list(names()) and found.out.count("?") == len(listed)


def test_a_run_leaves_rows_that_can_be_read_back(
    kvsim: Callable[..., Any], design: Callable[..., Path], tmp_path: Path
) -> None:
    found = kvsim("lab", "run", design("warm_up: same"), "--no-plot", "--out", tmp_path / "o")
    assert found.code == 0, found.err
    trials = read_run(tmp_path / "o")
    assert (trials.name, trials.backend, trials.design["warm_up"]) == ("own", "simulated", "same")
    assert [row.prefix_hits for row in trials.phases] == [0, 1136 + 2 * 1024] * 2
    audited = json.loads((tmp_path / "o" / "audit.json").read_text())
    assert [row["expected_hit_tokens"] for row in audited["phases"]] == [0, 1136 + 2 * 1024]
    assert "own, simulated" in found.out and "3/3" in found.out


def test_the_same_bytes_again_and_in_chunks(
    kvsim: Callable[..., Any], design: Callable[..., Path], tmp_path: Path
) -> None:
    path = design("rate_per_s: 9", "family: no_repeat_variants", without="family")
    arguments = ("lab", "run", path, "--no-plot", "--quiet", "--requests", "4", "--seed", "3")
    for folder, more in {
        "a": (),
        "b": (),
        "c": ("--repeats", "1"),
        "d": ("--repeats", "1", "--first-repeat", "1"),
    }.items():
        assert kvsim(*arguments, *more, "--out", tmp_path / folder).code == 0
    for name in ("phases.jsonl", "requests.jsonl", "lab-run.json"):
        whole = (tmp_path / "a" / name).read_bytes()
        assert whole == (tmp_path / "b" / name).read_bytes()
        if name.endswith("jsonl"):
            assert whole == b"".join((tmp_path / part / name).read_bytes() for part in "cd")


def test_smoke_is_small(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    run = ("lab", "run", "phase_order", "--preset", "smoke", "--no-plot", "--quiet")
    assert kvsim(*run, "--out", tmp_path / "o").code == 0
    found = read_run(tmp_path / "o").phases
    assert {row.repeat for row in found} == {0, 1, 2, 3} and {row.requests for row in found} == {8}


def test_a_server_that_never_starts_is_told(
    kvsim: Callable[..., Any], design: Callable[..., Path], tmp_path: Path
) -> None:
    path = design("vary: {gpu_memory_utilization: [0.01]}")
    found = kvsim("lab", "run", path, "--no-plot", "--out", tmp_path / "o")
    assert found.code == 2 and found.out == "" and found.err.count("\n") == 1 and not (tmp_path / "o").exists()
    assert "the server starts nowhere, gpu_memory_utilization = 0.01: " in found.err and "does not fit" in found.err
    path = design("vary: {gpu_memory_utilization: [0.01, 0.9]}")
    found = kvsim("lab", "run", path, "--no-plot", "--out", tmp_path / "o")
    assert found.code == 0 and "not up" in found.out
    rows = read_run(tmp_path / "o").phases
    assert {row.at["gpu_memory_utilization"]: row.started for row in rows} == {0.01: False, 0.9: True}
    assert all("does not fit" in row.failure for row in rows if not row.started)


def test_an_audit_is_a_table_and_json(kvsim: Callable[..., Any], design: Callable[..., Path], tmp_path: Path) -> None:
    found = kvsim("lab", "audit", design(), "--json", tmp_path / "a.json", "--seed", "4")
    told = json.loads((tmp_path / "a.json").read_text())
    assert found.code == 0 and [row["expected_hits"] for row in told["phases"]] == [[0, 0, 0], [0, 1024, 1024]]
    digest = next(iter(told["phases"][1]["prefixes"]))
    assert told["phases"][1]["prefixes"] == {digest: 3} and len(digest) == 64
    other = kvsim("lab", "audit", design(), "--json", tmp_path / "b.json", "--seed", "5")
    assert other.code == 0 and digest not in (tmp_path / "b.json").read_text()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["famly: x"], "own.yaml: unknown key 'famly'; did you mean 'family'?"),
        (["cold: hot"], "own.yaml: cold = 'hot': must be 'unique_prompts' or 'caching_off'"),
        (["control: repeated"], "own.yaml: control: a family is named there"),
        (["isolation: same_engine"], "own.yaml: isolation: an engine that serves both phases has a cache in both"),
        (["concurrency: 2", "rate_per_s: 1"], "own.yaml: concurrency and rate_per_s: one of both"),
        (["vary: {concurency: [1]}"], "own.yaml: vary: unknown name 'concurency'; did you mean 'concurrency'?"),
        (["vary: {requests: [0]}"], "own.yaml: vary.requests has 0; allowed: whole numbers >= 1"),
        (["vary: {requests: [2, 2]}"], "own.yaml: vary.requests has a value twice"),
        (["vary: {requests: [1.5]}"], "own.yaml: vary.requests has 1.5; allowed"),
        (["vary: {requests: []}"], "own.yaml: vary.requests"),
        (["rate_per_s: 2", "vary: {concurrency: [1]}"], "own.yaml: concurrency and rate_per_s: one of both"),
        (["vary: {gpu_memory_utilization: [2]}"], "own.yaml: vary.gpu_memory_utilization has 2"),
        (["vary: {block_size: [7]}"], "own.yaml: vllm serve: --block-size 7: must be a multiple of 16"),
        (["cold: unique_prompts", "warm_up: same"], "own.yaml: warm_up: same, with cold: unique_prompts"),
        (
            ["search: {key: kv_budget_gb, low: 2, high: 1, within: 1}"],
            "own.yaml: search: low = 2 must be below high = 1",
        ),
        (["search: {key: kv_budget_gb, low: 1, high: 2, within: 1.0e-20}"], "own.yaml: search.within"),
        (["prefix_tokens: 131000", "suffix_tokens: 100"], "own.yaml: a prompt of 131,100 tokens"),
        (["set: {engine.max_num_sqs: 3}"], "own.yaml: "),
    ],
)
def test_bad_designs_are_one_line(
    kvsim: Callable[..., Any], design: Callable[..., Path], tmp_path: Path, lines: list[str], said: str
) -> None:
    found = kvsim("lab", "run", design(*lines), "--out", tmp_path / "o")
    assert (found.code, found.out) == (2, "") and said in found.err and found.err.count("\n") == 1, found.err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("lines", "without", "said"),
    [
        (["family: shard_prefix"], "family", "family = 'shard_prefix': unknown; did you mean 'shared_prefix'?"),
        ([], "gpu", "own.yaml: gpu is missing"),
        (["server: sglang serve meta-llama/Llama-3.2-1B-Instruct"], "server", "own.yaml: server: is SGLang's"),
        (["server: vllm serve gpt2 --no-enable-prefix-caching"], "server", "own.yaml: server: says itself"),
        (["server: vllm serve nobody/nothing"], "server", "own.yaml: "),
        (["gpu: h1000"], "gpu", "own.yaml: "),
    ],
)
def test_bad_values_are_one_line(
    kvsim: Callable[..., Any], design: Callable[..., Path], lines: list[str], without: str, said: str
) -> None:
    for verb in ("run", "audit"):
        found = kvsim("lab", verb, design(*lines, without=without))
        assert (found.code, found.out) == (2, "") and said in found.err and found.err.count("\n") == 1, found.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "paired_prefix_cach"), "there is no design 'paired_prefix_cach'; did you mean 'paired_prefix_cache'?"),
        (("run", "no.yaml"), "no.yaml: no such file"),
        (("audit", "nothing"), "there is no design 'nothing'"),
        (("run", "a_a", "--backend", "simulate"), "did you mean 'simulated'?"),
        (("run", "a_a", "--url", "http://x"), "--url goes with --backend url, not with simulated"),
        (("run", "a_a", "--backend", "url"), "--backend url needs --url"),
        (("run", "a_a", "--preset", "dev"), "known: smoke"),
        (("run", "a_a", "--dry-run"), "--dry-run goes with --backend modal, not with simulated"),
        (("run", "a_a", "--backend", "local", "--start", "'"), "--start"),
        (("run", "request_counts", "--requests", "3"), "varies requests itself"),
        (("audit", "request_counts", "--requests", "3"), "varies requests itself"),
        (("run", "a_a", "--repeats", "0"), "--repeats"),
    ],
)
def test_bad_flags_are_one_line(kvsim: Callable[..., Any], arguments: tuple[str, ...], said: str) -> None:
    found = kvsim("lab", *arguments)
    assert (found.code, found.out) == (2, "") and said in found.err and found.err.count("\n") == 1, found.err


def test_folders_of_others_stay(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "mine.txt").write_text("mine\n")
    found = kvsim("lab", "run", "a_a", "--out", theirs)
    assert found.code == 2 and "has files and no lab-run.json" in found.err and len(list(theirs.iterdir())) == 1


def test_a_dry_run_on_a_rented_gpu_says_plan_and_cost(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    run = ("lab", "run", "isolated_neutral_warmup", "--backend", "modal", "--preset", "smoke", "--repeats", "1")
    found = kvsim(*run, "--dry-run", "--out", tmp_path / "o")
    assert (found.code, found.err) == (0, "") and not (tmp_path / "o").exists()
    assert "load p0-r0-cache: shared_prefix of repeat 0: 8 requests" in found.out and "costs at most " in found.out
    assert found.out.count("server: vllm serve meta-llama/Llama-3.1-8B-Instruct") == 2


def test_a_rented_gpu_wants_credentials(
    kvsim: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("modal", reason="pip install 'kvsim[modal]'")
    from kvsim.errors import ConfigError
    from kvsim.measure import modal_app

    def refuses() -> None:
        raise ConfigError("no credentials for Modal that it takes")

    monkeypatch.setattr(modal_app, "check_account", refuses)
    found = kvsim("lab", "run", "same_worker_unique", "--backend", "modal", "--out", tmp_path / "o")
    assert (found.code, found.out) == (2, "") and found.err == "kvsim: error: no credentials for Modal that it takes\n"
    assert not (tmp_path / "o").exists()
