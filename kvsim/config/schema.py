"""The whole configuration: one attribute per section of ``config.yaml``, resolved and immutable."""

from __future__ import annotations

from typing import Any

from kvsim.config.schema_cluster import Cluster
from kvsim.config.schema_instance import Cache, Engine, Hardware, Model
from kvsim.config.schema_pd import Load, PdSeparation, Routing, Slo
from kvsim.config.schema_steptime import StepTime
from kvsim.config.schema_studies import Limits, Studies
from kvsim.config.schema_traffic import AgentTrace, ChatTrace, Experiment, PdExperiment, PdTrace, Policies
from kvsim.config.section import Section, Whole


class Config(Section):
    """What a run is built from. Mirrors ``config.yaml``, less ``presets``, which are merged before."""

    seed: Whole
    model: Model
    engine: Engine
    hardware: Hardware
    steptime: StepTime
    cache: Cache
    cluster: Cluster
    pd_separation: PdSeparation
    routing: Routing
    slo: Slo
    trace: ChatTrace
    cluster_trace: ChatTrace
    pd_trace: PdTrace
    agent_trace: AgentTrace
    experiments: Experiment
    cluster_experiments: Experiment
    pd_experiments: PdExperiment
    load: Load
    studies: Studies
    limits: Limits
    policies: Policies


def dump(config: Config) -> dict[str, Any]:
    """The whole configuration as plain mappings, lists and scalars, ready for JSON."""
    return config.model_dump(mode="json")
