"""What is written where: stdout by name, and nothing replaced but its like."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from kvsim.content import content_path

MAIN = Path(__file__).resolve().parents[2] / "main.py"
QUICK = ("--preset", "smoke", "--no-studies", "--no-plot", "--set", "engine.tune_colocated_budget=false")
SAMPLE = content_path("trace", "mooncake_sample.jsonl")


@pytest.mark.parametrize("mode", [("--pd",), ("--policy", "lru")], ids=["pd", "single"])
def test_a_report_on_stdout_stands_there_alone(python_main, empty: Path, mode: tuple[str, ...]) -> None:
    done = python_main(*mode, *QUICK, "--report-json", "-")
    assert done.code == 0 and json.loads(done.out)["results"]
    assert "goodput" in done.err and "wrote" not in done.err
    rows = list(csv.DictReader(io.StringIO(python_main(*mode, *QUICK, "--report-csv", "-").out)))
    assert len(rows) == 200 * len(json.loads(done.out)["results"])
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("verb", [("trace", "stats"), ("trace", "lint"), ("hits", "--eviction=lru")], ids=" ".join)
def test_a_verb_s_json_on_stdout(python_main, empty: Path, verb: tuple[str, ...]) -> None:
    done = python_main(*verb, SAMPLE, "--json", "-")
    assert done.code == 0 and isinstance(json.loads(done.out), dict) and done.err
    assert list(empty.iterdir()) == []


def test_one_file_at_a_time_is_stdout(kvsim, empty: Path) -> None:
    code, out, err = kvsim("--pd", *QUICK, "--report-json", "-", "--report-csv", "-")
    assert (code, out) == (2, "") and "which is also that of --report-json" in err
    assert kvsim("learn", "train", SAMPLE, "-o", "-").err == "kvsim: error: --output is '-', stdout; a file is wanted\n"


FOREIGN = {"x.py": "import sys\n", "x.json": '{"rows": 1}\n{"rows": 2}\n', "x.csv": "a,b\n1,2\n", "x.txt": "notes\n"}
WRITERS = {
    "learn train": ("learn", "train", SAMPLE, "-o"),
    "synth": ("trace", "synth", "bench", "--format", "generic", "--requests", "2", "-o"),
    "calibrate": ("calibrate", "operators", ".", "-o"),
    "report": ("--pd", *QUICK, "--report-json"),
    "rows": ("--pd", *QUICK, "--report-csv"),
    "stats": ("trace", "stats", SAMPLE, "--json"),
    "hits": ("hits", SAMPLE, "--json"),
}


@pytest.mark.parametrize("verb", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_such_file_stays(kvsim, empty: Path, verb: tuple[str, ...], name: str) -> None:
    (empty / name).write_text(FOREIGN[name])
    code, out, err = kvsim(*verb, name)
    if verb[:2] == ("trace", "synth") and name == "x.json":
        return  # one JSON object a line may well be a trace
    assert (code, out) == (2, "") and "another name is wanted" in err
    assert (empty / name).read_text() == FOREIGN[name]


AGAIN = {
    "stats": ("trace", "stats", SAMPLE, "--json", "o.json"),
    "hits": ("hits", SAMPLE, "--eviction=lru", "--json", "o.json"),
    "generic": ("trace", "synth", "bench", "--requests", "3", "-o", "o.csv"),
    "azure": ("trace", "synth", "bench", "--requests", "3", "--format", "azure", "-o", "o.csv"),
    "burstgpt": ("trace", "synth", "bench", "--requests", "3", "--format", "burstgpt", "-o", "o.csv"),
    "mooncake": ("trace", "synth", "chat", "--requests", "3", "-o", "o.jsonl"),
    "packed": ("trace", "synth", "chat", "--requests", "3", "-o", "o.jsonl.gz"),
    "rows": ("--policy", "lru", *QUICK, "--report-csv", "o.csv", "--report-json", "o.json"),
}


@pytest.mark.parametrize("command", AGAIN.values(), ids=AGAIN)
def test_what_kvsim_wrote_is_written_again(kvsim, empty: Path, command: tuple[str, ...]) -> None:
    (empty / command[-1]).touch()
    for _ in range(2):
        outcome = kvsim(*command)
        assert outcome.code == 0, outcome.err


def test_shipped_models_and_profiles_are_of_their_kind(empty: Path) -> None:
    from kvsim.cli.outputs import check_file

    for kind, folder, suffix in (("model", "learned", "*.txt"), ("profile", "profiles", "*.yaml")):
        found = sorted(content_path(folder).glob(suffix))
        assert found
        for path in found:
            check_file("-o", path, {}, kind)


def test_an_interrupt_while_the_command_line_loads() -> None:
    script = (
        "import runpy, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'kvsim.cli.entry': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        f"runpy.run_path({str(MAIN)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=MAIN.parent)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "kvsim: interrupted\n")


def test_running_out_of_memory_is_one_line(kvsim, monkeypatch: pytest.MonkeyPatch) -> None:
    from kvsim.workload import stats

    def exhausted(*_: object) -> None:
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr(stats, "trace_stats", exhausted)
    code, out, err = kvsim("trace", "stats", SAMPLE)
    assert (code, out, err.count("\n")) == (2, "", 1) and "out of memory: Unable to allocate 9 GiB" in err
