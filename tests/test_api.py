"""kvsim from Python: the examples run, and a report is the command's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from installed import as_installed
from matplotlib.figure import Figure
from places import REPOSITORY

import kvsim
from kvsim.cli import main
from kvsim.errors import ConfigError, KvsimError
from kvsim.page.page import NO_DETAIL

SMALL = ("engine.tune_colocated_budget=false", "pd_experiments.num_requests=60")


def test_the_examples_of_the_package_and_of_the_readme_are_one_and_run(capsys: pytest.CaptureFixture[str]) -> None:
    text = kvsim.__doc__ or ""
    example = textwrap.dedent(text[text.index("    import kvsim") : text.index("Read these three")]).strip()
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert example in readme
    exec(compile(example, "example", "exec"), {})
    conclusion, *systems = capsys.readouterr().out.splitlines()
    assert "at 0.7 of PD's maximum rate" in conclusion
    assert [line.split()[0] for line in systems] == ["unified", "pd"]


def test_the_files_to_read_first_are_there() -> None:
    named = re.findall(r"kvsim/\S+?\.py|docs/\S+?\.md", kvsim.__doc__ or "")
    assert len(named) == 4 and all((REPOSITORY / name).is_file() for name in named)


@pytest.mark.parametrize(("mode", "flag"), [("pd", ["--pd"]), ("single", [])])
def test_a_report_is_the_command_s(tmp_path: Path, mode: str, flag: list[str]) -> None:
    given = {"policy": "lru"} if mode == "single" else {}
    report = kvsim.simulate(mode, preset="smoke", sets=(*SMALL, "seed=7"), **given)
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    report.write_json(str(ours))
    flags = [word for assignment in (*SMALL, "seed=7") for word in ("--set", assignment)]
    policy = ["--policy", "lru"] if mode == "single" else []
    out = ["--report-json", str(theirs), "--no-studies", "--no-plot", "--quiet"]
    assert main([*flag, "--preset", "smoke", *flags, *policy, *out]) == 0
    one, other = (json.loads(path.read_text()) | {"run": None} for path in (ours, theirs))
    assert json.dumps(one) == json.dumps(other) and ours.read_text() == report.to_json()
    assert report.studies is None and report.run.mode == mode


def test_a_trace_and_a_study_by_name(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    row = '{{"timestamp": {}, "input_length": 300, "output_length": 20}}\n'
    path.write_text("".join(row.format(100 * at) for at in range(100)))
    sets = (*SMALL, "studies.replications=2", "studies.most_replications=2", "studies.max_requests=100")
    report = kvsim.simulate(preset="smoke", sets=sets, trace=path, studies=["unified_budget"])
    assert len(kvsim.load_workload(path)) == report.workload.requests == 100
    assert report.studies is not None and list(report.studies) == ["unified_budget"] and not report.run.failures


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"what": "dp"}, "mode is 'dp'; known: cluster, pd, single, or a line such as"),
        ({"jobs": 0}, "jobs is 0"),
        ({"policy": "lru"}, "policy is for the modes"),
        ({"what": "single", "systems": ("pd",)}, "are for the mode 'pd'"),
        ({"what": "cluster", "load_of": "unified"}, "are for the mode 'pd'"),
        ({"systems": ()}, "systems is empty"),
        ({"systems": ("pdd",)}, "systems has 'pdd'"),
        ({"sets": ("pd_separation.enabled=false",)}, "contradicts the system 'pd'"),
        ({"studies": ("ratio",)}, "studies: 'ratio' is no study of this mode"),
        ({"studies": ("pd_ratio",), "systems": ("unified",)}, "studies pd_ratio cannot be made with systems unified"),
        ({"load_of": "pdd"}, "known: pd, unified"),
        ({"sets": ("engine.block_siz=1",)}, "did you mean 'block_size'"),
    ],
)
def test_bad_input_is_one_line(asked: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as refused:
        kvsim.simulate(**asked)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        kvsim.simulat  # noqa: B018
    assert {"Report", "Simulation", "Workload", "load_workload", "simulate"} <= set(dir(kvsim))


LINE = "vllm serve meta-llama/Llama-3.1-8B-Instruct --max-num-seqs 64"


def test_a_server_gives_frames_pictures_and_its_report(tmp_path: Path) -> None:
    found = kvsim.simulate(
        LINE, gpu="h100", workload="in=300,out=30", rate=4, requests=200, slo={"ttft": 90}, searches_rate=False,
        sets={"seed": 7, "engine.watermark": 0.01},
    )  # fmt: skip
    assert (found.run.mode, found.config.slo.ttft_ms, found.config.seed) == ("predict", 90, 7)
    assert found.config.engine.watermark == 0.01
    assert repr(found) == "<kvsim.Simulation mode=predict systems=[unified] requests=200>"
    requests, steps, timeline = found.requests, found.steps, found.timeline
    assert requests.height == 200 and "system" not in requests.columns
    measured = requests.filter("measured")
    assert found.summary["ttft_mean_ms"][0] == pytest.approx(measured["ttft_s"].mean() * 1e3)
    assert steps["output_tokens"].sum() == requests["output_tokens"].sum() == 200 * 30
    assert timeline.filter(scope="all")["output_tokens"].sum() == 200 * 30
    assert found.instances["requests"].to_list() == [200]
    assert found.transfers.is_empty() and found.loads.is_empty()
    for figure in (found.plot.ttft_cdf(), found.plot.ttft_waterfall(), found.plot.utilisation(), found.plot.timeline()):
        assert isinstance(figure, Figure) and figure.axes
        assert figure._repr_png_().startswith(b"\x89PNG")
    assert found.conclusion in found._repr_html_().replace("&lt;", "<")
    pytest.importorskip("vl_convert", reason="the package with the charts is not installed")
    page = found.html()
    assert '<section id="time">' in page and NO_DETAIL not in page
    found.write_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == page


def test_two_systems_stand_below_each_other() -> None:
    found = kvsim.simulate(
        "pd", engine="vllm serve meta-llama/Llama-3.1-8B", gpus=4, workload="in=300,out=30", rate=4, requests=100,
        detail=True, config={"slo": {"ttft_ms": 700}},
    )  # fmt: skip
    assert found.config.slo.ttft_ms == 700 and found.launch is not None
    assert found.requests.columns[0] == "system"
    assert found.requests["system"].value_counts().sort("system").rows() == [("pd", 100), ("unified", 100)]
    assert set(found.steps["role"]) == {"colocated", "prefill", "decode"}
    again = kvsim.simulate("pd", config=found.config, workload="in=300,out=30", rate=4, requests=100)
    assert again.summary.equals(found.summary)
    with pytest.raises(KvsimError, match="kept its requests alone"):
        again.steps  # noqa: B018
    with pytest.raises(KvsimError, match="no system 'pdd' was run; there are: unified, pd"):
        found.plot.timeline("pdd")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"gpu": "h101"}, "unknown GPU 'h101'"),
        ({"workload": "sharegtp"}, "did you mean 'sharegpt'?"),
        ({"rate": 5, "concurrency": 3, "workload": "chat"}, "rate excludes concurrency and load"),
        ({"concurrency": 3, "trace": "x.csv"}, "concurrency is of a workload in a word"),
        ({"requests": 3, "workload": __file__}, "requests is of a workload in a word"),
        ({"preset": "smoke"}, "preset is of the modes"),
        ({"gpus": 8}, "gpus is of the modes"),
        ({"slo": {"tttft": 3}}, "slo has 'tttft'"),
        ({"sets": {"engine.nope": 3}}, "nope"),
        ({"workload": "chat", "trace": "x.csv"}, "exclude each other"),
        ({"rate": "5"}, "rate is '5'; must be a number"),
        ({"requests": 1.5}, "requests is 1.5; must be a whole number, 1 or more"),
        ({"instances": 0}, "instances is 0; must be a whole number, 1 or more"),
    ],
)
def test_a_server_s_bad_input_is_one_line(asked: dict[str, object], words: str) -> None:
    with pytest.raises(KvsimError, match=re.escape(words)) as refused:
        kvsim.simulate(LINE, **asked)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_the_package_is_imported_without_what_a_run_needs() -> None:
    heavy = ("numpy", "polars", "pydantic", "simpy", "kvsim.api")
    code = f"import kvsim, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], env=as_installed(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(KvsimError, match="what is None; a mode"):
        kvsim.simulate(None)  # type: ignore[arg-type]
