"""How a configuration becomes the plan of a single node or of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from kvsim.config import Config
from kvsim.config.schema_cluster import ClusterGpu
from kvsim.config.schema_traffic import ChatTrace, Experiment
from kvsim.system.plan import Plan, make_plan

ModeName = Literal["single", "cluster"]


@dataclass(frozen=True)
class Mode:
    """What the two modes differ in."""

    name: ModeName

    def plan(self, config: Config, *, stepwise: bool = False) -> Plan:
        """Raises a ``KvsimError`` where the configuration cannot be built."""
        engine = config.engine.model_copy(update={"tune_colocated_budget": False})
        separation = config.pd_separation.model_copy(
            update={"prefill_tensor_parallel_size": None, "decode_tensor_parallel_size": None}
        )
        config = config.model_copy(update={"engine": engine, "pd_separation": separation})
        if self.name == "cluster":
            return replace(make_plan(config, stepwise=stepwise), tiers=config.cluster.tiers)
        workers = config.cache.num_workers
        plan = make_plan(_node(config, max(workers, 2)), stepwise=stepwise)
        return replace(plan, num_instances=workers, tiers=config.cache.tiers)

    def traffic(self, config: Config) -> tuple[str, ChatTrace]:
        """The section that describes synthetic traffic, and what stands there."""
        return ("trace", config.trace) if self.name == "single" else ("cluster_trace", config.cluster_trace)

    def experiment(self, config: Config) -> Experiment:
        return config.experiments if self.name == "single" else config.cluster_experiments


SINGLE, CLUSTER = Mode("single"), Mode("cluster")


def _node(config: Config, workers: int) -> Config:
    """Workers that share nothing: each has a host of its own."""
    degree = config.engine.tensor_parallel_size
    cluster = config.cluster
    network = cluster.network.model_copy(update={"gpus_per_host": degree})
    update = {
        "total_gpus": workers * degree,
        "gpus_per_rack": workers * degree,
        "simulate_racks": 1,
        "simulate_gpus_per_rack": workers * degree,
        "ssd_scope": "host",
        "network": network,
        "gpu": ClusterGpu(**dict.fromkeys(ClusterGpu.model_fields)),
    }
    return config.model_copy(update={"cluster": cluster.model_copy(update=update)})
