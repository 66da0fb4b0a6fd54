"""Every sentence of ``why`` on recorded traces and on runs made for a rule, held against an own reading of the run."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from experiments import run_pd, run_tiered
from places import DATA
from reason_comparisons import findings

from kvsim.api import simulate
from kvsim.config import load_config
from kvsim.modes.experiment import Experiment
from kvsim.plan.mode import CLUSTER, SINGLE
from kvsim.reasons import Reason, reasons_of
from kvsim.record.summary import summarise
from kvsim.workload.reading import Reading
from kvsim.workload.traffic import TraceSource

GPUS = (
    *("model.name=llama-3.1-8b", "engine.tensor_parallel_size=1", "cluster.simulate_racks=1"),
    *("cluster.simulate_gpus_per_rack=4", "cluster.gpus_per_rack=4", "cluster.total_gpus=4"),
    *("engine.tune_colocated_budget=false", "pd_separation.pd_ratio=[1,3]"),
)
AZURE, MOONCAKE = "AzureLLMInferenceTrace_conv.csv", "mooncake_conversation_trace.jsonl"
SMALL = ("engine.num_gpu_blocks_override=8000", "cluster.tiers=[dram]", "hardware.dram.capacity_gb=20")
ASYNC = "engine.async_scheduling=true"
CASES: dict[str, tuple[str, int, str, float, tuple[str, ...]]] = {
    "azure, pd": (AZURE, 400, "pd", 0.7, ()),
    "azure, seats": (AZURE, 200, "single", 1.3, ("engine.max_num_seqs=16",)),
    "azure, half load": (AZURE, 300, "single", 0.5, ("cache.tiers=[]", "cache.num_workers=1")),
    "azure, low load, asynchronously": (AZURE, 300, "cluster", 0.2, ("cluster.tiers=[]", ASYNC)),
    "azure, seats, asynchronously": (AZURE, 300, "single", 1.3, ("engine.max_num_seqs=16", ASYNC)),
    "azure, cluster": (AZURE, 300, "cluster", 0.3, ("cluster.tiers=[]",)),
    "mooncake, pd": (MOONCAKE, 200, "pd", 0.8, ("pd_separation.first_token=decode",)),
    "mooncake, single": (MOONCAKE, 150, "single", 0.8, ("cache.tiers=[]", "cache.num_workers=1")),
    "mooncake, round robin": (MOONCAKE, 200, "cluster", 0.5, ("cluster.tiers=[]", "routing.prefill=round_robin")),
    "mooncake, tiers": (MOONCAKE, 200, "cluster", 0.6, SMALL),
    "mooncake, no caching": (MOONCAKE, 60, "pd", 0.5, ("engine.enable_prefix_caching=false",)),
    "mooncake, large blocks": (MOONCAKE, 60, "pd", 0.5, ("engine.block_size=2048", "cache.chunk_tokens=2048")),
}


def head(folder: Path, name: str, count: int) -> Path:
    """The trace's first ``count`` requests, so that no more are drawn upon."""
    path = DATA / "traces" / name
    if not path.exists():
        pytest.skip(f"no {path}: KVSIM_DATA names the folder of public traces")
    cut = folder / name
    with path.open() as rows, cut.open("w") as kept:
        kept.writelines(islice(rows, count + name.endswith("csv")))
    return cut


def ran(folder: Path, name: str, count: int, mode: str, load: float, sets: tuple[str, ...]) -> Experiment:
    source = TraceSource(head(folder, name, count), Reading(limit=count))
    config = load_config(sets=[*GPUS, *sets]).config
    asked = {"trace": source, "load": load, "keeps_detail": True}
    if mode == "pd":
        return run_pd(config, **asked)
    return run_tiered(SINGLE if mode == "single" else CLUSTER, {"baseline": config}, **asked)


def why(experiment: Experiment) -> tuple[Reason, ...]:
    summaries = [summarise(result, slo_ttft_s=1.0, slo_tpot_s=1.0, gpus=4) for result in experiment.results]
    return reasons_of(experiment, summaries)


@pytest.mark.parametrize(("line", "rate"), [("", 5.0), (" --max-num-seqs 8", 40.0)], ids=["low load", "seats"])
def test_every_sentence_on_a_served_line_is_true(tmp_path: Path, line: str, rate: float) -> None:
    served = f"vllm serve meta-llama/Llama-3.1-8B-Instruct --max-model-len 32768{line}"
    trace = head(tmp_path, AZURE, 300)
    found = simulate(served, gpu="h100-sxm", workload=trace, rate=rate, searches_rate=False, detail=True)
    reasons = why(found._experiment)
    assert any(each.rule == "queue" for each in reasons)
    assert findings(found._experiment, reasons) == []


@pytest.mark.parametrize("case", CASES)
def test_every_sentence_is_true_of_its_run(tmp_path: Path, case: str) -> None:
    experiment = ran(tmp_path, *CASES[case])
    reasons = why(experiment)
    assert len(reasons) >= 3
    assert findings(experiment, reasons) == []
