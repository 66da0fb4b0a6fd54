"""What must hold between the keys of ``autoscale``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from kvsim.config.autoscale_keys import Autoscale
from kvsim.config.layer import Origins
from kvsim.config.schema import Config

_SCHEDULED = "scheduled"


def scaling(config: Config, _origins: Origins, _mode: object) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Bounds in their order, and a schedule where somebody goes by it."""
    keys = config.autoscale
    if not keys.is_on:
        return
    yield from _bounds("autoscale", keys.min_instances, keys.initial_instances, keys.max_instances)
    for place, entry in enumerate(keys.roles):
        lowest = entry.min_instances or keys.min_instances
        highest = entry.max_instances or keys.max_instances
        initial = entry.initial_instances or keys.initial_instances
        yield from _bounds(f"autoscale.roles[{place}]", lowest, initial, highest)
        if (entry.policy or keys.policy) == _SCHEDULED and not _has_schedule(keys, entry.role):
            yield _lacking(f"autoscale.roles[{place}]: ", f" of role {entry.role}")
    if keys.policy == _SCHEDULED and not keys.schedule:
        yield _lacking("", "")


def _bounds(where: str, least: int, initial: int | None, most: int | None) -> Iterator[tuple[str, tuple[str, ...]]]:
    keys = tuple(f"autoscale.{name}_instances" for name in ("min", "initial", "max"))
    named = {"min_instances": least, "initial_instances": initial, "max_instances": most}
    given = [(name, count) for name, count in named.items() if count is not None]
    for (low_name, low), (high_name, high) in itertools.pairwise(given):
        if low > high:
            yield f"{where}: {low_name} = {low} is above {high_name} = {high}", ("autoscale.roles", *keys)


def _has_schedule(keys: Autoscale, role: str) -> bool:
    return any(entry.role in (None, role) for entry in keys.schedule)


def _lacking(where: str, whose: str) -> tuple[str, tuple[str, ...]]:
    entry = "{at_s: 28800, instances: 12}"
    return f"{where}policy = scheduled needs an entry of autoscale.schedule{whose}, e.g. {entry}", ("autoscale.policy",)
