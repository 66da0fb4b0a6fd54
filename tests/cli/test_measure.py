"""``kvsim measure``: files, words, exit codes; no byte of a key anywhere."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from installed import as_installed
from model_server import Behaviour, Model

from kvsim.measure.files import measured_of

MAIN = Path(__file__).resolve().parents[2] / "main.py"
QUICK = Behaviour(first_s=0.01, token_s=0.001)
WORKLOAD = ("--workload", "in=40-60,out=6,prefix=20:2", "--rate", "100")
SECRET = "sk-do-not-show-17"


def test_a_run_is_told_in_80_columns_and_written_thrice(kvsim, empty: Path) -> None:
    with Model(replace(QUICK, fails={3: "500"}, owner="vllm", version="0.32.0")) as model:
        code, out, err = kvsim(
            "measure", "--url", f"{model.url}/v1/", *WORKLOAD, "--requests", "30", "-o", "rows.jsonl",
            "--bench-json", "b.json", "--json", "r.json",
        )  # fmt: skip
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80
    flat = " ".join(out.split())
    for words in (
        f"server: {model.url}, model-of-tests on vllm 0.32.0", "seed 42: 30 requests in", "late at p99", "TTFT (ms)",
        "TPOT (ms)", "ITL (ms)", "E2E (s)", "failed: 1 of 30 requests: 1 http_500", "http_500: as told to fail",
        "by the answers' usage",
    ):  # fmt: skip
        assert words in flat
    assert err == "kvsim: wrote rows.jsonl\nkvsim: wrote b.json\nkvsim: wrote r.json\n"
    report = json.loads(Path("r.json").read_text())
    assert (report["measured"]["answered"], report["measured"]["failures"]) == (29, {"http_500": 1})
    assert report["measured"]["by_usage"]["hits"] == 20 * 27 or report["measured"]["by_usage"]["hits"] > 0
    (run,) = measured_of(Path("rows.jsonl"))
    assert len(run.rows) == 30 and json.loads(Path("b.json").read_text())["completed"] == 29


def test_quiet_says_times_and_what_went_wrong(kvsim, empty: Path) -> None:
    with Model(replace(QUICK, fails={3: "500"})) as model:
        code, out, err = kvsim(
            "measure", "--url", model.url, *WORKLOAD, "--requests", "10", "--quiet", "-o", "r.parquet"
        )
    assert (code, err) == (0, "") and "TTFT" in out and "1 http_500" in out and "server:" not in out
    (run,) = measured_of(Path("r.parquet"))
    assert len(run.rows) == 10


def test_json_alone_on_stdout(kvsim, empty: Path) -> None:
    with Model(QUICK) as model:
        code, out, err = kvsim("measure", "--url", model.url, *WORKLOAD, "--requests", "5", "--json", "-")
    assert code == 0 and json.loads(out)["measured"]["answered"] == 5 and "TTFT" in err


def test_a_trace_and_users(kvsim, empty: Path) -> None:
    rows = "".join(f'{{"timestamp": {20 * at}, "input_length": 40, "output_length": 3}}\n' for at in range(10))
    Path("t.jsonl").write_text(rows)
    with Model(QUICK) as model:
        code, out, _ = kvsim("measure", "--url", model.url, "--workload", "t.jsonl")
        assert code == 0 and "10 requests in 0." in out
        code, out, _ = kvsim(
            "measure", "--url", model.url, "--workload", "in=40,out=3", "--concurrency", "3", "--requests", "12"
        )
        assert code == 0 and "by 3 users" in out and "at most 3 in flight" in out
        assert model.most_running == 3


def test_nothing_answered_is_one(kvsim, empty: Path) -> None:
    with Model(replace(QUICK, fails=dict.fromkeys(range(9), "503"))) as model:
        code, out, _ = kvsim("measure", "--url", model.url, *WORKLOAD, "--requests", "5", "-o", "r.jsonl")
    assert code == 1 and "5 http_503" in out and "TTFT" not in out
    assert len(Path("r.jsonl").read_text().splitlines()) == 6


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "missing option '--url'"),
        (("--url", "localhost:8000"), "allowed: http://HOST:PORT"),
        (("--url", "http://h:99999"), "not a port"),
        (("--url", "http://h/v1?key=abc"), "a query"),
        (("--url", "http://127.0.0.1:9"), "has no times of its own"),
        (("--url", "http://127.0.0.1:9", "--rate", "1", "--concurrency", "2"), "exclude each other"),
        (("--url", "http://127.0.0.1:9", "--rate", "1"), "no server answers at http://127.0.0.1:9: refused"),
        (("--url", "http://127.0.0.1:9", "--rate", "0"), "allowed: a finite number > 0"),
        (("--url", "http://127.0.0.1:9", "--rate", "1", "--vocabulary", "9:9"), "allowed: FROM:TO"),
        (("--url", "http://127.0.0.1:9", "--rate", "1", "--extra-body", "[1]"), "a JSON object"),
        (("--url", "http://127.0.0.1:9", "--rate", "1", "--extra-body", '{"prompt": 1}'), "'prompt' follows"),
        (("--url", "http://127.0.0.1:9", "--rate", "1", "--chat"), "wants --tokenizer"),
        (("--url", "http://127.0.0.1:9", "--rate", "1", "--tokenizer", "no.json"), "there is no such file"),
        (("--url", "http://127.0.0.1:9", "--rate", "1", "-o", "rows.csv"), "ends in .jsonl or .parquet"),
        (("--url", "http://127.0.0.1:9", "--rate", "1", "-o", "no/rows.jsonl"), "there is no folder"),
        (("--url", "http://127.0.0.1:9", "--rate", "1", "--api-key-env", "NOT_THERE"), "no such environment variable"),
        (("--url", "http://127.0.0.1:9", "--rate", "1", "--workload", "chatt"), "did you mean 'chat'?"),
        (("--url", "http://127.0.0.1:9", "--rate", "1", "--requests", "5", "--duration", "2"), "exclude each other"),
        (("--url", "http://127.0.0.1:9", "--concurrency", "5", "--duration", "2"), "--duration goes with --rate"),
        (("--url", "http://127.0.0.1:9", "--rate", "1", "--timeout", "-1"), "allowed: a finite number > 0"),
        (("--url", "http://127.0.0.1:9", "--rate", "1", "--json", "a", "--bench-json", "a"), "another file is wanted"),
    ],
)  # fmt: skip
def test_wrong_ways_are_one_line(kvsim, empty: Path, flags: tuple[str, ...], said: str) -> None:
    code, out, err = kvsim("measure", *flags)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert said in err
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (Behaviour(models=()), "names no model"),
        (Behaviour(models_status=404), "/v1/models answers 404"),
        (Behaviour(refuses=frozenset({"token ids"})), "answers 400 to a first request"),
        (Behaviour(fails={-1: "empty"}), "failed a first request: bad answer"),
    ],
)
def test_servers_that_cannot_be_measured_are_one_line(kvsim, empty: Path, behaviour: Behaviour, said: str) -> None:
    with Model(behaviour) as model:
        code, out, err = kvsim("measure", "--url", model.url, *WORKLOAD, "--requests", "5", "-o", "r.jsonl")
        assert (code, out, list(empty.iterdir())) == (2, "", []) and said in err and err.count("\n") == 1


def test_a_model_that_is_not_served_is_one_line(kvsim, empty: Path) -> None:
    with Model(QUICK) as model:
        code, out, err = kvsim("measure", "--url", model.url, *WORKLOAD, "--model", "model-of-test")
    assert (code, out) == (2, "") and "did you mean 'model-of-tests'?" in err


def test_no_byte_of_a_key_or_a_password_is_written(kvsim, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server repeats what it was sent in its errors; URL, files and terminal have neither."""
    monkeypatch.setenv("MY_KEY", SECRET)
    said = ""
    with Model(replace(QUICK, key=SECRET, echoes=True, fails={2: "401"})) as model:
        code, out, err = kvsim(
            "measure", "--url", model.url, "--api-key-env", "MY_KEY", *WORKLOAD, "--requests", "8", "-o", "r.jsonl",
            "--bench-json", "b.json", "--json", "j.json",
        )  # fmt: skip
        said += out + err
        assert code == 0 and "1 http_401" in out
        code, out, err = kvsim(
            "measure", "--url", model.url, "--api-key-env", "MY_KEY", *WORKLOAD, "--requests", "8", "-o", "r.parquet"
        )
        said += out + err
    credentials = f"http://someone:{SECRET}@127.0.0.1:{model.port}"
    with Model(replace(QUICK, echoes=True, fails={2: "401"})) as model:
        code, out, err = kvsim(
            "measure", "--url", f"http://someone:{SECRET}@127.0.0.1:{model.port}", *WORKLOAD, "--requests", "8",
            "-o", "c.jsonl", "--json", "d.json",
        )  # fmt: skip
        assert code == 0 and f"http://***@127.0.0.1:{model.port}" in out
        said += out + err
    code, out, err = kvsim("measure", "--url", credentials, *WORKLOAD)
    assert code == 2
    said += out + err
    written = [path.read_bytes() for path in empty.iterdir()]
    assert len(written) == 6
    for secret in (SECRET.encode(), base64.b64encode(f"someone:{SECRET}".encode())):
        assert not any(secret in each for each in (*written, said.encode()))


def test_an_interrupt_keeps_what_was_measured(empty: Path) -> None:
    with Model(Behaviour(first_s=0.01, token_s=0.01)) as model:
        command = [sys.executable, str(MAIN), "measure", "--url", model.url, *WORKLOAD[:2], "--rate", "20"]
        process = subprocess.Popen(
            [*command, "-o", "r.jsonl", "--json", "j.json"],
            env=as_installed(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline_s = time.monotonic() + 60
        while len(model.measured) < 12 and time.monotonic() < deadline_s:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "incomplete: interrupted after" in " ".join(out.split()) and "Traceback" not in err
    report = json.loads(Path("j.json").read_text())
    assert report["incomplete"] and report["requests"] == 6000 and report["measured"]["answered"] >= 1
    (run,) = measured_of(Path("r.jsonl"))
    assert run.incomplete and 12 <= len(run.rows) < 6000
