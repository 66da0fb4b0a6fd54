"""``kvsim lab schedule`` and ``kvsim lab workload``: what they write, and bad input."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TINY = Path(__file__).resolve().parents[2] / "experiments" / "lab" / "workloads" / "tiny.json"
ROW = {"id": "a", "arrival_ms": 0, "prompt_tokens": 100, "output_tokens": 10}


def written(folder: Path, *rows: dict[str, object], **others: object) -> Path:
    path = folder / "w.json"
    path.write_text(json.dumps({"name": "w", "requests": list(rows)} | others))
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_schedule_writes_what_its_table_says(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    asked = ("lab", "schedule", TINY, "--kv-budget", "tight-1gb-kv", "--max-concurrent-requests", "8")
    found = kvsim(*asked, "-o", tmp_path / "o")
    assert found.code == 0 and "under tight-1gb-kv of KV, answers take" in found.out
    names = ["requests.csv", "schedule.csv", "schedule.json", "schedule.png", "timeline.csv"]
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == names
    told = json.loads((tmp_path / "o" / "schedule.json").read_text())
    assert [row["scheduler"] for row in told["rows"]] == ["fifo", "shortest-cache", "memory-aware-deadline", "vllm"]
    lives, levels = rows_of(tmp_path / "o" / "requests.csv"), rows_of(tmp_path / "o" / "timeline.csv")
    assert len(lives) == 12 and {row["budget"] for row in lives} == {"tight-1gb-kv"}
    # 16 tokens of 128 KiB each; 10**9 bytes hold 476 of them.
    assert {row["kv_bytes"] for row in lives if row["id"] == "report"} == {str(188 * 2 * 1024**2)}
    assert max(int(row["kv_bytes"]) for row in levels) <= 476 * 2 * 1024**2 <= 10**9
    waits = {row["id"]: float(row["queue_ms"]) for row in lives if row["scheduler"] == "fifo"}
    assert waits["report"] < waits["contract"] < 500 < waits["memo"]
    again = kvsim(*asked, "-o", tmp_path / "p", "--no-plot", "--quiet")
    assert again.out.strip() == told["conclusion"]
    for name in ("requests.csv", "schedule.csv", "schedule.json", "timeline.csv"):
        assert (tmp_path / "o" / name).read_bytes() == (tmp_path / "p" / name).read_bytes()


def test_a_sweep_has_a_row_a_budget_and_scheduler(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    found = kvsim(
        "lab", "schedule", TINY, "--sweep-budget", "2gb,0.5gb", "--scheduler", "fifo", "--scheduler", "shortest-cache",
        "--quiet", "-o", tmp_path,
    )  # fmt: skip
    assert found.code == 0 and found.out.startswith("the smallest KV budget tried whose mean latency is at most 5%")
    rows = [(row["budget"], row["scheduler"]) for row in rows_of(tmp_path / "schedule.csv")]
    assert rows == [(size, name) for size in ("0.5gb", "2gb") for name in ("fifo", "shortest-cache")]


def test_what_nobody_waits_for_is_alike(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    found = kvsim("lab", "schedule", written(tmp_path, ROW), "--quiet", "--no-plot", "-o", tmp_path)
    assert "fifo, shortest-cache, memory-aware-deadline and vllm answer in" in found.out and "all alike" in found.out
    assert "deadline" not in found.out.replace("memory-aware-deadline", "")
    alone = kvsim("lab", "schedule", tmp_path / "w.json", "--scheduler", "fifo", "--quiet", "--no-plot", "-o", tmp_path)
    assert "fifo answers in" in alone.out and "0 s of it in the queue" in alone.out


def test_tokenising_by_a_rate_is_a_phase(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    asked = ("lab", "schedule", written(tmp_path, ROW), "--scheduler", "fifo", "--no-plot", "-o", tmp_path / "o")
    slow = kvsim(*asked, "--tokenise-us-per-token", "50")
    assert slow.code == 0 and "tokenising takes 50 us a token" in slow.out
    assert [row["tokenise_ms"] for row in rows_of(tmp_path / "o" / "requests.csv")] == ["5.0"]


@pytest.mark.parametrize("kind", ["mixed", "bursty"])
def test_a_workload_is_drawn_the_same_again_and_served(kvsim: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert kvsim("lab", "workload", kind, "--requests", "24", "--seed", seed, "-o", tmp_path / name).code == 0
    texts = [(tmp_path / name).read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]
    requests = json.loads(texts[0])["requests"]
    assert len(requests) == 24 and {"prefix_group", "deadline_ms"} <= {key for row in requests for key in row}
    found = kvsim(
        "lab", "schedule", tmp_path / "a", "--scheduler", "vllm", "--quiet", "--no-plot", "-o", tmp_path / "o"
    )
    assert found.code == 0


BAD_FILES = [
    ((), "{}", "name is missing"),
    ((), "", "is empty"),
    ((), "[1]", "holds a list"),
    ((), '{"name": "w",\n "requests": [,]}', "line 2: is no JSON"),
    ((), '{"name": "w", "name": "v", "requests": []}', "key 'name' stands twice"),
    ((), '{"name": "w", "requests": [{"arrival_ms": NaN}]}', "NaN is no number"),
    ((), None, "requests: nothing is in it; a list of requests is wanted"),
    ((), '{"name": "w", "requests": {}}', "requests: a mapping; a list"),
    (({"id": []},), None, "request 1: id: "),
    (({"id": "a"},), None, "request 1 ('a'): arrival_ms is missing"),
    ((ROW, ROW), None, "id 'a' stands there twice"),
    ((ROW, ROW | {"id": "b", "arrival_ms": -1}), None, "request 2 ('b'): arrival_ms = -1"),
    ((ROW | {"deadline_ms": 0},), None, "request 1 ('a'): deadline_ms = 0"),
    ((ROW | {"prompt_tokens": 1.5},), None, "request 1 ('a'): prompt_tokens = 1.5"),
    ((ROW | {"output_tokens": 0},), None, "request 1 ('a'): output_tokens = 0"),
    ((ROW | {"output_token": 3},), None, "unknown field 'output_token'; did you mean 'output_tokens'?"),
    ((ROW | {"id": 7},), None, "request 1: id = 7"),
    ((3,), None, "request 1: a number; an object with id, "),
    ((ROW | {"prefix_group": "g"},), None, "request 1 ('a'): prefix_group and prefix_tokens: one of both is missing"),
    ((ROW | {"prefix_group": "g", "prefix_tokens": 101},), None, "prefix_tokens = 101: longer than the prompt"),
    (
        (
            ROW | {"prefix_group": "g", "prefix_tokens": 10},
            ROW | {"id": "b", "prefix_group": "g", "prefix_tokens": 11},
        ),
        None,
        "request 'b': prefix_tokens = 11 in group 'g', where request 'a' has 10",
    ),
]


@pytest.mark.parametrize(("rows", "text", "said"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_bad_files_are_one_line(
    kvsim: Callable[..., Any], tmp_path: Path, rows: tuple[dict[str, object], ...], text: str | None, said: str
) -> None:
    path = written(tmp_path, *rows)
    if text is not None:
        path.write_text(text)
    found = kvsim("lab", "schedule", path, "-o", tmp_path / "o")
    assert found.code == 2 and found.out == "" and found.err.count("\n") == 1
    assert said in found.err and "w.json" in found.err and not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--scheduler", "fif"), "--scheduler is 'fif'; did you mean 'fifo'?"),
        (("--kv-budget", "1"), "--kv-budget is '1'; allowed: a number and its unit"),
        (("--kv-budget", "tight"), "did you mean 'tight-1gb-kv'?"),
        (("--kv-budget", "0gb"), "allowed: a byte or more"),
        (("--kv-budget", "1gb", "--sweep-budget", "1gb"), "one of both"),
        (("--sweep-budget", "1gb,tight-1gb-kv"), "are as large"),
        (("--sweep-budget", "1gb,"), "--sweep-budget is ''"),
        # The contract's 3,600 tokens are 225 blocks of 2 MiB.
        (("--kv-budget", "0.4gb"), "request 'contract' takes 225; the smallest budget that would do is 471859200b"),
        (("--kv-budget", "100gb"), "and the server has 28,239"),
        (("--max-concurrent-requests", "0"), "--max-concurrent-requests"),
        (("--max-concurrent-requests", "100000"), "allowed: up to"),
        (("--server", "vllm serve meta-llama/Llama-3.1-8B-Instruct --max-model-len 2048"), "max_model_len is 2,048"),
        (("--server", "sglang serve --model-path meta-llama/Llama-3.1-8B-Instruct"), "a line of SGLang"),
        (("--server", "vllm serve meta-llama/Llama-3.1-8B-Instruct -dp 2"), "data parallelism is not modelled"),
        (("--tokenise-us-per-token", "-1"), "--tokenise-us-per-token"),
    ],
)
def test_bad_flags_are_one_line(
    kvsim: Callable[..., Any], tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    found = kvsim("lab", "schedule", TINY, "-o", tmp_path / "o", *arguments)
    assert found.code == 2 and found.out == "" and said in found.err and found.err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_the_smallest_budget_named_does_and_a_byte_less_does_not(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    asked = ("lab", "schedule", TINY, "--scheduler", "fifo", "--quiet", "--no-plot", "-o", tmp_path, "--kv-budget")
    assert kvsim(*asked, "471859200b").code == 0 and kvsim(*asked, "471859199b").code == 2


def test_a_workload_of_no_kind_and_files_of_others(kvsim: Callable[..., Any], tmp_path: Path) -> None:
    found = kvsim("lab", "workload", "mixd", "-o", tmp_path / "w")
    assert found.code == 2 and "did you mean 'mixed'?" in found.err and not (tmp_path / "w").exists()
    (tmp_path / "notes").write_text("mine")
    assert kvsim("lab", "workload", "mixed", "-o", tmp_path / "notes").code == 2
    (tmp_path / "requests.csv").write_text("mine")
    found = kvsim("lab", "schedule", TINY, "-o", tmp_path)
    assert found.code == 2 and "is no schedule's" in found.err and (tmp_path / "requests.csv").read_text() == "mine"
