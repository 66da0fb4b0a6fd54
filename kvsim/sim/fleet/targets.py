"""The parts of a cluster that something can happen to, and which of them an event is about."""

from __future__ import annotations

from collections.abc import Sequence

from kvsim.config.fleet_keys import FleetEvent
from kvsim.errors import AbsentError, EventError
from kvsim.plan.plan import Place
from kvsim.sim.fleet.units import Unit
from kvsim.sim.network.network import Network
from kvsim.sim.tiers.hierarchy import TierHierarchy
from kvsim.spec.tier_kinds import DRAM, EIC, SSD

TierId = tuple[str, int]
"""A kind of tier, and the host, rack or instance that it is of."""
_ENGINES = ("fail", "hang", "slow", "drain", "rolling_restart", "nic")
"""Kinds that are about instances."""


class Part:
    """What one event happens to at a time: units, links, tiers."""

    __slots__ = ("links", "name", "tiers", "units")

    def __init__(self, name: str, units: list[Unit], links: list[int], tiers: list[TierId]) -> None:
        self.name, self.units, self.links, self.tiers = name, units, links, tiers


class Targets:
    """A system's parts, by what ``fleet.events`` call them."""

    def __init__(
        self,
        units: Sequence[Unit],
        places: Sequence[Place],
        network: Network | None,
        nodes: Sequence[int],
        hierarchy: TierHierarchy | None,
        dram_scope: str,
        ssd_scope: str,
    ) -> None:
        """``places`` and ``nodes``: of each unit's first engine, where it stands and its number in ``network``."""
        self._units, self._places, self._nodes = list(units), list(places), list(nodes)
        self.network, self._hierarchy = network, hierarchy
        self._dram_scope, self._ssd_scope = dram_scope, ssd_scope
        self._shares: dict[int, list[float]] = {}
        """By link: what is left of its bandwidth, by each event that goes on."""
        self._off: dict[TierId, int] = {}
        """How many events that go on have taken a tier away."""

    def of_all(self, events: Sequence[FleetEvent]) -> list[list[Part]]:
        """The parts that each event is about; what happens once happens to all of them, what happens at random to one
        at a time. Raises ``AbsentError`` for events without any.
        """
        found = [self._engines_of(each) if each.kind in _ENGINES else self._racks_of(each) for each in events]
        absent = {n: (_said(events[n]), self._lacking(events[n])) for n, parts in enumerate(found) if not parts}
        if absent:
            raise AbsentError(absent)
        return found

    def name(self, event: FleetEvent, parts: list[Part]) -> str:
        """What a report calls them."""
        if event.rack is not None:
            return f"rack {event.rack}"
        if event.host is not None:
            return f"host {event.host}"
        if len(parts) == 1:
            return parts[0].name
        if event.kind in _ENGINES:
            return f"{len(parts)} {event.role or 'instances'}"
        return f"drives of {len(parts)} {self._ssd_scope}s" if event.kind == "drive" else f"{len(parts)} racks"

    def limit(self, link: int, share: float, begins: bool) -> None:
        """Let an event that leaves ``share`` of a link's bandwidth begin, or end; the least share counts."""
        network, shares = self.network, self._shares.setdefault(link, [])
        assert network is not None
        if begins:
            shares.append(share)
        else:
            shares.remove(share)
        nominal_bytes_per_s = network.topology.capacity_bytes_per_s[link]
        network.limit(link, nominal_bytes_per_s * min([1.0, *shares]))

    def is_lost(self, tier: TierId) -> bool:
        """Whether an event that goes on has taken a tier away."""
        return self._off.get(tier, 0) > 0

    def lose(self, tier: TierId) -> bool:
        """Take a tier away, and what it has; ``False``: there is none."""
        if self._hierarchy is None or not self._hierarchy.lose(*tier):
            return False
        self._off[tier] = self._off.get(tier, 0) + 1
        return True

    def bring_back(self, tier: TierId) -> None:
        """An event that had taken a tier away is over."""
        assert self._hierarchy is not None
        self._off[tier] -= 1
        if not self._off[tier]:
            self._hierarchy.back(*tier)

    def _engines_of(self, event: FleetEvent) -> list[Part]:
        found, is_area = [], event.rack is not None or event.host is not None
        for unit, place, node in zip(self._units, self._places, self._nodes, strict=True):
            numbers = [engine.instance for engine in unit.engines]
            if (
                event.role not in (None, unit.role)
                or (event.instance is not None and event.instance not in numbers)
                or event.rack not in (None, place.rack)
                or event.host not in (None, place.host)
            ):
                continue
            links = self._nics_of(node, len(numbers)) if event.kind == "nic" else []
            if event.kind == "nic" and not links:
                continue
            found.append(Part(unit.name, [unit], links, self._memory_of(event, unit, place)))
        if is_area and found:
            return [_together(found)]
        if event.instance is not None and len(found) > 1:
            raise EventError(f"fleet.events: {_said(event)}: instance {event.instance} of which role? Give role")
        return found

    def _nics_of(self, node: int, engines: int) -> list[int]:
        if self.network is None:
            return []
        topology = self.network.topology
        outs, ins = topology.links("nic_out"), topology.links("nic_in")
        return [links[node + place] for links in (outs, ins) for place in range(engines)]

    def _memory_of(self, event: FleetEvent, unit: Unit, place: Place) -> list[TierId]:
        """Tiers in memory that are gone with a unit: its own, and where its host or rack fails, theirs."""
        if event.kind != "fail" or unit.role == "decode":
            return []
        found: list[TierId] = []
        if self._dram_scope == "instance":
            found = [(DRAM.name, engine.instance) for engine in unit.engines]
        elif event.host is not None or event.rack is not None:
            found = [(DRAM.name, place.host)]
        return [*found, (EIC.name, place.rack)] if event.rack is not None else found

    def _racks_of(self, event: FleetEvent) -> list[Part]:
        """Uplinks and pools of racks, drives of hosts or of whatever shares them."""
        found: dict[str, Part] = {}
        for place in self._places:
            if event.rack not in (None, place.rack) or event.host not in (None, place.host):
                continue
            links: list[int] = []
            tiers: list[TierId] = []
            if event.kind == "drive":
                group = {"host": place.host, "rack": place.rack, "cluster": 0}[self._ssd_scope]
                name, tiers = f"drives of {self._ssd_scope} {group}", [(SSD.name, group)]
            elif event.kind == "pool":
                name, tiers = f"rack {place.rack}", [(EIC.name, place.rack)]
            else:
                name, links = f"rack {place.rack}", self._uplinks_of(place.rack)
                if not links:
                    continue
            found.setdefault(name, Part(name, [], links, tiers))
        return [part for part in found.values() if part.links or self._has(part.tiers)]

    def _uplinks_of(self, rack: int) -> list[int]:
        if self.network is None:
            return []
        ups, downs = self.network.topology.links("rack_up"), self.network.topology.links("rack_down")
        return [links[rack] for links in (ups, downs) if len(links) > rack]

    def _has(self, tiers: list[TierId]) -> bool:
        return self._hierarchy is not None and any(self._hierarchy.has(*tier) for tier in tiers)

    def _lacking(self, event: FleetEvent) -> str:
        kinds = {
            "nic": "KV moves over NICs between prefill and decode instances alone; this system has none",
            "uplink": "there is no such uplink: racks have one where cluster.network.rack_oversubscription is above 1",
            "pool": f"there is no such pool; this system's tiers are {self._tier_names()}",
            "drive": f"there are no such drives; this system's tiers are {self._tier_names()}",
        }
        if event.kind in kinds and not (event.kind == "nic" and self.network is not None):
            return kinds[event.kind]
        roles: dict[str, list[int]] = {}
        for unit in self._units:
            roles.setdefault(unit.role, []).extend(engine.instance for engine in unit.engines)
        there = ", ".join(f"{role} 0 to {max(numbers)}" for role, numbers in roles.items())
        racks, hosts = max(place.rack for place in self._places), max(place.host for place in self._places)
        return f"there is no such instance; there are {there}, racks 0 to {racks} and hosts 0 to {hosts}"

    def _tier_names(self) -> str:
        return "none" if self._hierarchy is None else ", ".join(self._hierarchy.names)


def _together(parts: list[Part]) -> Part:
    """What stands in one rack or host, as one part."""
    links = [link for part in parts for link in part.links]
    tiers = dict.fromkeys([tier for part in parts for tier in part.tiers])
    return Part(parts[0].name, [unit for part in parts for unit in part.units], links, list(tiers))


def _said(event: FleetEvent) -> str:
    """An event as it was written."""
    given = event.model_dump(exclude_none=True)
    return "{" + ", ".join(f"{name}: {value}" for name, value in given.items()) + "}"
