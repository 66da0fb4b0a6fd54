"""Budgets of KV memory: by name or by size, in bytes of all GPUs of the server together, and in blocks."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from kvsim.errors import CapacityError, ConfigError, nearest
from kvsim.plan.plan import Plan
from kvsim.units import GB, GIB, MIB

BUDGETS = {
    "tight-1gb-kv": GB,
    "modest-2gb-kv": 2 * GB,
    "ample-4gb-kv": 4 * GB,
    "roomy-8gb-kv": 8 * GB,
}
"""Bytes by name."""
UNITS = {"b": 1, "mb": 10**6, "mib": MIB, "gb": GB, "gib": GIB}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)(b|mb|mib|gb|gib)", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """What KV may take."""

    name: str
    """As somebody gave it."""
    size_bytes: int


def budget_of(text: str, flag: str) -> Budget:
    """A named budget, or a number with its unit. Raises ``ConfigError``, which begins with the flag."""
    if text in BUDGETS:
        return Budget(text, BUDGETS[text])
    found = _SIZE.fullmatch(text)
    if found is None:
        advice = nearest(text, BUDGETS)
        raise ConfigError(
            f"{flag} is {text!r}; allowed: a number and its unit ({', '.join(UNITS)}), or a name; {advice}"
        )
    size_bytes = int(float(found[1]) * UNITS[found[2].lower()])
    if not size_bytes:
        raise ConfigError(f"{flag} is {text!r}; allowed: a byte or more")
    return Budget(text, size_bytes)


def budgets_of(text: str, flag: str) -> tuple[Budget, ...]:
    """Several, with commas between, the smallest first."""
    found = [budget_of(each.strip(), flag) for each in text.split(",")]
    sizes = [each.size_bytes for each in found]
    for place, size in enumerate(sizes):
        if size in sizes[:place]:
            raise ConfigError(f"{flag}: {found[place].name!r} and {found[sizes.index(size)].name!r} are as large")
    return tuple(sorted(found, key=lambda each: each.size_bytes))


def bytes_per_block(plan: Plan) -> float:
    """KV bytes of a block, over all GPUs of the server."""
    return plan.kv_bytes_per_token * plan.colocated_settings.block_size


def within(plan: Plan, budget: Budget, largest_blocks: int, largest: str) -> Plan:
    """The plan with as many blocks as the budget holds.

    ``largest_blocks``: of the request ``largest``, which must fit. Raises ``CapacityError`` where it does not, or where
    the budget is more than the server's GPUs have for KV.
    """
    size, own = bytes_per_block(plan), plan.colocated_settings.num_blocks
    blocks = int(budget.size_bytes / size)
    if blocks < largest_blocks:
        needed = math.ceil(largest_blocks * size)
        raise CapacityError(
            f"a KV budget of {budget.name} holds {blocks:,} blocks, and request '{largest}' takes {largest_blocks:,}; "
            f"the smallest budget that would do is {needed}b ({gb(needed)})"
        )
    if blocks > own:
        most = math.floor(own * size)
        raise CapacityError(
            f"a KV budget of {budget.name} is {blocks:,} blocks, and the server has {own:,}; the largest "
            f"budget is {most}b ({gb(most)})"
        )
    return plan.with_settings("colocated", num_blocks=blocks)


def gb(size_bytes: int) -> str:
    """In decimal gigabytes, for reading."""
    return f"{size_bytes / GB:.3g} GB"
