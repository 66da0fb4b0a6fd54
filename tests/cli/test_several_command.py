"""Several models in one cluster, from the command line: the table, the files, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvsim.config.several import seed_of
from kvsim.report import plots
from kvsim.report.report import Report

CONFIG = """
model: {name: llama-3.1-8b}
engine: {tensor_parallel_size: 1, tune_colocated_budget: false}
cluster: {simulate_racks: 1, simulate_gpus_per_rack: 2, network: {gpus_per_host: 2}, tiers: []}
cluster_experiments: {num_requests: 24}
pd_experiments: {num_requests: 24}
models:
- {name: chat, share: 3}
- {name: code, share: 1, config: {slo: {ttft_ms: 1}}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "two.yaml"
    path.write_text(CONFIG)
    return path


def test_one_table_and_a_row_of_all(kvsim, config: Path) -> None:
    code, out, err = kvsim("--cluster", "--config", config, "--rate", "8", "--no-plot", "--jobs", "1")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    rows = [line.split() for line in out.splitlines() if line.startswith((" chat ", " code ", " in all "))]
    assert [row[0] for row in rows] == ["chat", "code", "in"]
    said = " ".join(out.split())
    assert "chat: [Indicative only, not steady: configured] configured hits" in said and "code: configured hits" in said
    assert "Over its SLO: code has 0% of its requests within it, where 99% (slo.share) are wanted." in said
    assert "GPUs to spare" not in said, "of runs that are not steady nothing is known"
    assert "USD an hour" in said and "J per output token" in said
    assert "note: models share GPUs, caches, tiers and links with no other" in said
    assert "Traceback" not in err


def test_files(kvsim, empty: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def painted(folder: Path, report: Report, results: object, failures: object) -> list[Path]:
        assert folder.is_dir()
        return [folder / f"{report.run.seed}.png"]

    monkeypatch.setattr(plots, "plot_report", painted)
    files = ("--report-json", "r.json", "--report-csv", "r.csv", "--export", "vllm-bench=b.json", "--out", "pictures")
    given = ("--pd", "--systems", "unified", "--config", config, "--rate", "8", "--jobs", "1")
    code, _, err = kvsim(*given, *files)
    assert code == 0, err
    assert sorted(path.name for path in empty.iterdir()) == [
        "b.chat.json", "b.code.json", "pictures", "r.csv", "r.json",
    ]  # fmt: skip
    for name in ("chat", "code"):
        assert f"kvsim: wrote pictures/{name}/{seed_of(42, name)}.png" in err
    report = json.loads((empty / "r.json").read_text())
    assert list(report) == ["models", "cluster"]
    assert list(report["models"]) == ["chat", "code"]
    assert report["models"]["code"]["config"]["models"] == []
    assert report["cluster"]["status"] == "complete"
    assert report["cluster"]["results"][0]["gpus"] == 4
    head, *rows = (empty / "r.csv").read_text().splitlines()
    assert head.startswith("model,system,request_id,")
    assert [row.split(",")[0] for row in rows] == ["chat"] * 24 + ["code"] * 24
    code, _, err = kvsim("diff", "r.json", "r.json")
    assert code == 2 and "r.json: the report of several models (chat, code); what is compared is of one" in err


def test_jobs_change_nothing(kvsim, empty: Path, config: Path) -> None:
    for jobs in ("1", "2"):
        files = ("--jobs", jobs, "--report-json", f"{jobs}.json", "--no-plot", "--quiet")
        code, out, _ = kvsim("--pd", "--config", config, "--rate", "8", *files)
        assert (code, [line.partition(":")[0] for line in out.splitlines()]) == (0, ["chat", "code"])
    reports = [json.loads((empty / f"{jobs}.json").read_text()) for jobs in "12"]
    for report in reports:
        for own in report["models"].values():
            del own["run"]
    assert json.dumps(reports[0]) == json.dumps(reports[1])


REFUSED = {
    "--gpus 8": "--gpus is of one model: config of each item of models says it of its own",
    "--gpu h200": "--gpu is of one model: config of each item",
    "--tp 2": "--tp is of one model: config of each item",
    "--studies transfer": "--studies is of studies: none are made of several models",
    "--replications 3": "--replications is of studies: none",
    "--cpu-budget 3": "--cpu-budget is of studies: none",
    "--compare routing.decode=two_choices": "--compare is of studies: none",
    "--report-html -": "--report-html is '-', stdout; each model has a page of its own, so a file is wanted",
    "--load 0.5 --report-json nowhere/r.json": "there is no folder 'nowhere'",
    "--load 0.5 --report-html nowhere/r.html": "there is no folder 'nowhere'",
    "--load 0.5 --export csv=nowhere/r.csv": "there is no folder 'nowhere'",
    "--load 0.5 --report-json r --report-csv r": "which is also that of --report-json",
    "--load 0.5 --export vllm-bench=-": "--export vllm-bench is '-', stdout; a file is wanted",
    "--load 0.5 --report-csv r.chat --export csv=r": "which is also that of --report-csv",
    "--rate 4 --set cluster.total_gpus=3": "models take 4 GPUs together (chat 2, code 2), and cluster.total_gpus is 3;",
    "--rate 4 --set models[0].share=1": "--set: unknown key 'models[0]'",
    "--workload-trace nosuch.csv": "no such file",
}


@pytest.mark.parametrize(("flags", "words"), REFUSED.items())
def test_it_is_one_line(kvsim, empty: Path, config: Path, flags: str, words: str) -> None:
    code, out, err = kvsim("--pd", "--no-plot", "--config", config, *flags.split())
    assert (code, out) == (2, "")
    assert err.startswith("kvsim: error: ") and err.count("\n") == 1, err
    assert words in err
    assert list(empty.iterdir()) == []


def test_files_of_two_models_are_not_one(kvsim, empty: Path, config: Path) -> None:
    config.write_text(CONFIG.replace("name: code", "name: chat.chat"))
    files = ("--export", "vllm-bench=r.json", "--export", "prometheus=r.chat.json")
    code, _, err = kvsim("--pd", "--systems", "unified", "--no-plot", "--config", config, "--load", "0.5", *files)
    assert code == 2 and list(empty.iterdir()) == []
    assert "--export vllm-bench is 'r.chat.chat.json', which is also that of --export prometheus of model chat" in err


@pytest.mark.parametrize("line", ["study network_variance --config", "explain --pd", "diff --pd two.yaml"])
def test_verbs_of_one_model_refuse_several(kvsim, empty: Path, config: Path, line: str) -> None:
    code, out, err = kvsim(*(config if word == "two.yaml" else word for word in line.split()), config)
    assert (code, out) == (2, "")
    assert err == (
        f"kvsim: error: {config}: models describes a cluster of several models, which --pd, --cluster and the single "
        "node run; nothing else does, in Python simulate_models\n"
    )
