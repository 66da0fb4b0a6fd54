"""The single node and ``--cluster`` from the command line to the files."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from installed import as_installed

from kvsim.content import content_path
from kvsim.learned.card import card_head, card_path
from kvsim.record.result import COLUMNS, COMPONENTS
from kvsim.study.catalogue import named

MAIN = Path(__file__).resolve().parents[2] / "main.py"
SEED_CONFIG = """
hardware:
  hbm: {capacity_gb: 5, read_bw_gbps: 3350, write_bw_gbps: 3350, read_latency_ms: 0.001}
  dram: {capacity_gb: 256, read_bw_gbps: 200, write_bw_gbps: 200, read_latency_ms: 0.1}
  ssd: {capacity_gb: 3200, read_bw_gbps: 7, write_bw_gbps: 4, read_latency_ms: 0.5}
cache: {block_size_bytes: 5242880, num_workers: 4, promote_on_hit: true, async_backup: true}
cluster:
  eic: {nodes_per_rack: 4, capacity_per_node_gb: 32, read_bw_gbps: 100, write_bw_gbps: 80, access_latency_ms: 0.005}
  network: {intra_rack_latency_us: 3, cross_rack_latency_us: 15, remote_ssd_latency_us: 200, gpus_per_node: 8}
trace: {num_sessions: 3000, turns_per_session: 4, prompt_tokens_min: 256, prompt_tokens_max: 2048, qps: 3, seed: 42}
policies: {eviction: lru, prefetch: none, selective_write: false, selective_write_depth_threshold: 6}
experiments: {num_requests: 60, warmup_requests: 10, output_dir: results}
"""
MODES = {"single": (), "cluster": ("--cluster",)}
STUDIES = {mode: [study.key for study in named(mode).values()] for mode in ("single", "cluster")}


@pytest.fixture(scope="module", params=MODES)
def smoke(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """One smoke run with everything it can write, in a process of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    files = ("--report-json", "x.json", "--report-csv", "x.csv", "--out", "out")
    command = [sys.executable, MAIN, *MODES[request.param], "--preset", "smoke", *files]
    done = subprocess.run(command, cwd=folder, env=as_installed(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "x.json").read_text())
    return SimpleNamespace(mode=request.param, folder=folder, out=done.stdout, err=done.stderr, report=report)


def test_the_report_and_its_laws(smoke: SimpleNamespace) -> None:
    report = smoke.report
    assert report["run"]["mode"] == smoke.mode
    assert list(report["studies"]) == STUDIES[smoke.mode]
    for result in report["results"]:
        assert result["requests"]["completed"] == report["workload"]["requests"] == 200
        assert result["conservation"]["ok"]
        shares = [*result["cache"]["by_tier"].values()]
        assert sum(shares) == pytest.approx(result["cache"]["prefix_hit_rate"])
        assert sum(shares) + sum(result["cache"]["misses"].values()) == pytest.approx(1, abs=0.01)
    names = [result["name"] for result in report["results"]]
    assert names == (["eic on", "eic off"] if smoke.mode == "cluster" else names)
    if smoke.mode == "single":
        assert {"baseline", "arc", "session_prefetch", "selective_write", "learned", "belady"} <= set(names)


def test_the_csv_has_a_row_a_request_and_a_variant(smoke: SimpleNamespace) -> None:
    with open(smoke.folder / "x.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["system", *COLUMNS, "ttft_s", "tpot_s", "e2e_s", "measured"]
    assert len(rows) == 200 * len(smoke.report["results"])
    for row in rows:
        assert abs(sum(float(row[name]) for name in COMPONENTS) - float(row["ttft_s"])) < 1e-9


def test_pictures_and_words(smoke: SimpleNamespace) -> None:
    for name in STUDIES[smoke.mode]:
        assert (smoke.folder / "out" / f"study_{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "Where prompt tokens come from" in smoke.out
    assert max(map(len, smoke.out.splitlines())) <= 80
    assert "…" not in smoke.out, "a word was cut"
    assert "\x1b" not in smoke.out + smoke.err


def test_the_same_seed_gives_the_same_report(python_main, empty: Path) -> None:
    written = []
    for seed in ("1", "2"):
        files = ("--report-json", f"{seed}.json", "--no-plot", "--quiet", "--no-studies")
        policies = ("--policy", "lru,s3fifo,random")
        outcome = python_main("--preset", "smoke", *files, *policies, PYTHONHASHSEED=seed)
        assert outcome.code == 0, outcome.err
        report = json.loads((empty / f"{seed}.json").read_text())
        del report["run"]
        written.append(report)
    assert written[0] == written[1]


@pytest.mark.parametrize("mode", [(), ("--cluster",), ("--pd",)], ids=["single", "cluster", "pd"])
def test_the_other_project_s_keys_load_in_every_mode(kvsim, empty: Path, mode: tuple[str, ...]) -> None:
    (empty / "seed.yaml").write_text(SEED_CONFIG)
    quick = ("--preset", "smoke", "--no-studies", "--no-plot", "--quiet", "--report-json", "r.json")
    outcome = kvsim(*mode, "--config", "seed.yaml", *quick)
    assert outcome.code == 0, outcome.err
    config = json.loads((empty / "r.json").read_text())["config"]
    assert config["hardware"]["ssd"]["read_gb_per_s"] == 7
    assert config["cluster"]["eic"]["capacity_per_node_gb"] == 32


BAD = {
    "negative capacity": (("--set", "hardware.dram.capacity_gb=-1"), "hardware.dram.capacity_gb"),
    "no capacity": (("--set", "hardware.dram.capacity_gb=0"), "dram holds nothing; take it out of"),
    "reversed tiers": (("--set", "cache.tiers=[ssd, dram]"), "the nearest stands first"),
    "a tier twice": (("--set", "cache.tiers=[dram, dram]"), "each once"),
    "unknown tier": (("--set", "cache.tiers=[tape]"), "cache.tiers"),
    "unknown policy": (("--policy", "lrv"), "unknown policy 'lrv'"),
    "unknown eviction": (("--set", "policies.eviction=lrv"), "unknown policy 'lrv'"),
    "unknown prefetch": (("--set", "policies.prefetch=sesion"), "unknown policy 'sesion'"),
    "unknown admission": (("--set", "policies.admission=al"), "unknown policy 'al'"),
    "policy twice": (("--policy", "lru,lru"), "given twice"),
    "no such module": (("--policy", "nowhere:Policy"), "no module 'nowhere'"),
    "no policy class": (("--policy", "json:JSONDecoder"), "not a subclass"),
    "another mode's study": (("--studies", "transfer"), "no study of this mode"),
    "exclusive and through": (("--set", "cache.inclusive=false"), "needs cache.write_policy"),
    "two admissions": (
        ("--set", "policies.selective_write=true", "--set", "policies.admission=ttl"),
        "policies.selective_write = true contradicts policies.admission = ttl",
    ),
    "the seed's spelling against its bundle": (
        ("--policy", "baseline", "--set", "policies.selective_write=true"),
        "--set policies.selective_write=true would go unused",
    ),
    "set against its bundle": (
        ("--policy", "baseline", "--set", "policies.admission=ttl"),
        '--set policies.admission="ttl" would go unused',
    ),
    "nothing to load into": (("--set", "engine.enable_prefix_caching=false"), "need engine.enable_prefix_caching"),
    "uneven chunks": (("--set", "cache.chunk_tokens=250"), "no multiple of the 16 tokens"),
    "tiny tier": (("--set", "hardware.dram.capacity_gb=0.01"), "hold no chunk of 256 tokens"),
}


@pytest.mark.parametrize(("flags", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(kvsim, empty: Path, flags: tuple[str, ...], message: str) -> None:
    outcome = kvsim("--preset", "smoke", "--no-plot", "--report-json", "r.json", *flags)
    assert outcome.code == 2, outcome.out
    assert len(outcome.err.strip().splitlines()) == 1
    assert message in outcome.err
    assert not (empty / "r.json").exists()


def _other_features(text: str) -> str:
    return text.replace("feature_names=depth ", "feature_names=width ")


MODELS = {
    "missing": (None, "No such file or directory"),
    "without a card": (lambda text: text, "no card"),
    "cut short": (lambda text: text[: len(text) // 2], "cut short or damaged"),
    "no model": (lambda text: "a page of prose", "not a LightGBM model"),
    "other features": (_other_features, "feature 'depth'"),
}


@pytest.mark.parametrize(("spoilt", "message"), MODELS.values(), ids=MODELS)
def test_a_model_that_cannot_be_used_is_one_line(kvsim, empty: Path, spoilt, message: str) -> None:
    model = empty / "model.txt"
    if spoilt is not None:
        shipped = content_path("learned", "mooncake_conversation.txt").read_text(encoding="utf-8")
        model.write_text(spoilt(shipped), encoding="utf-8")
        carded = spoilt(shipped) if message.startswith("feature") else shipped
        if message != "no card":
            card_path(model).write_text(card_head(model, carded), encoding="utf-8")
    policy = ("--policy", "learned", "--set", f"policies.learned_model={model}")
    outcome = kvsim("--preset", "smoke", "--no-plot", "--no-studies", "--report-json", "r.json", *policy)
    assert outcome.code == 2, outcome.out
    assert len(outcome.err.strip().splitlines()) == 1
    assert str(model) in outcome.err and message in outcome.err
    assert not (empty / "r.json").exists()


def test_a_short_trace_needs_no_shorter_warm_up(kvsim, empty: Path) -> None:
    """Nobody asked for a warm-up: it is a share of the requests there are."""
    sample = content_path("trace", "azure_sample.csv")
    outcome = kvsim("--policy", "lru", "--workload-trace", sample, "--no-studies", "--no-plot", "--quiet")
    assert outcome.code == 0, outcome.err


def test_a_cluster_of_one_instance_separates_nothing(kvsim, empty: Path) -> None:
    small = ("--set", "cluster.simulate_racks=1", "--set", "cluster.simulate_gpus_per_rack=4")
    quick = ("--preset", "smoke", "--no-studies", "--no-plot", "--quiet", "--report-json", "r.json")
    outcome = kvsim("--cluster", *quick, *small)
    assert outcome.code == 0, outcome.err
    assert json.loads((empty / "r.json").read_text())["cluster"]["instances"] == 1
