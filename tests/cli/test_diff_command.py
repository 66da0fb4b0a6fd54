"""``diff`` and ``explain``: what is told, what is written, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SETS = (
    "engine.tune_colocated_budget=false",
    "pd_experiments.num_requests=40",
    "pd_trace.qps=12",
    "cluster.network.gpus_per_host=4",
)
WORDS = "--pd --preset smoke --systems pd " + " ".join(f"--set {each}" for each in SETS)
HALF = f"{WORDS} --set cluster.network.p2p_rdma_gb_per_s=25"


def told(out: str) -> str:
    assert max(map(len, out.splitlines())) <= 80
    return " ".join(out.split())


def test_diff_tells_and_writes(kvsim) -> None:
    asked = ("diff", "--a", WORDS, "--b", HALF, "--replications", "10", "--report-json", "d.json", "--out", "pics")
    code, out, err = kvsim(*asked)
    assert code == 0 and "wrote d.json" in err and "wrote pics/diff.png" in err
    words = told(out)
    assert "cluster.network.p2p_rdma_gb_per_s 50.0 25.0" in words
    assert "of its parts exposed transfer +" in words and "moved for sure" in words
    assert "The first of them to arrive is request " in words and "exposed transfer is " in words
    answer = json.loads(Path("d.json").read_text())
    assert (answer["runs"], answer["identical"], answer["systems"][0]["a"]) == (10, False, "pd")
    assert Path("pics/diff.png").read_bytes().startswith(b"\x89PNG")
    before = Path("d.json").read_bytes()
    code, out, err = kvsim(*asked[:-2], "--quiet", "--jobs", "2")
    assert (code, err, out.count("\n")) == (0, "", 1) and out.startswith("PD: mean TTFT in B ")
    assert Path("d.json").read_bytes() == before


def test_explain_tells_and_writes(kvsim) -> None:
    asked = ("explain", "--case", WORDS, "--replications", "2", "--report-json", "e.json", "--out", "pics")
    code, out, err = kvsim(*asked)
    assert code == 0 and "wrote e.json" in err and "wrote pics/explain.png" in err
    words = told(out)
    for said in ("Where TTFT goes in run 1", "TTFT (ms) without a cause", "sum of each", "overlap"):
        assert said in words
    assert "PD: TTFT at p99, " in words
    answer = json.loads(Path("e.json").read_text())
    assert [each["name"] for each in answer["removals"]] == ["link", "queue", "interference", "hits"]
    assert Path("pics/explain.png").read_bytes().startswith(b"\x89PNG")


def test_configurations_and_servers(kvsim, empty: Path) -> None:
    (empty / "a.yaml").write_text("routing: {prefill: affinity}\n")
    (empty / "b.yaml").write_text("routing: {prefill: round_robin}\n")
    sets = [word for each in SETS for word in ("--set", each)]
    common = ("--pd", "--preset", "smoke", "--replications", "1", "--quiet", *sets)
    code, out, err = kvsim("diff", "a.yaml", "b.yaml", *common)
    assert (code, err) == (0, "") and out.startswith("unified: mean TTFT in B ")
    assert out.splitlines()[1].startswith("PD: identical, all requests")
    code, out, err = kvsim("explain", "a.yaml", *common)
    assert (code, err) == (0, "") and out.startswith("PD: TTFT at p99, ")
    server = "predict 'vllm serve meta-llama/Llama-3.1-8B-Instruct' --rate 4 --requests 40"
    code, out, err = kvsim("diff", "--a", server, "--b", server, "--replications", "1", "--quiet")
    assert (code, err) == (0, "") and out.startswith("unified: identical")
    code, out, err = kvsim("diff", "a.yaml", "--b", WORDS, "--pd", "--replications", "1", "--quiet", *sets)
    assert code == 0 and out.startswith("PD: ")


REFUSED = {
    "diff": "0 cases are given; two cases are wanted: A and B, files, or --a and --b",
    "diff r.json": "1 cases are given",
    "diff a.yaml b.yaml --a --pd": "3 cases are given",
    "diff a.yaml nosuch.yaml --pd": "cannot read 'nosuch.yaml'",
    "diff a.yaml r.json": "r.json: no report of kvsim's: it has no section 'run'",
    "diff r.json a.yaml --pd": "--pd does not go with 'r.json': a report says itself what was run",
    "diff a.yaml b.yaml --pd --cluster": "--cluster and --pd exclude each other",
    "diff a.yaml b.yaml --pd --systems unifid": "no system 'unifid'; did you mean 'unified'?",
    "diff a.yaml b.yaml --replications 0": "'--replications': '0'; allowed: a whole number >= 1",
    "diff a.yaml b.yaml --report-json b.yaml": "--report-json is 'b.yaml', which is the case b.yaml",
    "diff a.yaml b.yaml --out a.yaml": "--out is 'a.yaml', which is no folder",
    "diff a.yaml broken.yaml": "unknown key",
    "diff a.yaml --b '--pd'": "a.yaml is of mode single, --pd of mode pd; one mode is wanted",
    "diff --a --pd --b --cluster": "--pd is of mode pd, --cluster of mode cluster; one mode is wanted",
    "diff --a --pdd --b --pd": "unknown option '--pdd'; did you mean '--pd'?",
    "diff --a '--pd --quiet' --b --pd": "--a: --quiet says nothing of a case",
    "diff --a 'hits x' --b --pd": "--a: 'hits' is no flag of a run; 'predict' is the one verb that describes a case",
    'diff --a "\'" --b --pd': '--a is "\'": no closing quotation',
    "diff --a --pd --b --pd --preset smoke": "--preset is of configuration files; it goes into --a and --b",
    "diff --a 'predict x --no-search' --b --pd": "--a: --no-search says nothing of a case",
    "explain": "one case is wanted: a file, or --case with the words of a command",
    "explain a.yaml --case --pd": "one case is wanted",
    "explain --case --pd --preset smoke": "--preset is of configuration files; it goes into --case",
    "explain a.yaml --pd --preset smoke --system p": "no system 'p'; did you mean 'pd'?",
    "explain r.json": "r.json: no report of kvsim's: it has no section 'run'",
}


@pytest.mark.parametrize("line", REFUSED, ids=str)
def test_bad_input_is_one_line(kvsim, empty: Path, line: str) -> None:
    import shlex

    for name, text in {"a.yaml": "seed: 1", "b.yaml": "seed: 2", "broken.yaml": "sed: 1", "r.json": "{}"}.items():
        (empty / name).write_text(f"{text}\n")
    before = sorted(empty.iterdir())
    code, out, err = kvsim(*shlex.split(line))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert REFUSED[line] in err
    assert sorted(empty.iterdir()) == before
