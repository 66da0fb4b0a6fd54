"""``--pd`` from the command line to the files: a small run, looked at from all sides."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from installed import as_installed

from kvsim.cli import main
from kvsim.content import content_path
from kvsim.record.result import COLUMNS, COMPONENTS
from kvsim.study.catalogue import named

MAIN = Path(__file__).resolve().parents[2] / "main.py"
SMOKE = ("--pd", "--preset", "smoke")
SETS = ("pd_experiments.num_requests=60", "pd_trace.qps=10", "engine.tune_colocated_budget=false")
FAST = (*SMOKE, "--no-studies", *(word for assignment in SETS for word in ("--set", assignment)))
"""Without pilot runs and studies."""
PICTURES = ["ttft_cdf.png", "ttft_waterfall.png", "utilisation.png"]
STUDIES = [study.key for study in named("pd").values()]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """One smoke run with everything it can write, in a process of its own."""
    folder = tmp_path_factory.mktemp("smoke")
    files = ("--report-json", "out/report.json", "--report-csv", "requests.csv", "--out", "out")
    done = subprocess.run(
        [sys.executable, MAIN, *SMOKE, *files], cwd=folder, env=as_installed(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "out/report.json").read_text())
    return SimpleNamespace(folder=folder, out=done.stdout, err=done.stderr, report=report)


def test_files(smoke) -> None:
    pictures = [*PICTURES, *(f"study_{name}.png" for name in STUDIES)]
    found = sorted(str(path.relative_to(smoke.folder)) for path in smoke.folder.rglob("*") if path.is_file())
    assert found == sorted(["requests.csv", "out/report.json", *(f"out/{name}" for name in pictures)])
    for name in pictures:
        picture = (smoke.folder / "out" / name).read_bytes()
        assert picture.startswith(b"\x89PNG") and len(picture) > 10_000


def test_report(smoke) -> None:
    report = smoke.report
    assert list(report) == ["run", "config", "calibration", "workload", "cluster", "results", "why", "studies"]
    assert list(report["studies"]) == STUDIES
    assert (report["run"]["mode"], report["run"]["preset"], report["run"]["seed"]) == ("pd", "smoke", 42)
    assert report["run"]["status"] == "complete"
    calibration = report["calibration"]
    assert (calibration["profile"], calibration["level"]) == ("h100_llama-3.1-70b_tp4_bf16", "measured")
    assert calibration["readiness"] == (
        "profile h100_llama-3.1-70b_tp4_bf16: fitted to measured kernels, steps off by: decode 1.3%, prefill 1.2%, "
        "mixed 3.7%"
    )
    assert calibration["fit_error"]["mixed_steps_mape_pct"] == 3.69
    assert [result["name"] for result in report["results"]] == ["unified", "pd"]
    assert report["cluster"]["gpus"] == 16
    for result in report["results"]:
        assert result["requests"]["completed"] == report["workload"]["requests"] == 200
        assert result["conservation"]["ok"]


def test_terminal(smoke) -> None:
    assert "unified" in smoke.out and "TTFT" in smoke.out and "Where TTFT goes: PD" in smoke.out
    assert max(map(len, smoke.out.splitlines())) <= 80
    wrote = [line for line in smoke.err.splitlines() if line.startswith("kvsim: wrote ")]
    assert len(wrote) == 5 + len(STUDIES) and "\r" not in smoke.err and "\x1b" not in smoke.out + smoke.err


def test_csv(smoke) -> None:
    with open(smoke.folder / "requests.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["system", *COLUMNS, "ttft_s", "tpot_s", "e2e_s", "measured"]
    assert [row["system"] for row in rows] == ["unified"] * 200 + ["pd"] * 200
    for row in rows:
        assert abs(sum(float(row[name]) for name in COMPONENTS) - float(row["ttft_s"])) < 1e-9


def test_the_same_seed_gives_the_same_files(python_main, empty: Path) -> None:
    written = []
    for seed in ("1", "2"):
        files = ("--report-json", f"{seed}.json", "--report-csv", f"{seed}.csv", "--no-plot", "--quiet", "--seed", "5")
        outcome = python_main(*SMOKE, "--studies", "transfer", *files, PYTHONHASHSEED=seed)
        assert outcome.code == 0, outcome.err
        report = json.loads((empty / f"{seed}.json").read_text())
        assert report.pop("run")["seed"] == 5
        written.append((outcome.out, json.dumps(report), (empty / f"{seed}.csv").read_bytes()))
    assert written[0] == written[1]
    assert sorted(os.listdir(empty)) == ["1.csv", "1.json", "2.csv", "2.json"]


def test_quiet_prints_the_conclusion_alone(kvsim, empty: Path) -> None:
    code, out, err = kvsim(*FAST, "--quiet", "--no-plot")
    assert (code, err) == (0, "")
    assert out.count("\n") == 1 and out.endswith(".\n")
    assert list(empty.iterdir()) == []


def test_quiet_tells_what_comparisons_found(kvsim, empty: Path) -> None:
    code, out, err = kvsim(*FAST, "--compare", "routing.prefill=round_robin", "--quiet", "--no-plot")
    assert (code, err) == (0, "")
    _, compared = out.splitlines()
    assert compared.startswith("compare: mean TTFT against the run as configured: prefill=round_robin: ")


def test_quiet_is_as_wide_as_the_terminal(kvsim, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    piped = kvsim(*FAST, "--quiet", "--no-plot").out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    shown = kvsim(*FAST, "--quiet", "--no-plot").out
    assert max(map(len, shown.splitlines())) <= 60 and shown.count("\n") > 2
    assert " ".join(shown.split()) == " ".join(piped.split())


def test_a_trace(kvsim, empty: Path) -> None:
    trace = content_path("trace", "mooncake_sample.jsonl")
    code, _, err = kvsim(
        *FAST, "--workload-trace", trace, "--workload-limit", 30, "--no-plot", "--report-json", "r.json"
    )
    assert code == 0, err
    report = json.loads((empty / "r.json").read_text())
    assert (report["workload"]["format"], report["workload"]["requests"]) == ("mooncake", 30)
    assert [result["requests"]["completed"] for result in report["results"]] == [30, 30]


def test_a_profile_is_told(kvsim, empty: Path) -> None:
    flags = ("--calibration-profile", "h100_70b_reference", "--no-plot", "--quiet", "--report-json", "r.json")
    assert kvsim(*FAST, *flags).code == 0
    calibration = json.loads((empty / "r.json").read_text())["calibration"]
    assert (calibration["profile"], calibration["method"]) == ("h100_70b_reference", "fitted")
    assert calibration["readiness"] == "profile h100_70b_reference: fitted to no run, its error is not known"
    assert calibration["sources"]["gpu_compute"] and calibration["validity"]["model"] == "llama-3.1-70b"
    assert calibration["warnings"] == []


def test_flags_without_effect_are_told(kvsim) -> None:
    flags = ("--no-train", "--learned-train-mode", "split", "--learned-train-fraction", "0.5", "--policy", "lru")
    code, _, err = kvsim(*FAST, "--quiet", "--no-plot", *flags)
    assert code == 0
    told = [line.removeprefix("kvsim: warning: ").split(" has no effect with --pd: ")[0] for line in err.splitlines()]
    training = ["--no-train", "--learned-train-mode", "--learned-train-fraction"]
    assert told == ["--policy", *training]


def test_studies_are_chosen_by_name(kvsim, empty: Path) -> None:
    sets = tuple(word for word in FAST if word != "--no-studies")
    for flags, names in (
        (("--studies", "transfer"), ["transfer"]),
        (("--studies", "context,pd_ratio", "--skip-context-sweep"), ["pd_ratio"]),
    ):
        assert kvsim(*sets, *flags, "--no-plot", "--quiet", "--report-json", "r.json").code == 0
        assert list(json.loads((empty / "r.json").read_text())["studies"]) == names


def test_without_a_display_pictures_are_not_shown(kvsim, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    code, _, err = kvsim(*FAST, "--quiet", "--show-plot")
    assert (code, err) == (0, "kvsim: warning: pictures are not shown: there is no display\n")
    assert sorted(os.listdir(empty / "results")) == PICTURES


def test_a_full_disk_still_gives_the_tables(kvsim) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    code, out, err = kvsim(*FAST, "--no-plot", "--report-json", "/dev/full")
    assert code == 2 and "Where TTFT goes: PD" in out
    assert err == "kvsim: error: cannot write '/dev/full': No space left on device\n"


@pytest.mark.parametrize("ignored", [False, True], ids=["terminal", "background job"])
def test_an_interrupt_gives_a_partial_report(empty: Path, ignored: bool) -> None:
    """Ctrl-C once the bar moves; also where SIGINT is ignored at first, as in the background jobs of a shell script."""
    long = ("pd_experiments.num_requests=400000", "pd_trace.qps=6", "engine.tune_colocated_budget=false")
    sets = [word for assignment in long for word in ("--set", assignment)]
    command = [sys.executable, MAIN, *SMOKE, *sets, "--no-plot", "--report-json", "r.json", "--report-csv", "r.csv"]
    screen, terminal = pty.openpty()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    try:
        process = subprocess.Popen(
            command, cwd=empty, env=as_installed(), stdout=subprocess.PIPE, stderr=terminal, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(terminal)
    shown = _read_until(screen, r"[1-9],?\d*/[48]00000")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    shown += _read_until(screen, r"\Z\A")
    assert process.returncode == 1 and "Traceback" not in shown
    assert "simulated" in shown and "requests/s" in shown and "ETA" in shown
    assert "incomplete, interrupted with" in " ".join(out.split())
    report = json.loads((empty / "r.json").read_text())
    assert report["run"]["status"] == "incomplete"
    assert any(result["incomplete"] and result["requests"]["completed"] > 0 for result in report["results"])
    assert all(result["conservation"]["ok"] for result in report["results"])
    assert sorted(os.listdir(empty)) == ["r.csv", "r.json"]


def _read_until(screen: int, pattern: str) -> str:
    """What the terminal shows until ``pattern`` appears, or until nobody writes to it any more."""
    shown = ""
    while not re.search(pattern, shown):
        try:
            shown += os.read(screen, 1 << 16).decode()
        except OSError:
            break
    return shown


def test_an_interrupt_before_there_is_anything_to_tell(
    kvsim, empty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kvsim.modes.variants.load_config", interrupted)
    code = main(list(FAST))
    assert (code, capsys.readouterr()) == (1, ("", "kvsim: interrupted\n"))
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(("systems", "studies"), [("unified", ["unified_budget"]), ("pd", ["pd_ratio", "transfer"])])
def test_one_system_alone(kvsim, systems: str, studies: list[str]) -> None:
    """What it gives is what it gives beside the other, and nothing is said about the one that was not run."""
    sets = (
        "pd_trace.qps=10",
        "pd_experiments.num_requests=60",
        "engine.tune_colocated_budget=false",
        "studies.instances=2",
    )
    given = [word for assignment in sets for word in ("--set", assignment)]
    done = kvsim(*SMOKE, *given, "--systems", systems, "--no-plot", "--report-json", "one.json")
    assert done.code == 0
    kvsim(*SMOKE, *given, "--no-studies", "--no-plot", "--report-json", "both.json")
    one, both = (json.loads(Path(name).read_text()) for name in ("one.json", "both.json"))
    (alone,), (beside,) = one["results"], [result for result in both["results"] if result["name"] == systems]
    assert all(alone[key] == beside[key] for key in ("requests", "ttft_ms", "tpot_ms", "cache", "attribution_ms"))
    assert list(one["studies"]) == studies
    assert ("prefill:decode" in done.out, "would balance" in done.out) == ((systems == "pd"), (systems == "pd"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--pd", "--set", "pd_separation.enabled=false"), "contradicts --pd; --systems unified runs unified alone"),
        (("--pd", "--systems", "pd", "--studies", "context"), "--studies context cannot be made with --systems pd"),
        (("--pd", "--systems", "pd", "--compare", "seed=2"), "--compare tells what a setting changes in both systems"),
        (("--cluster", "--systems", "pd"), "--systems needs --pd"),
        (("--pd", "--systems", "unfied"), "did you mean 'unified'?"),
    ],
)
def test_systems_that_cannot_be_run_are_refused(kvsim, flags: tuple[str, ...], words: str) -> None:
    code, out, err = kvsim(*flags)
    assert (code, out) == (2, "") and words in err and err.count("\n") == 1


def test_unified_alone_may_be_asked_of_a_disabled_separation(kvsim) -> None:
    assert kvsim(*FAST, "--systems", "unified", "--set", "pd_separation.enabled=false", "--no-plot").code == 0
