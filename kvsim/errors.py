"""The exceptions a user can meet. Each message is one line: what, where, what is allowed, the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KvsimError(Exception):
    """Base of every error kvsim raises on purpose; the command line answers it with one line and exit code 2."""


class ConfigError(KvsimError):
    """A configuration value, overlay, preset or ``--set`` that cannot be used."""


class EventError(ConfigError):
    """An entry of ``fleet.events`` that a system cannot have."""


class AbsentError(EventError):
    """Entries of ``fleet.events`` that concern no part of a system: by number, how each was written, and why none."""

    def __init__(self, absent: dict[int, tuple[str, str]]) -> None:
        said, why = absent[min(absent)]
        super().__init__(f"fleet.events: {said}: {why}")
        self.absent = absent

    def __reduce__(self) -> tuple[type[AbsentError], tuple[dict[int, tuple[str, str]]]]:
        return AbsentError, (self.absent,)


class WorkloadError(KvsimError):
    """A trace that cannot be read, or a row of it that makes no sense."""


class CapacityError(KvsimError):
    """A model that does not fit its instance, or a request that could never be served."""


SHORTEST_BEGINNING, MOST_NAMED = 3, 3
"""Letters that say what somebody began to write, and names that are given to choose from."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The clause that helps after an unknown ``name``: those of ``known`` that go on from it, if they are few; else the
    nearest, or all of them."""
    names = sorted(set(known))
    longer = [each for each in names if each.startswith(name)] if len(name) >= SHORTEST_BEGINNING else []
    if not 0 < len(longer) <= MOST_NAMED:
        longer = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    quoted = " or ".join(f"'{each}'" for each in longer)
    return f"did you mean {quoted}?" if longer else f"known: {', '.join(names)}"
