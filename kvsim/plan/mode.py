"""How a configuration becomes the plan of a single node or of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kvsim.config import Config, derived
from kvsim.config.schema_cluster import ClusterGpu
from kvsim.config.schema_traffic import ChatTrace, Experiment
from kvsim.plan.plan import Plan, check_instances, unified_plan

ModeName = Literal["single", "cluster"]


@dataclass(frozen=True)
class Mode:
    """A mode with tiers, ``--cluster`` or the single node: what the two differ in."""

    name: ModeName

    def plan(self, config: Config, *, stepwise: bool = False) -> Plan:
        """The plan of a configuration in this mode. Raises a ``KvsimError`` where it cannot be built."""
        engine = config.engine.model_copy(update={"tune_colocated_budget": False})
        config = config.model_copy(update={"engine": engine})
        if self.name == "cluster":
            instances = derived.instances(config)
            check_instances(instances, "cluster.simulate_racks and cluster.simulate_gpus_per_rack")
            return unified_plan(config, instances, config.cluster.tiers, stepwise=stepwise)
        workers = config.cache.num_workers
        check_instances(workers, "cache.num_workers")
        return unified_plan(_node(config, workers), workers, config.cache.tiers, stepwise=stepwise)

    def traffic(self, config: Config) -> tuple[str, ChatTrace]:
        """The section that describes synthetic traffic, and what stands there."""
        return ("trace", config.trace) if self.name == "single" else ("cluster_trace", config.cluster_trace)

    def experiment(self, config: Config) -> Experiment:
        return config.experiments if self.name == "single" else config.cluster_experiments


SINGLE, CLUSTER = Mode("single"), Mode("cluster")


def _node(config: Config, workers: int) -> Config:
    """The configuration of workers that share nothing: each has a host of its own."""
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
