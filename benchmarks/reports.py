"""Reports of many small configurations, to hold one version of kvsim against another: all but ``run`` stays byte-equal.

    python benchmarks/reports.py FOLDER [--jobs N] [--against OTHER] [--only WORD]

Writes a JSON report a configuration, and the CSV beside it; with ``--against`` names those that differ from another
folder's, and where, and exits 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from places import ROOT, SMALL_8B

SAMPLES = ROOT / "trace"
PD, CLUSTER, SINGLE = ("--pd",), ("--cluster",), ()
PLAIN = ("--no-studies",)


def sets(*assignments: str) -> tuple[str, ...]:
    return tuple(word for assignment in assignments for word in ("--set", assignment))


def trace(name: str) -> tuple[str, ...]:
    return ("--workload-trace", str(SAMPLES / name))


CONFIGURATIONS: dict[str, tuple[str, ...]] = {
    "pd": PD,
    "pd seed": (*PD, *PLAIN, "--seed", "7"),
    "pd dev": (*PD, *PLAIN, "--preset", "dev", *sets("pd_experiments.num_requests=3000")),
    "pd alone": (*PD, *PLAIN, "--systems", "pd"),
    "pd unified alone": (*PD, *PLAIN, "--systems", "unified"),
    "pd load": (*PD, *PLAIN, "--load", "0.5"),
    "pd overload": (*PD, *PLAIN, "--load", "1.6"),
    "pd load of unified": (*PD, *PLAIN, "--load", "0.9", "--load-of", "unified"),
    "pd compare": (*PD, "--studies", "transfer", "--compare", "routing.decode=two_choices"),
    "pd azure": (*PD, *trace("azure_sample.csv")),
    "pd mooncake": (*PD, *PLAIN, *trace("mooncake_sample.jsonl")),
    "pd mooncake at a load": (*PD, *PLAIN, "--load", "0.8", *trace("mooncake_sample.jsonl")),
    "pd sharegpt": (*PD, *PLAIN, *trace("sharegpt_sample.jsonl"), "--load", "0.6"),
    "pd replicas": (*PD, *PLAIN, *trace("burstgpt_sample.csv"), "--workload-replicas", "3"),
    "pd limit": (*PD, *PLAIN, *trace("mooncake_sample.jsonl"), "--workload-limit", "40"),
    "pd stepwise": (*PD, *PLAIN, "--stepwise", *sets("pd_experiments.num_requests=60")),
    "pd 8b": (*PD, *PLAIN, *sets(*SMALL_8B)),
    "pd uneven degrees": (
        *PD,
        *PLAIN,
        *sets("pd_separation.prefill_tensor_parallel_size=8", "pd_separation.decode_tensor_parallel_size=4"),
    ),
    "pd radix": (*PD, *PLAIN, *sets("cache.prefix_cache=radix", "engine.scheduling_policy=lpm")),
    "pd tiers": (*PD, *PLAIN, *sets("pd_separation.tiers=[dram,ssd]")),
    "pd tiers lfu": (*PD, *PLAIN, *sets("pd_separation.tiers=[dram]", "policies.eviction=lfu")),
    "pd priorities": (*PD, *PLAIN, *sets("engine.scheduling_policy=priority")),
    "pd asynchronous": (*PD, *PLAIN, *sets("engine.async_scheduling=true")),
    "pd static": (*PD, *PLAIN, *sets("engine.batching=static")),
    "pd jitter": (*PD, *PLAIN, *sets("cluster.network.jitter_cv=0.5")),
    "pd fifo": (*PD, *PLAIN, *sets("pd_separation.transfer.contention=fifo")),
    "pd first token of prefill": (*PD, *PLAIN, *sets("pd_separation.first_token=prefill")),
    "pd rag": (*PD, *PLAIN, *sets("pd_trace.kind=rag")),
    "pd moe": (*PD, *PLAIN, *sets("model.name=qwen3-30b-a3b", "engine.tensor_parallel_size=1")),
    "pd moe data parallel": (
        *PD,
        *PLAIN,
        *sets("model.name=qwen3-30b-a3b", "engine.tensor_parallel_size=1", "engine.data_parallel_size=2"),
    ),
    "pd profile": (*PD, *PLAIN, "--calibration-profile", "h100_llama-3.1-8b_tp1_bf16", *sets(*SMALL_8B)),
    "cluster": CLUSTER,
    "cluster load": (*CLUSTER, *PLAIN, "--load", "0.9"),
    "cluster lru": (*CLUSTER, *PLAIN, "--policy", "lru"),
    "cluster policies": (*CLUSTER, *PLAIN, "--policy", "lru,s3fifo"),
    "cluster mooncake": (*CLUSTER, *PLAIN, *trace("mooncake_sample.jsonl")),
    "cluster shared ports": (*CLUSTER, *PLAIN, *sets("cache.contention=max_min")),
    "cluster first tier alone": (*CLUSTER, *PLAIN, *sets("cluster.tiers=[dram]")),
    "single": SINGLE,
    "single lru": (*PLAIN, "--policy", "lru"),
    "single classic": (*PLAIN, "--policy", "lru,arc,lfu,belady"),
    "single learned": (*PLAIN, "--policy", "learned"),
    "single write back": (*PLAIN, "--policy", "lru", *sets("cache.write_policy=write_back")),
    "single arrival": (*PLAIN, "--policy", "lru", *sets("cache.load_at=arrival")),
    "single radix": (*PLAIN, "--policy", "lru", *sets("cache.prefix_cache=radix", "cache.tiers=[]")),
    "single mooncake": (*PLAIN, "--policy", "lru", *trace("mooncake_sample.jsonl")),
    "single restart": (*PLAIN, "--policy", "lru", *sets("cache.restart_after_requests=100")),
    "single prefetch": (*PLAIN, "--policy", "lru", *sets("policies.prefetch=session")),
}
"""Flags by name, beside ``--preset smoke``."""


def main() -> int:
    """Write the reports; 1 where one is missing or differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--against", type=Path, default=None)
    parser.add_argument("--only", default="", help="configurations whose name has this word")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in CONFIGURATIONS if asked.only in name]
    with ThreadPoolExecutor(asked.jobs) as threads:
        failures = [text for text in threads.map(lambda name: written(asked.folder, name), names) if text]
    if asked.against is not None:
        failures += [text for name in names for text in differences(asked.folder, asked.against, name)]
    for text in failures:
        print(text)
    print(f"{len(names)} reports, {len(failures)} failures or differences")
    return 1 if failures else 0


def stem(name: str) -> str:
    return name.replace(" ", "_")


def written(folder: Path, name: str) -> str:
    """Run a configuration; what is wrong, if something is."""
    path = folder / stem(name)
    flags = CONFIGURATIONS[name]
    preset = () if "--preset" in flags else ("--preset", "smoke")
    outputs = ("--report-json", f"{path}.json", "--report-csv", f"{path}.csv", "--no-plot", "--quiet")
    command = [sys.executable, str(ROOT / "main.py"), *flags, *preset, *outputs]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    return f"{name}: exit {done.returncode}: {done.stderr.strip()[-300:]}" if done.returncode else ""


def differences(folder: Path, against: Path, name: str) -> list[str]:
    """Where the reports and rows of a configuration differ."""
    found: list[str] = []
    for suffix in ("json", "csv"):
        one, other = (place / f"{stem(name)}.{suffix}" for place in (folder, against))
        if not one.exists() or not other.exists():
            found.append(f"{name}: no {suffix} in {(folder if other.exists() else against)}")
        elif suffix == "csv":
            if one.read_bytes() != other.read_bytes():
                found.append(f"{name}: rows differ")
        else:
            found += [f"{name}: {text}" for text in apart(_report(one), _report(other))][:5]
    return found


def _report(path: Path) -> dict[str, Any]:
    """Less what differs from run to run, and where the trace lies."""
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    report["workload"]["source"] = Path(report["workload"]["source"]).name
    return report | {"run": None}


def apart(one: Any, other: Any, where: str = "") -> list[str]:
    """The places at which two documents differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [*one, *(key for key in other if key not in one)]
        return [text for key in keys for text in apart(one.get(key), other.get(key), f"{where}.{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [text for place, (own, theirs) in pairs for text in apart(own, theirs, f"{where}[{place}]")]
    same = one == other or (one != one and other != other)
    return [] if same else [f"{where}: {str(one)[:60]} and {str(other)[:60]}"]


if __name__ == "__main__":
    sys.exit(main())
