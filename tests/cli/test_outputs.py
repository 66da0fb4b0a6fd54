"""What is written where: stdout by name, and nothing replaced but its like."""

from __future__ import annotations

import csv
import io
import json
import os
import resource
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


FULL = Path("/dev/full")
WORDS_OR_ROWS = {
    "version": ("--version",),
    "tables of a verb": ("trace", "stats", SAMPLE),
    "JSON of a verb": ("trace", "stats", SAMPLE, "--json", "-"),
    "tables of a run": ("--policy", "lru", *QUICK),
    "rows of a run": ("--policy", "lru", *QUICK, "--quiet", "--report-csv", "-"),
}


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("command", WORDS_OR_ROWS.values(), ids=WORDS_OR_ROWS)
def test_a_full_stdout_is_one_line(empty: Path, command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, MAIN, *command], cwd=empty, stdout=FULL.open("wb"), stderr=subprocess.PIPE, text=True
    )
    errors = [line for line in done.stderr.splitlines() if line.startswith("kvsim: error") or "Traceback" in line]
    assert (done.returncode, errors) == (2, ["kvsim: error: cannot write to stdout: No space left on device"])


FILES = {
    "rows": ("--policy", "lru", *QUICK, "--quiet", "--report-csv", "full.csv"),
    "report": ("--policy", "lru", *QUICK, "--quiet", "--report-json", "full.json"),
    "pictures": ("--policy", "lru", *(word for word in QUICK if word != "--no-plot"), "--quiet", "--out", "full"),
    "trace": ("trace", "synth", "bench", "--requests", "2000", "-o", "full.csv"),
}


@pytest.mark.parametrize("command", FILES.values(), ids=FILES)
def test_a_file_that_outgrows_its_room_is_named(empty: Path, command: tuple[str, ...]) -> None:
    """A limit on the size of files stands for a full disk; nothing half written is left.

    Python itself would leave the bytecode of libraries half written there, for all who come after.
    """
    done = subprocess.run(
        [sys.executable, MAIN, *command],
        cwd=empty,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and len(lines) in (1, 3)
    assert all("full" in line and "defect" not in line and line.endswith(": File too large") for line in lines)
    assert [path for path in empty.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_rows_of_which_one_is_read_end_quietly(empty: Path, name: str) -> None:
    if name != "-" and not Path(name).exists():
        pytest.skip("there is no /dev/stdout here")
    command = [sys.executable, MAIN, "--policy", "lru", *QUICK, "--quiet", "--report-csv", name]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0, "pipesize": 4096}
    with subprocess.Popen(command, cwd=empty, **pipes) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith(b"system,request_id")
        process.stdout.close()
        said = process.stderr.read().decode()
    assert (process.returncode, "error" in said, "Traceback" in said) == (1, False, False)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc here")
def test_a_folder_that_takes_no_files_is_refused_before_anything_runs(kvsim) -> None:
    code, out, err = kvsim("--policy", "lru", *(word for word in QUICK if word != "--no-plot"), "--out", "/proc/new")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("kvsim: error: --out: ") and "'/proc'" in err


def test_a_page_without_its_charts_is_refused_before_anything_runs(kvsim, empty, monkeypatch):
    monkeypatch.setattr("kvsim.page.library.PACKAGE", "kvsim_has_no_such_package")
    for command in (("--pd", *QUICK), ("predict", "vllm serve meta-llama/Llama-3.1-8B-Instruct")):
        code, out, err = kvsim(*command, "--report-html", "page.html")
        assert (code, out) == (2, "")
        needs = "a page needs vl-convert-python, which has its charts: pip install 'kvsim[html]'"
        assert err == f"kvsim: error: --report-html: {needs}\n"
    assert list(empty.iterdir()) == []


def test_a_prediction_is_written_as_a_page(kvsim, empty):
    pytest.importorskip("vl_convert", reason="the package with the charts is not installed")
    line = "vllm serve meta-llama/Llama-3.1-8B-Instruct"
    asked = ("--gpu", "h100-sxm", "--rate", "5", "--requests", "50", "--no-search", "--quiet", "--jobs", "1")
    code, _, err = kvsim("predict", line, *asked, "--report-html", "page.html")
    assert (code, err) == (0, "")
    page = (empty / "page.html").read_text()
    assert line in page and 'id="time-0"' in page and "Latencies by percentile" in page
