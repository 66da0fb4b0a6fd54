"""How each row of the benchmark is measured. A row gives its figure and a sentence of detail, or None and why not."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from places import ROOT, SMALL_8B, data

from kvsim._compiled import engine

if TYPE_CHECKING:
    from kvsim.config import Config

Found = tuple[float | None, str]
SEED = 7


def run(name: str) -> Found:
    """Measure the row of that name."""
    return globals()[name]()


MISSING = "the trace is not here: set KVSIM_DATA to the folder that holds traces/ and measured/"
MOONCAKE = ("traces", "mooncake_conversation_trace.jsonl")
EIGHT = (*SMALL_8B, "cluster.simulate_racks=1", "cluster.simulate_gpus_per_rack=8")
AZURE = ("traces", "AzureLLMInferenceTrace_conv.csv")


class TraceAtLoad:
    """A plan, a trace, and the rate that loads one system to ``rho`` of its analytic maximum."""

    def __init__(self, system: str, trace: Path, sets: tuple[str, ...], rho: float, num_requests: int) -> None:
        from kvsim.capacity.maximum_rates import balanced_pd_ratio
        from kvsim.config import load_config
        from kvsim.plan.mode import CLUSTER
        from kvsim.plan.plan import make_plan
        from kvsim.workload.reading import Reading
        from kvsim.workload.traffic import TraceSource, TraceTraffic

        config = load_config(sets=sets).config
        if system == "cluster":
            self.system, self.plan = "unified", CLUSTER.plan(config)
        else:
            self.system, self.plan = system, make_plan(config)
        source = TraceSource(trace, Reading("auto", num_requests, "auto"))
        self.traffic = TraceTraffic(source, None, SEED)
        found = self._maximum(config.load.pilot_requests, num_requests)
        if self.system == "pd":
            # What caches save depends on the ratio, and the balanced ratio on what caches save: once more each.
            for _ in range(2):
                self.plan = self.plan.with_counts(*balanced_pd_ratio(self.plan, found.demand))
                found = self._maximum(config.load.pilot_requests, num_requests)
        self.rate_per_s = rho * found.requests_per_s
        self.workload = self.traffic.at_rate(self.rate_per_s)

    def _maximum(self, pilot_requests: int, num_requests: int) -> Any:
        from kvsim.capacity.pilot import Trial, measured_maximum
        from kvsim.sim.executor import Serial

        trial = Trial(self.plan, self.traffic, SEED, Serial(), lambda _: num_requests)
        return measured_maximum(trial, self.system, pilot_requests)

    def cpu_s_per_request(self) -> tuple[float, str]:
        """Simulate once; raises if a conservation law is broken."""
        from kvsim.sim.executor import Serial, whole
        from kvsim.sim.run import Case

        (result,) = whole(Serial().run([Case(self.system, self.system, self.plan, self.workload, SEED)]))
        if result.completed != len(self.workload):
            raise AssertionError(f"{result.completed} of {len(self.workload)} done")
        detail = (
            f"{result.completed:,} requests in {result.sim_cpu_s:.1f} CPU-s, {self.rate_per_s:,.1f} requests/s, "
            f"{result.events / result.completed:.1f} events a request, {result.cache.evicted_blocks:,} blocks evicted, "
            f"{result.cache.preemptions:,} preemptions, {engine()}"
        )
        for tier in result.cache.tiers:
            detail += f", {tier.name}: {tier.loaded_tokens:,} tokens, {tier.evicted_chunks:,} chunks evicted"
        if self.system == "pd":
            detail += f", P:D {self.plan.num_prefill}:{self.plan.num_decode}"
        return result.sim_cpu_s / result.completed, detail


def _rate(system: str, trace: tuple[str, ...], sets: tuple[str, ...], rho: float, num_requests: int) -> Found:
    path = data(*trace)
    if path is None:
        return None, MISSING
    cpu_s, detail = TraceAtLoad(system, path, sets, rho, num_requests).cpu_s_per_request()
    return 1 / cpu_s, detail


def pd_10240_gpus() -> Found:
    return _rate("pd", MOONCAKE, (), 0.7, 200_000)


def pd_102400_gpus() -> Found:
    """Against a tenth of the cluster and of the requests, after it: memory is that of the large run."""
    path = data(*MOONCAKE)
    if path is None:
        return None, MISSING
    large, large_detail = TraceAtLoad("pd", path, ("cluster.simulate_racks=1600",), 0.7, 1_000_000).cpu_s_per_request()
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    small, small_detail = TraceAtLoad("pd", path, (), 0.7, 100_000).cpu_s_per_request()
    detail = f"peak {peak_gib:.2f} GiB; 102,400 GPUs: {large_detail}; 10,240 GPUs: {small_detail}"
    return (small / large, detail) if peak_gib <= 4 else (None, f"more than 4 GiB: {detail}")


def pd_hour_s() -> Found:
    """What was once an hour of the default cluster at full load; simulating alone."""
    import kvsim

    done = kvsim.simulate("pd", systems=["pd"], sets={"pd_trace.num_requests": 2_200_000})
    (system,) = done.systems
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    detail = f"{system.completed:,} requests over {system.end_s:,.0f} s, {system.completed / system.sim_cpu_s:,.0f} "
    return system.sim_cpu_s, f"{detail}a CPU-s, peak {peak_gib:.2f} GiB, {engine()}"


def pd_10240_instances() -> Found:
    return _rate("pd", MOONCAKE, SMALL_8B, 0.7, 500_000)


def cluster_10240_gpus() -> Found:
    """The memory of each host cut to what makes every tier but the drives evict."""
    sizes = ("hardware.dram.capacity_gb=100", "cluster.eic.capacity_per_node_gb=100", "cache.chunk_tokens=512")
    return _rate("cluster", MOONCAKE, sizes, 0.7, 200_000)


def colocated_8() -> Found:
    return _rate("unified", AZURE, EIGHT, 0.7, 60_000)


def saturated_8() -> Found:
    return _rate("unified", AZURE, EIGHT, 1.3, 60_000)


def colocated_1024() -> Found:
    return _rate("unified", AZURE, ("cluster.simulate_racks=64",), 0.7, 210_000)


def scale_ratio() -> Found:
    path = data(*MOONCAKE)
    if path is None:
        return None, MISSING
    small, small_detail = TraceAtLoad("pd", path, ("cluster.simulate_racks=1",), 0.7, 12_000).cpu_s_per_request()
    large, large_detail = TraceAtLoad("pd", path, (), 0.7, 200_000).cpu_s_per_request()
    return large / small, f"64 GPUs: {small_detail}; 10,240 GPUs: {large_detail}"


def output_ratio() -> Found:
    """The same requests with answers ten times as long, at a tenth of the rate: the same batches, ten times longer."""
    path = data(*AZURE)
    if path is None:
        return None, MISSING
    case = TraceAtLoad("pd", path, ("cluster.simulate_racks=1", "model.max_model_len=32768"), 0.7, 20_000)
    short, short_detail = case.cpu_s_per_request()
    case.workload = replace(
        case.workload, output_tokens=case.workload.output_tokens * 10, arrival_s=case.workload.arrival_s * 10
    )
    long, long_detail = case.cpu_s_per_request()
    return long / short, f"x 1: {short_detail}; x 10: {long_detail}"


def rss_1m_gib() -> Found:
    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder) / "requests.csv"
        _command(
            "--pd", "--quiet", "--no-plot", "--report-csv", str(csv), "--out", folder,
            "--set", "pd_trace.num_requests=1000000",
        )  # fmt: skip
        with csv.open("rb") as rows:
            lines = sum(chunk.count(b"\n") for chunk in iter(lambda: rows.read(1 << 20), b""))
    peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
    cpu_s = _children_cpu_s()
    return peak_gib, f"{lines - 1:,} rows of CSV, {cpu_s:.0f} CPU-s for both systems and the reports"


def sharegpt_300() -> Found:
    path = data("measured", "sharegpt-llama-3.1-8b-300-sps10.jsonl")
    if path is None:
        return None, MISSING
    from kvsim.config import load_config

    return _one_instance(load_config(sets=SMALL_8B).config, path)


def _one_instance(config: Config, trace: Path) -> Found:
    from kvsim.plan.plan import unified_plan
    from kvsim.sim.run import Case, run
    from kvsim.workload.read import read_trace

    found = run(Case("unified", "unified", unified_plan(config, 1), read_trace(trace), SEED, keeps_detail=True))
    assert found.system.detail is not None
    steps = int(found.system.detail.steps["num_steps"].sum())
    return found.system.sim_cpu_s, f"{found.system.completed} requests, {steps:,} engine steps"


def sharegpt_300_tables() -> Found:
    path = data("measured", "sharegpt-llama-3.1-8b-300-sps10.jsonl")
    folder = data("measured", "RTXPRO6000_Llama-3.1-8B")
    if path is None or folder is None:
        return None, MISSING
    with tempfile.TemporaryDirectory() as scratch:
        profile = Path(scratch) / "profile.yaml"
        _command("calibrate", "operators", str(folder), "-o", str(profile))
        from kvsim.validate.measured_run import read_run
        from kvsim.validate.predict_run import load_run

        loaded = load_run(read_run(folder), profile, folder / "model_config.json", [])
        return _one_instance(loaded.config, path)


def help_s() -> Found:
    _command("--help")
    return _children_cpu_s(), "python main.py --help"


def workloads_s() -> Found:
    from kvsim.config import load_config
    from kvsim.workload.read import read_trace
    from kvsim.workload.synthetic.chat import chat

    paths = {trace: data(*trace) for trace in (MOONCAKE, AZURE)}
    if None in paths.values():
        return None, MISSING
    found: dict[str, float] = {}
    for trace, path in paths.items():
        before_s = time.process_time()
        read_trace(path)
        found[trace[-1]] = time.process_time() - before_s
    before_s = time.process_time()
    chat(load_config().config.pd_trace, 1_000_000, 1500.0, 1)
    found["a million chats"] = time.process_time() - before_s
    return max(found.values()), ", ".join(f"{what}: {cpu_s:.2f}" for what, cpu_s in found.items())


def smoke_s() -> Found:
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for mode in ("", "--cluster", "--pd"):
            before_s = _children_cpu_s()
            _command(*filter(None, [mode]), "--preset", "smoke", "--out", folder)
            found[mode or "single node"] = _children_cpu_s() - before_s
    return max(found.values()), ", ".join(f"{mode}: {cpu_s:.1f}" for mode, cpu_s in found.items())


def _command(*arguments: str) -> None:
    subprocess.run([sys.executable, str(ROOT / "main.py"), *arguments], check=True, stdout=subprocess.DEVNULL)


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
