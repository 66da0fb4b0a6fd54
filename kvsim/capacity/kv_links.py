"""What the links that KV takes let through, by arithmetic: NVLink or PCIe inside a host, NICs, uplinks of racks.

Room for decodes is given to prompts first come first served, so that each decode instance takes KV from all prefill
instances alike; or, where the router looks at racks, from those of its own as far as all are to be equally loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kvsim.capacity.demand import Demand
from kvsim.plan.plan import Plan
from kvsim.sim.network.build_network import host_link_bytes_per_s
from kvsim.sim.network.max_min import fair_rates
from kvsim.units import MICRO
from kvsim.workload.workload import Floats, Ints


@dataclass(frozen=True, eq=False)
class Hosts:
    """Where the instances of the PD system stand; one entry for the hosts of a rack that hold alike."""

    number: Floats
    prefill: Floats
    decode: Floats
    """Instances of one host."""
    rack: Ints

    @classmethod
    def of(cls, plan: Plan) -> Hosts:
        places = plan.places()
        host = np.array([place.host for place in places])
        rack = np.zeros(int(host.max()) + 1, dtype=np.int64)
        rack[host] = [place.rack for place in places]
        prefill = np.bincount(host, [place.is_prefill for place in places], len(rack)).astype(np.int64)
        decode = np.bincount(host, minlength=len(rack)) - prefill
        kinds, number = np.unique(np.stack([rack, prefill, decode]), axis=1, return_counts=True)
        return cls(number.astype(np.float64), kinds[1].astype(np.float64), kinds[2].astype(np.float64), kinds[0])

    @cached_property
    def decodes(self) -> Floats:
        """Decode instances of all hosts alike."""
        return self.number * self.decode

    @cached_property
    def rack_prefill(self) -> Floats:
        """Prefill instances of each rack."""
        found: Floats = np.bincount(self.rack, self.number * self.prefill).astype(np.float64)
        return found

    @cached_property
    def rack_decode(self) -> Floats:
        found: Floats = np.bincount(self.rack, self.decodes).astype(np.float64)
        return found


def _sources(hosts: Hosts, near: bool) -> Floats:
    """Shares of the KV that decode instances of a rack (columns) get from each rack (rows).

    ``near``: from their own rack first, as far as all are to be equally loaded.
    """
    prefill, decode = (values / values.sum() for values in (hosts.rack_prefill, hosts.rack_decode))
    if not near:
        return np.repeat(prefill[:, None], len(decode), axis=1)
    inside = np.minimum(prefill, decode)
    beyond = prefill - inside
    inside_share = np.divide(inside, decode, out=np.zeros(len(decode)), where=decode > 0)
    found: Floats = np.outer(beyond / max(beyond.sum(), 1e-12), 1 - inside_share) + np.diag(inside_share)
    return found


class KvLinks:
    """What links carry of the KV of ``demand``."""

    def __init__(self, plan: Plan, demand: Demand) -> None:
        self._plan, self._hosts = plan, Hosts.of(plan)
        self._sent, self._returned = _Work.sent(plan, demand), _Work.returned(plan, demand)
        self._sources = _sources(self._hosts, plan.config.routing.decode == "capacity")
        rack, hosts = self._hosts.rack, self._hosts
        own = self._sources[rack, rack]
        self._inside_share = own * np.divide(
            hosts.prefill, hosts.rack_prefill[rack], out=np.zeros(len(rack)), where=hosts.prefill > 0
        )
        """Share of the KV of a decode instance that comes from its own host."""

    def sending_s(self) -> float:
        """Mean time of a request's KV on links that nobody else uses."""
        inside_share = float((self._hosts.decodes * self._inside_share).sum() / self._hosts.decodes.sum())
        inside_s = self._sent.inside_bytes / _inside_bytes_per_s(self._plan)
        return inside_share * inside_s + (1 - inside_share) * self._sent.outside_bytes / self._plan.pair_bytes_per_s

    def requests_per_s(self, decodes_per_s: float) -> float:
        """What all decode instances serve together, each of them ``decodes_per_s`` at the most, by what links carry.

        The rates of decode instances rise together as links fill up. A full link holds those that get KV over it;
        others go on, since each has room of its own.
        """
        plan, hosts = self._plan, self._hosts
        transfer = plan.config.pd_separation.transfer
        if transfer.contention == "none" or not plan.config.cluster.network.contention_enabled:
            return decodes_per_s * plan.num_decode
        serves = hosts.decode > 0
        limits = np.minimum(self._own_limits(), decodes_per_s)[serves]
        loads = np.concatenate([self._nic_loads(), *self._uplink_loads()])[:, serves].T
        paths = [np.flatnonzero(row) for row in loads]
        weights = [row[path].tolist() for row, path in zip(loads, paths, strict=True)]
        links = dict.fromkeys(range(loads.shape[1]), 1.0)
        rates = fair_rates([path.tolist() for path in paths], limits.tolist(), links, weights)
        return float((hosts.decodes[serves] * rates).sum())

    def _own_limits(self) -> Floats:
        """Most requests/s of a decode instance, by its NICs and the links inside its host."""
        plan, hosts, share = self._plan, self._hosts, self._inside_share
        inside_bytes = max(self._sent.inside_bytes, self._returned.inside_bytes)
        sides = plan.prefill, plan.decode
        out_of_s, into_s = (inside_bytes / host_link_bytes_per_s(plan, side) for side in sides)
        into = share * into_s / plan.decode.degree
        from_each = np.divide(share * hosts.decode, hosts.prefill, out=np.zeros(len(share)), where=share > 0)
        out_of = from_each * out_of_s / plan.prefill.degree
        nics = (1 - share) * self._outside_bytes / plan.decode.nic_bytes_per_s
        busiest = np.maximum.reduce([into, out_of, nics])
        found: Floats = np.divide(1.0, busiest, out=np.full(len(busiest), np.inf), where=busiest > 0)
        return found

    @property
    def _outside_bytes(self) -> float:
        return max(self._sent.outside_bytes, self._returned.outside_bytes)

    def _nic_loads(self) -> Floats:
        """Load of a prefill instance's NICs in hosts of each kind (rows): seconds a second, for a request/s of each
        decode instance in hosts of each kind (columns)."""
        hosts = self._hosts
        rack = hosts.rack
        with_prefill = hosts.prefill > 0
        each = self._sources[np.ix_(rack, rack)] / np.maximum(hosts.rack_prefill[rack], 1.0)[:, None]
        others = hosts.decodes[None, :] - np.diag(hosts.decode)
        found: Floats = each * others * (self._outside_bytes / self._plan.prefill.nic_bytes_per_s)
        return found[with_prefill]

    def _uplink_loads(self) -> tuple[Floats, Floats]:
        """Loads of racks' uplinks, up and down, laid out as ``_nic_loads``; none where they are no limit."""
        plan, hosts = self._plan, self._hosts
        oversubscription = plan.config.cluster.network.rack_oversubscription
        if oversubscription <= 1:
            return np.zeros((0, len(hosts.rack))), np.zeros((0, len(hosts.rack)))
        nics = hosts.rack_prefill * plan.prefill.nic_bytes_per_s + hosts.rack_decode * plan.decode.nic_bytes_per_s
        leaves = self._sources * (1 - np.eye(len(nics)))
        comes = np.diag(leaves.sum(axis=0))
        sent_s, returned_s = (
            (work.outside_bytes * oversubscription / nics)[:, None] for work in (self._sent, self._returned)
        )
        up, down = sent_s * leaves + returned_s * comes, sent_s * comes + returned_s * leaves
        return up[:, hosts.rack] * hosts.decodes, down[:, hosts.rack] * hosts.decodes


def _inside_bytes_per_s(plan: Plan) -> float:
    return min(host_link_bytes_per_s(plan, side) * side.degree for side in (plan.prefill, plan.decode))


@dataclass(frozen=True)
class _Work:
    """What a request's KV is to links, one way: bytes, with descriptors and jitter as so many more."""

    inside_bytes: float
    """Bytes to links within a host."""
    outside_bytes: float

    @classmethod
    def sent(cls, plan: Plan, demand: Demand) -> _Work:
        return cls._of(plan, demand.sent_tokens)

    @classmethod
    def returned(cls, plan: Plan, demand: Demand) -> _Work:
        return cls._of(plan, np.array([demand.returned_tokens]))

    @classmethod
    def _of(cls, plan: Plan, tokens: Floats) -> _Work:
        transfer, network = plan.config.pd_separation.transfer, plan.config.cluster.network
        factor = 1 + network.tail_jitter_prob * (network.tail_jitter_multiplier - 1)
        pieces = float(np.ceil(tokens / (transfer.pipeline_chunk_blocks * plan.decode_settings.block_size)).mean())
        if transfer.layerwise and transfer.pipelining and transfer.strategy != "pull_on_demand":
            pieces *= plan.spec.model.num_layers
        num_bytes = float(tokens.mean()) * plan.kv_bytes_per_token
        lines = _inside_bytes_per_s(plan), plan.pair_bytes_per_s
        return cls(*(factor * (num_bytes + pieces * transfer.descriptor_us * MICRO * line) for line in lines))
