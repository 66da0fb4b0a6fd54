"""The network of a plan's instances, as the configuration describes it."""

from __future__ import annotations

import numpy as np

from kvsim.config.derived import nic_latency_s
from kvsim.plan.instance import Instance
from kvsim.plan.plan import Plan
from kvsim.sim.clock import Clock
from kvsim.sim.network.jitter import Jitter
from kvsim.sim.network.network import Network
from kvsim.sim.network.topology import Topology
from kvsim.units import GB, MICRO


def host_link_bytes_per_s(plan: Plan, side: Instance | None = None) -> float:
    """Bytes/s of one GPU to the others of its host, one direction: NVLink, or PCIe where it has none. ``side``: whose
    GPU; ``None``: a unified instance's."""
    given = plan.config.cluster.network.nvlink_gb_per_s
    gpu = (side or plan.colocated).spec.gpu
    return gpu.interconnect_bytes_per_s if given is None else given * GB / 2


def build_network(plan: Plan, clock: Clock, generator: np.random.Generator) -> Network:
    """NICs, links inside hosts, and racks under the instances in their order; ``generator`` draws the jitter."""
    config, places = plan.config.cluster.network, plan.places()
    sides = {True: plan.prefill, False: plan.decode}
    topology = Topology(
        [sides[place.is_prefill].nic_bytes_per_s for place in places],
        [host_link_bytes_per_s(plan, side) * side.degree for side in (sides[place.is_prefill] for place in places)],
        [place.host for place in places],
        [place.rack for place in places],
        oversubscription=config.rack_oversubscription,
        nic_latency_s=nic_latency_s(plan.config),
        nvlink_latency_s=config.nvlink_latency_us * MICRO,
        intra_rack_latency_s=config.intra_rack_latency_us * MICRO,
        cross_rack_latency_s=config.cross_rack_latency_us * MICRO,
    )
    if config.seed is not None:
        generator = np.random.default_rng(config.seed)
    transfer = plan.config.pd_separation.transfer
    return Network(
        clock,
        topology,
        transfer.contention if config.contention_enabled else "none",
        jitter=Jitter(config.jitter_cv, config.tail_jitter_prob, config.tail_jitter_multiplier, generator),
        descriptor_s=transfer.descriptor_us * MICRO,
    )
