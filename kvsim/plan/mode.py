"""How a configuration becomes the plan of a single node or of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from kvsim.config import Config, derived
from kvsim.config.schema_cluster import ClusterGpu
from kvsim.config.schema_traffic import ChatTrace, Experiment
from kvsim.plan.plan import Plan, check_instances, make_plan

ModeName = Literal["single", "cluster"]


@dataclass(frozen=True)
class Mode:
    """What the two modes differ in."""

    name: ModeName

    def plan(self, config: Config, *, stepwise: bool = False) -> Plan:
        """Raises a ``KvsimError`` where the configuration cannot be built."""
        engine = config.engine.model_copy(update={"tune_colocated_budget": False})
        config = _unseparated(config.model_copy(update={"engine": engine}))
        if self.name == "cluster":
            return self._of_cluster(config, stepwise)
        workers = config.cache.num_workers
        check_instances(workers, "cache.num_workers")
        plan = make_plan(_node(config, max(workers, 2)), stepwise=stepwise)
        return replace(plan, num_instances=workers, tiers=config.cache.tiers)

    def _of_cluster(self, config: Config, stepwise: bool) -> Plan:
        """A plan has a prefill and a decode instance, which nobody builds here: one instance alone is a cluster too."""
        instances, racks = derived.instances(config), config.cluster.simulate_racks
        cluster = config.cluster.model_copy(update={"simulate_racks": racks if instances > 1 else 2 * racks})
        plan = make_plan(config.model_copy(update={"cluster": cluster}), stepwise=stepwise)
        return replace(plan, num_instances=instances, tiers=config.cluster.tiers)

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


def _unseparated(config: Config) -> Config:
    """Degrees of prefill and decode instances mean nothing where no instance is either."""
    update = {"prefill_tensor_parallel_size": None, "decode_tensor_parallel_size": None}
    return config.model_copy(update={"pd_separation": config.pd_separation.model_copy(update=update)})
