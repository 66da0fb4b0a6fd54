"""How instances reach the tiers of a cluster: over which ports, at which rates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kvsim.plan.instance import Instance
from kvsim.plan.plan import Place, Plan
from kvsim.sim.network.jitter import Jitter
from kvsim.sim.tiers.ports import Channel, Port, Routes, Spread, SpreadRoutes
from kvsim.units import GB, MICRO, MILLI


class TierRoutes:
    """The ports of all tiers, and of what lies between them and the instances."""

    def __init__(self, plan: Plan, side: Instance, places: Sequence[Place], seed: int) -> None:
        """``side``: what the instances are. ``places``: of the instances, by number. ``seed``: of the network's jitter,
        unless it has one of its own.
        """
        network = plan.config.cluster.network
        self._plan, self._side, self._network = plan, side, network
        self._seen = network.contention_enabled
        self._hosts = 1 + max(place.host for place in places)
        self.ports: dict[str, list[Port]] = {}
        self._port: dict[tuple[str, int], Port] = {}
        self._drives: dict[tuple[str, int], list[Channel]] = {}
        self._remote: dict[tuple[str, int], list[Channel]] = {}
        """Channels of drives, and of the uplinks of their racks, by direction and first host."""
        generator = np.random.default_rng([seed, 1] if network.seed is None else network.seed)
        jitter = Jitter(network.jitter_cv, network.tail_jitter_prob, network.tail_jitter_multiplier, generator)
        self._jitter = jitter if jitter.is_on else None

    def dram(self, place: Place, instance: int) -> Routes:
        """Routes to the host's memory: over an instance's own ports, and those that all of the host share."""
        dram, gpus = self._plan.config.hardware.dram, self._side.degree
        latency_s = dram.read_latency_ms * MILLI
        read = (
            Channel(self._at("dram instance read", instance), dram.read_gb_per_s * gpus * GB, latency_s),
            Channel(self._at("dram read", place.host), dram.host_gb_per_s * GB),
        )
        write = (
            Channel(self._at("dram instance write", instance), dram.write_gb_per_s * gpus * GB, latency_s),
            Channel(self._at("dram write", place.host), dram.host_gb_per_s * GB),
        )
        return Routes(read, write)

    def eic(self, place: Place, instance: int) -> Routes:
        """Routes to the rack's pool, over the instance's NICs."""
        eic = self._plan.config.cluster.eic
        latency_s = eic.access_latency_ms * MILLI + self._network.intra_rack_latency_us * MICRO
        read = (
            self._nics("eic instance read", instance, latency_s),
            Channel(self._at("eic read", place.rack), eic.read_gb_per_s * GB),
        )
        write = (
            self._nics("eic instance write", instance, latency_s),
            Channel(self._at("eic write", place.rack), eic.write_gb_per_s * GB),
        )
        return Routes(read, write)

    def ssd(self, place: Place, instance: int, hosts: range) -> Routes:
        """Routes to the drives of ``hosts``, over which chunks are spread; other hosts' are reached over the NICs."""
        ssd = self._plan.config.hardware.ssd
        return SpreadRoutes(
            self._spread("read", ssd.read_gb_per_s * GB, hosts, place, instance),
            self._spread("write", ssd.write_gb_per_s * GB, hosts, place, instance),
        )

    def hosts_of(self, rack: int) -> range:
        """The hosts of a rack that have instances."""
        per_rack = self._hosts_per_rack
        return range(rack * per_rack, min((rack + 1) * per_rack, self._hosts))

    @property
    def _hosts_per_rack(self) -> int:
        return -(-self._plan.config.cluster.simulate_gpus_per_rack // self._network.gpus_per_host)

    def _spread(self, direction: str, bytes_per_s: float, hosts: range, place: Place, instance: int) -> Spread:
        own_s = self._plan.config.hardware.ssd.read_latency_ms * MILLI
        near_s = own_s + self._network.remote_ssd_latency_us * MICRO
        far_s = near_s + self._network.cross_rack_latency_us * MICRO
        drives = self._drives.get((direction, hosts.start))
        if drives is None:
            drives = [Channel(self._at("ssd", host), bytes_per_s) for host in hosts]
            self._drives[direction, hosts.start] = drives
        own, rack = place.host - hosts.start, self.hosts_of(place.rack)
        kind = f"ssd instance {direction}"
        return Spread(
            drives,
            own,
            Channel(drives[own].port, bytes_per_s, own_s),
            range(rack.start - hosts.start, rack.stop - hosts.start),
            (self._nics(kind, instance, near_s), self._nics(kind, instance, far_s)),
            self._uplinks(direction, hosts, place.rack),
        )

    def _uplinks(self, direction: str, hosts: range, rack: int) -> tuple[Channel, list[Channel]] | None:
        """What a transfer occupies of the uplinks of ``rack`` and of each host's, where they are oversubscribed: it
        leaves one rack and enters the other.
        """
        times = self._network.rack_oversubscription
        if times <= 1:
            return None
        gpus = self._plan.config.cluster.simulate_gpus_per_rack
        bytes_per_s = self._side.nic_bytes_per_s / self._side.degree * gpus / times
        here, there = ("down", "up") if direction == "read" else ("up", "down")
        own = Channel(self._between(f"ssd rack {here}", rack), bytes_per_s)
        others = self._remote.get((direction, hosts.start))
        if others is None:
            racks = [host // self._hosts_per_rack for host in hosts]
            others = [Channel(self._between(f"ssd rack {there}", other), bytes_per_s) for other in racks]
            self._remote[direction, hosts.start] = others
        return own, others

    def _nics(self, kind: str, instance: int, latency_s: float) -> Channel:
        return Channel(self._between(kind, instance), self._side.nic_bytes_per_s, latency_s, self._jitter)

    def _between(self, kind: str, number: int) -> Port:
        """A port of the network."""
        return self._at(kind, number, queues=self._seen)

    def _at(self, kind: str, number: int, *, queues: bool = True) -> Port:
        port = self._port.get((kind, number))
        if port is None:
            port = self._port[kind, number] = Port(f"{kind} {number}", queues=queues)
            self.ports.setdefault(kind, []).append(port)
        return port
