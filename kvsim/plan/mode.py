"""The modes: how a configuration becomes a plan in each, and which of its sections are the mode's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kvsim.config import Config, derived
from kvsim.config.cluster_keys import ClusterGpu
from kvsim.config.schema import ChatTrace, Experiment
from kvsim.errors import ConfigError
from kvsim.plan.plan import Plan, check_instances, make_plan, unified_plan

ModeName = Literal["single", "cluster", "pd", "predict"]


@dataclass(frozen=True)
class Mode:
    """What the modes differ in."""

    name: ModeName

    @property
    def is_pd(self) -> bool:
        """Whether prefill and decode instances stand beside unified ones."""
        return self.name == "pd"

    def plan(self, config: Config, *, stepwise: bool = False) -> Plan:
        """Raises a ``KvsimError`` where the configuration cannot be built."""
        if self.is_pd:
            return make_plan(config, stepwise=stepwise)
        engine = config.engine.model_copy(update={"tune_colocated_budget": False})
        config = config.model_copy(update={"engine": engine})
        if self.name == "cluster":
            instances = derived.instances(config)
            check_instances(instances, "cluster.simulate_racks and cluster.simulate_gpus_per_rack")
            return unified_plan(config, instances, config.cluster.tiers, stepwise=stepwise, is_pooled=True)
        if self.name == "predict":
            instances = derived.instances(config)
            check_instances(instances, "cluster.simulate_racks and cluster.simulate_gpus_per_rack")
            return unified_plan(config, instances, config.pd_separation.tiers, stepwise=stepwise, is_pooled=True)
        workers = config.cache.num_workers
        check_instances(workers, "cache.num_workers")
        return unified_plan(_node(config, workers), workers, config.cache.tiers, stepwise=stepwise)

    def sessions(self, config: Config) -> tuple[str, ChatTrace]:
        """The section that describes the sessions of the single node or of a cluster, and what stands there."""
        return ("trace", config.trace) if self.name == "single" else ("cluster_trace", config.cluster_trace)

    def experiment(self, config: Config) -> tuple[str, Experiment]:
        """The section that says how many requests a run takes and where its files go, and what stands there."""
        if self.name in ("pd", "predict"):
            return "pd_experiments", config.pd_experiments
        if self.name == "single":
            return "experiments", config.experiments
        return "cluster_experiments", config.cluster_experiments

    def warmup(self, config: Config, num_requests: int) -> int:
        """How many of a run's first requests do not count."""
        section, experiment = self.experiment(config)
        given = experiment.warmup_requests
        if given is None:
            return int(num_requests * experiment.warmup_share)
        if given >= num_requests:
            raise ConfigError(
                f"{section}.warmup_requests is {given}; allowed: below the {num_requests} requests of the run"
            )
        return given


SINGLE, CLUSTER, PD = Mode("single"), Mode("cluster"), Mode("pd")
MODES = {mode.name: mode for mode in (SINGLE, CLUSTER, PD)}
"""Modes that compare several systems, policies or memories."""
PREDICT = Mode("predict")
"""One deployment of unified instances, as a server's command line describes it."""


def _node(config: Config, workers: int) -> Config:
    """Workers that share nothing: each has a host of its own."""
    degree = derived.instance_gpus(config)
    cluster = config.cluster
    own_host = degree if config.engine.pipeline_parallel_size == 1 else min(degree, cluster.network.gpus_per_host)
    network = cluster.network.model_copy(update={"gpus_per_host": own_host})
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
