"""Memory below the GPUs, from the nearest tier to the farthest: what each kind is, for whoever needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TierName = Literal["dram", "eic", "ssd"]


@dataclass(frozen=True, slots=True)
class TierKind:
    """One kind of tier."""

    name: TierName
    over_nics: Literal["never", "always", "other_hosts"]
    """Whether instances reach it over their NICs: a host's own memory never, a pool always, drives where they are
    another host's."""
    is_volatile: bool
    """Whether a restart empties it."""
    capacity_key: str
    """The setting that says how much it holds."""


DRAM = TierKind("dram", "never", is_volatile=True, capacity_key="hardware.dram.capacity_gb")
"""A host's own memory."""
EIC = TierKind("eic", "always", is_volatile=True, capacity_key="cluster.eic.capacity_per_node_gb")
"""A rack's pool of memory, which all of its instances share."""
SSD = TierKind("ssd", "other_hosts", is_volatile=False, capacity_key="hardware.ssd.capacity_gb")
"""Drives: a host's own, or those of all hosts of a rack or of the cluster."""

TIERS = (DRAM, EIC, SSD)
TIER_NAMES: tuple[TierName, ...] = tuple(kind.name for kind in TIERS)
