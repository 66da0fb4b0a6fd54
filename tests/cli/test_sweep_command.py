"""``kvsim sweep``, from a file to a table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from installed import as_installed

MAIN = Path(__file__).resolve().parents[2] / "main.py"
SERVER = """
server: vllm serve meta-llama/Llama-3.1-8B-Instruct
gpu: h100
workload: in=50,out=4
requests: 20
"""
SMALL = SERVER + "keys:\n  rate: [2, 20]\n  engine.max_num_seqs: [1, 8]\nreplications: 2\n"
FAILING = SERVER + "keys:\n  engine.pipeline_parallel_size: [1, 99]\n  rate: [5]\n"


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "cpu.jsonl"}


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()[1:]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep that was run in one go, and its file beside it."""
    from kvsim.cli import main

    folder = tmp_path_factory.mktemp("sweep")
    (folder / "s.yaml").write_text(SMALL)
    assert main(["sweep", str(folder / "s.yaml"), "--out", str(folder / "one"), "--processes", "1", "--quiet"]) == 0
    return folder


def test_a_row_a_run(whole: Path) -> None:
    found = rows(whole / "one")
    assert [(row["run"], row["rate"], row["engine.max_num_seqs"]) for row in found] == [
        (n, rate, seqs) for n, (rate, seqs) in enumerate((r, s) for r in (2, 20) for s in (1, 8) for _ in range(2))
    ]
    assert len({row["seed"] for row in found}) == 2
    assert all(row["error"] is None and row["unified.completed"] == 20 == row["served.requests"] for row in found)


def test_common_random_numbers(whole: Path) -> None:
    """Requests of one seed come in the same gaps at every point, ten times as fast at ten times the rate."""
    served = {(row["rate"], row["engine.max_num_seqs"], row["replication"]): row for row in rows(whole / "one")}
    assert served[2, 1, 0]["unified.ttft_p50_ms"] == served[2, 8, 0]["unified.ttft_p50_ms"]
    assert served[2, 8, 0]["unified.ttft_p50_ms"] != served[2, 8, 1]["unified.ttft_p50_ms"]


def test_a_row_is_what_a_run_with_its_seed_says(whole: Path) -> None:
    import kvsim

    row = rows(whole / "one")[3]
    line = "vllm serve meta-llama/Llama-3.1-8B-Instruct"
    sets = {"engine.max_num_seqs": 8, "seed": row["seed"]}
    same = kvsim.simulate(
        line, gpu="h100", workload="in=50,out=4", requests=20, rate=2, sets=sets, searches_rate=False, detail=False
    )
    assert row["unified.e2e_p90_ms"] == same.results[0].e2e_ms.p90


def test_it_goes_on_where_it_was_ended(kvsim, whole: Path, tmp_path: Path) -> None:
    kept = (whole / "one" / "runs.jsonl").read_text().splitlines(keepends=True)
    out = tmp_path / "out"
    out.mkdir()
    (out / "runs.jsonl").write_text("".join([kept[0], *kept[4:8], kept[2][:50]]))
    code, said, err = kvsim("sweep", whole / "s.yaml", "--out", out, "--processes", 1)
    assert code == 0 and "kvsim: 8 runs, 0 failed" in err
    assert said.startswith("unified.goodput_requests_per_s, the higher the better: mean of 2 replications\n")
    assert [row["run"] for row in rows(out)] == [3, 4, 5, 6, 0, 1, 2, 7]
    assert {name: text for name, text in files(out).items() if name != "runs.jsonl"} == {
        name: text for name, text in files(whole / "one").items() if name != "runs.jsonl"
    }
    before = (out / "cpu.jsonl").read_bytes()
    assert kvsim("sweep", whole / "s.yaml", "--out", out, "--quiet", "--processes", 1).code == 0
    assert (out / "cpu.jsonl").read_bytes() == before


def test_shards_and_merge(kvsim, whole: Path, tmp_path: Path) -> None:
    for shard in (0, 1):
        arguments = ("--shard", f"{shard}/2", "--out", tmp_path / f"{shard}", "--quiet", "--processes", 1)
        assert kvsim("sweep", whole / "s.yaml", *arguments).code == 0
        assert [row["run"] % 2 for row in rows(tmp_path / f"{shard}")] == [shard] * 4
    code, _, err = kvsim("sweep", "merge", tmp_path / "1", "--out", tmp_path / "all")
    assert code == 1 and "4 of 8 runs are missing; kvsim sweep FILE --out" in err
    assert kvsim("sweep", "merge", tmp_path / "0", tmp_path / "1", "--out", tmp_path / "all", "--quiet").code == 0
    assert files(tmp_path / "all") == files(whole / "one")


def test_a_run_that_fails_is_a_row_and_exit_code_1(kvsim, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(FAILING)
    code, said, err = kvsim("sweep", tmp_path / "s.yaml", "--out", tmp_path / "out", "--processes", 1)
    assert code == 1 and "2 runs, 1 failed" in err
    assert "warning: 1 run failed: engine.pipeline_parallel_size = 99: must be at most the " in err
    good, bad = rows(tmp_path / "out")
    assert good["error"] is None and "pipeline_parallel" in str(bad["error"]) and "unified.completed" not in bad
    assert "1 point without the figure, or with a failed or missing run, left out." in said


def test_a_driver_that_is_killed_loses_no_row(kvsim, whole: Path, tmp_path: Path) -> None:
    """On processes of its own, which end with it."""
    command = [
        sys.executable,
        MAIN,
        "sweep",
        whole / "s.yaml",
        "--out",
        tmp_path / "out",
        "--quiet",
        "--processes",
        "2",
    ]
    driver = subprocess.Popen(command, env=as_installed())
    table, deadline_s = tmp_path / "out" / "runs.jsonl", time.monotonic() + 60
    while not (table.exists() and table.read_bytes().count(b"\n") > 1) and driver.poll() is None:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    before = table.read_bytes().count(b"\n") - 1
    assert before >= 1
    assert kvsim("sweep", whole / "s.yaml", "--out", tmp_path / "out", "--processes", 1).code == 0
    found = rows(tmp_path / "out")
    assert sorted(row["run"] for row in found) == list(range(8))
    assert sorted(map(json.dumps, found)) == sorted(map(json.dumps, rows(whole / "one")))
    assert (tmp_path / "out" / "table.csv").read_bytes() == (whole / "one" / "table.csv").read_bytes()


TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{second:02}.0000000,374,4\n" for second in range(30)
)


def test_a_trace_is_read_once_for_all_runs(kvsim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kvsim.workload import read

    seen: list[str] = []
    whole_read = read.read_workload
    monkeypatch.setattr(read, "read_workload", lambda path, *rest: seen.append(str(path)) or whole_read(path, *rest))
    (tmp_path / "a.csv").write_text(TRACE)
    (tmp_path / "b.csv").write_text(TRACE.replace(",374,", ",3740,"))
    keys = "keys: {trace: [a.csv, b.csv], engine.max_num_seqs: [1, 8, 64]}\nworkload_limit: 20\n"
    (tmp_path / "s.yaml").write_text("server: vllm serve Qwen/Qwen3-8B\n" + keys)
    code, said, _ = kvsim("sweep", tmp_path / "s.yaml", "--out", tmp_path / "out", "--processes", 1)
    assert code == 0 and "One replication each" in said
    found = rows(tmp_path / "out")
    assert [(row["trace"], row["served.requests"]) for row in found] == [("a.csv", 20)] * 3 + [("b.csv", 20)] * 3
    assert float(str(found[3]["unified.ttft_p50_ms"])) > float(str(found[0]["unified.ttft_p50_ms"]))
    assert sorted(set(seen)) == sorted(seen) == [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]


def test_progress_is_told_on_a_terminal_and_now_and_then_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kvsim.cli import sweep_progress
    from kvsim.sweep.drive import State

    monkeypatch.setattr(sweep_progress, "_LINE_S", 0.0)
    with sweep_progress.progress(quiet=False) as told:
        told(State(200, 50, 2, 3))
    with sweep_progress.progress(quiet=True) as told:
        told(State(200, 60, 2, 3))
    assert capsys.readouterr().err == "kvsim: 50 of 200 runs, 3 workers, 2 failed\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with sweep_progress.progress(quiet=False) as told:
        told(State(200, 50, 0, 1))
    shown = capsys.readouterr().err
    assert "50/200" in shown and " 1 worker ETA" in shown


BAD = {
    "sweep": "sweep: a file is missing",
    "sweep nosuch.yaml": "nosuch.yaml: no such file",
    "sweep s.yaml --executor rya": "'rya'; did you mean 'ray'?",
    "sweep s.yaml --address 127.0.0.1:1": "--address needs --executor ray or dask",
    "sweep s.yaml --executor dask --address a:1 --processes 2": "--processes is of this machine",
    "sweep s.yaml --shard 8/8": "'8/8'; allowed: I/N, with I from 0 to N-1",
    "sweep s.yaml --shard x": "'x'; allowed: I/N",
    "sweep s.yaml --by ttft": "--by: unknown figure 'ttft'",
    "sweep s.yaml --max-runs 7": "4 points x 2 replications are 8 runs; allowed: 7, or as --max-runs says",
    "sweep s.yaml --out s.yaml": "cannot make 's.yaml' a folder of results",
    "sweep huge.yaml": "1,000,000,000 points x 1 replication are 1,000,000,000 runs; allowed: 100,000",
    "sweep empty.yaml": "keys is empty",
    "sweep merge --out x": "missing argument 'DIR'",
    "sweep merge nosuch --out x": "no such table of a sweep",
    "sweep s.yaml t.yaml": "unexpected extra argument",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(kvsim, empty: Path, line: str) -> None:
    values = list(range(1, 1001))
    (empty / "s.yaml").write_text(SMALL)
    (empty / "empty.yaml").write_text(SERVER + "keys: {}\n")
    keys = {"rate": values, "engine.max_num_seqs": values, "pd_trace.num_sessions": values}
    (empty / "huge.yaml").write_text(SERVER + f"keys: {json.dumps(keys)}\n")
    code, out, err = kvsim(*line.split())
    assert (code, out) == (2, "") and err.startswith("kvsim: error: ") and err.count("\n") == 1
    assert BAD[line] in err
    assert sorted(path.name for path in empty.iterdir()) == ["empty.yaml", "huge.yaml", "s.yaml"]
