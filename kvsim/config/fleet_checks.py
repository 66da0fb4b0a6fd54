"""What must hold between the keys of one entry of ``fleet.events``."""

from __future__ import annotations

from collections.abc import Iterator

from kvsim.config.fleet_keys import FleetEvent
from kvsim.config.layer import Origins
from kvsim.config.schema import Config

_FACTORS = {"slow": "factor", "nic": "share", "uplink": "share"}
"""What a kind cannot do without."""
_DRAINS = ("drain", "rolling_restart")
_AREAS = ("uplink", "pool", "drive")
"""Kinds that are about no instance."""
_INSTANCES = ("fail", "hang", "slow", "nic", "drain")
"""Kinds that are about some instances, and hardly ever about all."""


def events(config: Config, origins: Origins, mode: object) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Entries that say too little, or what their kind has no use for."""
    for place, event in enumerate(config.fleet.events):
        for sentence in _wrong(event):
            yield f"fleet.events[{place}]: {event.kind}: {sentence}", ("fleet.events",)


def _wrong(event: FleetEvent) -> Iterator[str]:
    if (event.at_s is None) == (event.mtbf_h is None):
        yield "give either at_s, when it happens, or mtbf_h, after how many hours on average"
    if event.duration_s is not None and event.mttr_s is not None:
        yield "give duration_s or mttr_s, not both"
    for kind, key in _FACTORS.items():
        if event.kind == kind and getattr(event, key) is None:
            yield f"give {key}"
    for key in ("factor", "share"):
        if getattr(event, key) is not None and _FACTORS.get(event.kind) != key:
            yield f"{key} has no meaning; {_who_has(key)} have it"
    if event.grace_s is not None and event.kind not in _DRAINS:
        yield "grace_s has no meaning; drain and rolling_restart have it"
    if event.at_once is not None and event.kind != "rolling_restart":
        yield "at_once has no meaning; rolling_restart has it"
    if event.kind == "rolling_restart" and event.mtbf_h is not None:
        yield "give at_s: it does not happen at random"
    if event.kind == "rolling_restart" and event.duration_s is None and event.mttr_s is None:
        yield "give duration_s or mttr_s: how long an instance takes to restart"
    if event.kind == "hang" and event.duration_s is None and event.mttr_s is None:
        yield "give duration_s or mttr_s: an instance that hangs for ever is one that fails"
    if event.kind in _AREAS and (event.instance is not None or event.role is not None):
        yield "is about racks or hosts: give rack or host, or neither for all of them"
    whom = event.instance, event.rack, event.host, event.role
    if event.at_s is not None and event.kind in _INSTANCES and whom == (None,) * 4:
        yield "give whom it is about: instance (and role), rack, host or role"


def _who_has(key: str) -> str:
    return " and ".join(kind for kind, own in _FACTORS.items() if own == key)
