"""Cells: equal parts of a cluster that share nothing, and what stands in the way of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from kvsim.config import Config
from kvsim.errors import ConfigError
from kvsim.spec.tier_kinds import EIC, SSD

if TYPE_CHECKING:
    from kvsim.plan.plan import Plan

_SHOWN = 3
"""Numbers of cells that an error names, of those next to the one given."""


def cell_seed(seed: int, number: int) -> int:
    """The seed of one cell, of a cluster that has ``seed``."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def cell_config(config: Config, number: int) -> Config:
    """The configuration of one cell of a cluster that has ``config``: it has no cells, and jitter of its own."""
    update: dict[str, object] = {"routing": config.routing.model_copy(update={"cells": None})}
    network = config.cluster.network
    if network.seed is not None:
        network = network.model_copy(update={"seed": cell_seed(network.seed, number)})
        update["cluster"] = config.cluster.model_copy(update={"network": network})
    return config.model_copy(update=update)


def check_cells(plan: Plan) -> None:
    """Raise ``ConfigError`` where a plan's cells would share something, or not each be able to serve a request."""
    if plan.cells == 1:
        return
    cache, cluster, given = plan.config.cache, plan.config.cluster, _given(plan)
    if cache.restart_after_requests is not None:
        raise ConfigError(
            f"{given} and cache.restart_after_requests = {cache.restart_after_requests}: requests are counted over the "
            "whole cluster, of which a cell knows nothing; give one of them"
        )
    if plan.tiers:
        check_hosts(plan)
    if SSD.name in plan.tiers and cluster.ssd_scope == "cluster":
        raise ConfigError(
            f"{given} and cluster.ssd_scope = 'cluster': cells would share all drives; allowed with cells: host, rack"
        )
    gpus, what = _unit(plan)
    allowed = [cells for cells in range(1, plan.num_instances + 1) if _is_whole(plan, cells, gpus)]
    if plan.cells not in allowed:
        nearest = sorted(sorted(allowed, key=lambda cells: abs(cells - plan.cells))[:_SHOWN])
        raise ConfigError(
            f"{given}: {plan.num_instances:,} instances of {plan.spec.num_gpus} GPUs do not make as many equal cells, "
            f"{what} each; nearest: {', '.join(map(str, nearest))}"
        )
    if plan.num_decode and min(min(kind.num_prefill, kind.num_decode) for kind in plan.cell_kinds()) < 1:
        raise ConfigError(
            f"{given}: {plan.num_prefill} prefill and {plan.num_decode} decode instances leave a cell without one of "
            "either; allowed: fewer cells, or another pd_separation.pd_ratio"
        )
    _check_groups(plan, given)


def check_hosts(plan: Plan) -> None:
    """Raise ``ConfigError`` where a host that has a plan's tiers would stand in two racks."""
    per_host, per_rack = plan.config.cluster.network.gpus_per_host, plan.config.cluster.simulate_gpus_per_rack
    if per_rack % per_host and plan.num_racks > 1:
        raise ConfigError(
            f"cluster.simulate_gpus_per_rack = {per_rack} is no multiple of cluster.network.gpus_per_host = "
            f"{per_host}: a host, whose memory and drives are tiers, stands within one rack"
        )


def _given(plan: Plan) -> str:
    given = plan.config.routing.cells
    return f"routing.cells = {given if given != 'rack' else f'rack ({plan.cells})'}"


def _unit(plan: Plan) -> tuple[int, str]:
    """GPUs that a cell is a multiple of, so that it shares nothing with others; and what they are."""
    cluster, tiers = plan.config.cluster, plan.tiers
    has_pools = EIC.name in tiers or (SSD.name in tiers and cluster.ssd_scope == "rack")
    if has_pools or (plan.num_decode and plan.num_racks > 1):
        rack, host = cluster.simulate_gpus_per_rack, cluster.network.gpus_per_host
        if plan.num_racks > 1 and rack % host:
            return math.lcm(rack, host), f"whole racks of {rack} and whole hosts of {host} GPUs"
        return rack, f"whole racks of {rack} GPUs"
    if tiers or plan.num_decode:
        return cluster.network.gpus_per_host, f"whole hosts of {cluster.network.gpus_per_host} GPUs"
    return 1, "whole instances"


def _is_whole(plan: Plan, cells: int, gpus: int) -> bool:
    own = plan.num_instances // cells
    return plan.num_instances % cells == 0 and (cells == 1 or own * plan.spec.num_gpus % gpus == 0)


def _check_groups(plan: Plan, given: str) -> None:
    size = plan.config.engine.data_parallel_size
    counts = [plan.num_instances // plan.cells]
    if plan.num_decode:
        counts += [count for kind in plan.cell_kinds() for count in (kind.num_prefill, kind.num_decode)]
    cut = next((count for count in counts if count % size), None)
    if cut is not None:
        raise ConfigError(
            f"{given}: {cut} instances of a cell are no multiple of engine.data_parallel_size = {size}, whose groups "
            "share a front end"
        )
