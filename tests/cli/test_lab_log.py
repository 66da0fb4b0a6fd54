"""The log of a vLLM server: start-up, capacity, load, and what is no log."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvsim.lab.kv.analysis.serverlog import load_summaries, read_server_log

START = """\
(APIServer pid=7) INFO 12-31 23:59:00 [api.py:9] vLLM API server version 0.11.2
(APIServer pid=7) INFO 12-31 23:59:00 [utils.py:9] non-default args: {'model': 'm/x', 'api_key': ['hidden'], \
'max_num_batched_tokens': 8192, 'kv_transfer_config': {'kv_role': 'kv_both', 'auth_token': 'hidden'}}
(EngineCore_DP0 pid=9) INFO 12-31 23:59:10 [loader.py:9] Loading weights took 2.50 seconds
(EngineCore_DP0 pid=9) INFO 12-31 23:59:11 [runner.py:9] Model loading took 15.27 GiB memory and 3.125 seconds
(EngineCore_DP0 pid=9) INFO 12-31 23:59:20 [worker.py:9] Available KV cache memory: 13.13 GiB
(EngineCore_DP0 pid=9) INFO 12-31 23:59:20 [kv.py:9] GPU KV cache size: 89,040 tokens
(EngineCore_DP0 pid=9) INFO 12-31 23:59:20 [kv.py:9] Maximum concurrency for 8,192 tokens per request: 10.87x
(EngineCore_DP0 pid=9) INFO 12-31 23:59:29 [runner.py:9] Graph capturing finished in 9 secs, took 0.66 GiB
(EngineCore_DP0 pid=9) INFO 12-31 23:59:30 [core.py:9] init engine (profile, create kv cache, warmup model) took 19.5 s
some library says something
(APIServer pid=7) WARNING 12-31 23:59:31 [config.py:9] Something is overridden
"""
LINE = (
    "(APIServer pid=7) INFO {time} [loggers.py:9] Engine {engine}: Avg prompt throughput: {prompt} tokens/s, "
    "Avg generation throughput: {out} tokens/s, Running: {running} reqs, Waiting: {waiting} reqs, {more}"
    "GPU KV cache usage: {kv}%, Prefix cache hit rate: {hits}%{end}\n"
)


def line(time: str, engine: str = "000", **values: object) -> str:
    usual: dict[str, object] = {"prompt": "10.0", "out": "5.5", "running": 0, "waiting": 0, "kv": "1.0", "hits": "0.0"}
    return LINE.format(time=time, engine=engine, **{**usual, "more": "", "end": "", **values})


LOAD = (
    line(
        "12-31 23:59:40",
        running=4,
        waiting=2,
        kv="95.5",
        more="Preemptions: 3, ",
        end=", External prefix cache hit rate: 7.0%",
    )
    + line("12-31 23:59:50", running=3, prompt="1200.5", hits="12.5", end=", MM cache hit rate: 50.0%")
    + line("01-01 00:00:00", out="99.0", hits="25.0")
    + line("01-01 00:00:00", engine="001", running=1)
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "server.log"
    path.write_text(START + LOAD)
    return path


def test_start_up_and_capacity(log: Path) -> None:
    found = read_server_log(log)
    assert {name: values[0] for name, values in found.facts.items()} == {
        "version": "0.11.2",
        "weights_s": "2.50",
        "model_gib": "15.27",
        "model_s": "3.125",
        "kv_memory_gib": "13.13",
        "kv_tokens": "89040",
        "tokens_per_request": "8192",
        "max_concurrency": "10.87",
        "graphs_s": "9",
        "graphs_gib": "0.66",
        "init_engine_s": "19.5",
    }
    assert (found.lines, found.unknown, found.warnings, found.errors) == (15, 1, 1, 0)


def test_secrets_are_left_out_and_numbers_of_tokens_are_not(log: Path, kvsim: Callable[..., Any]) -> None:
    arguments = read_server_log(log).arguments
    assert arguments == {
        "model": "m/x",
        "max_num_batched_tokens": 8192,
        "kv_transfer_config": {"kv_role": "kv_both"},
    }
    for more in ((), ("--json",)):
        assert "hidden" not in kvsim("lab", "log", log, *more).out


def test_load_by_engine_over_the_turn_of_the_year(log: Path) -> None:
    found = read_server_log(log)
    assert [one.time_s for one in found.samples] == [40.0, 50.0, 60.0, 60.0]
    first, second = load_summaries(found)
    assert (first.samples, first.interval_s, first.running_s, first.waiting_s) == (3, 10.0, 20.0, 10.0)
    assert (first.peak_prompt_tokens_per_s, first.peak_output_tokens_per_s) == (1200.5, 99.0)
    assert (first.peak_running, first.peak_waiting, first.peak_kv_usage_pct) == (4, 2, 95.5)
    assert (first.last_hit_rate_pct, first.preemptions) == (25.0, 3)
    assert (second.engine, second.interval_s, second.running_s) == ("001", None, None)


def test_other_spellings(tmp_path: Path) -> None:
    path = tmp_path / "old.log"
    path.write_text(
        "INFO 07-08 07:17:34 metrics.py:3] Avg prompt throughput: 6.4 tokens/s, "
        "Avg generation throughput: 9.1 tokens/s, Running: 4 reqs, "
        "Swapped: 0 reqs, Pending: 2 reqs, GPU KV cache usage: 15.6%, CPU KV cache usage: 0.0%\n"
        "INFO 07-08 07:17:44 [loggers.py:3] 2 Engines Aggregated: Avg prompt throughput: 1.0 tokens/s, "
        "Avg generation throughput: 1.0 tokens/s, Running: 1 reqs, Waiting: 0 reqs, Deferred: 1 reqs, "
        "GPU KV cache usage: 1.0%, Prefix cache hit rate: 3.0%\n"
        "WARNING 07-08 07:17:45 [s.py:3] Request a is preempted by recompute\n"
        "ERROR 07-08 07:17:46 [s.py:3] EngineCore failed\n"
    )
    found = read_server_log(path)
    assert [(one.engine, one.waiting, one.kv_usage_pct, one.hit_rate_pct) for one in found.samples] == [
        ("000", 2, 15.6, None),
        ("2 together", 0, 1.0, 3.0),
    ]
    assert (found.preemption_lines, found.warnings, found.errors, found.unknown) == (1, 1, 1, 0)


def test_the_verb_prints_json_and_a_table(log: Path, kvsim: Callable[..., Any], tmp_path: Path) -> None:
    found = kvsim("lab", "log", log)
    assert found.code == 0 and "KV cache 89040 tokens" in found.out and "1 of 15 lines unread" in found.out
    assert "running for about 20.0 s, waiting for about 10.0 s" in found.out
    told = json.loads(kvsim("lab", "log", log, "--json").out)
    assert len(told["samples"]) == 4 and told["load"][0]["peak_running"] == 4
    assert kvsim("lab", "log", log, "-o", tmp_path / "t.csv").code == 0
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert [row["kv_usage_pct"] for row in rows] == ["95.5", "1.0", "1.0", "1.0"]
    assert kvsim("lab", "log", log, "-o", tmp_path / "t.csv").code == 0


def test_bad_input_of_log_is_one_line(log: Path, kvsim: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("hello\nAvg prompt throughput: none\n")
    (tmp_path / "start.log").write_text(START)
    (tmp_path / "mine.csv").write_text("a,b\n")
    for arguments, said in (
        ((), "FILE is missing"),
        ((tmp_path / "none.log",), "no such file"),
        ((tmp_path / "other.txt",), "none of its 2 lines"),
        ((tmp_path,), "is a directory"),
        ((log, "-o", log), "the log"),
        ((log, "-o", tmp_path / "mine.csv"), "no table of kvsim lab log's"),
        ((tmp_path / "start.log", "-o", tmp_path / "x.csv"), "no periodic line"),
    ):
        found = kvsim("lab", "log", *arguments)
        assert found.code == 2 and found.err.count("\n") == 1 and said in found.err, (arguments, found.err)
    assert (tmp_path / "mine.csv").read_text() == "a,b\n" and not (tmp_path / "x.csv").exists()
    idle = kvsim("lab", "log", tmp_path / "start.log")
    assert idle.code == 0 and "its load cannot be told" in idle.out
