"""What one of the runs that make up a run has to know of the whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvsim.pickling import by_fields
from kvsim.sim.engine.block_table import Path


@dataclass(frozen=True)
class RunPart:
    """A run of a part of the instances and of the requests, beside others of the rest."""

    marks_s: tuple[float, ...] | None
    """Times of the arrivals, of the whole run, that are marked; ``None``: not known before, it marks its own."""
    heads: tuple[Path, ...] | None
    """Prompt heads that are common over the whole run, the most frequent first; ``None``: those of the part."""
    stop_s: float | None
    """When the whole run ends; ``None``: with its last answer."""

    def __reduce__(self) -> tuple[Any, ...]:
        return by_fields(self)


WHOLE = RunPart(None, None, None)
"""A run that is no part of another."""
