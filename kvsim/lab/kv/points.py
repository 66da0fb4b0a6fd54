"""The points of a design: a value of each name that is varied, and the server's line with it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from kvsim.lab.kv.design import Design
from kvsim.lab.kv.phases import Repeat, repeat_of
from kvsim.lab.kv.reading import OF_SERVER, NamedDesign, as_json, checked
from kvsim.units import GB

FLAGS = {
    "gpu_memory_utilization": "--gpu-memory-utilization",
    "kv_budget_gb": "--kv-cache-memory-bytes",
    "max_num_batched_tokens": "--max-num-batched-tokens",
    "max_num_seqs": "--max-num-seqs",
    "block_size": "--block-size",
}
assert tuple(FLAGS) == OF_SERVER


@dataclass(frozen=True, kw_only=True)
class Point:
    """One combination of values."""

    number: int
    at: Mapping[str, float]
    design: Design
    """With these values."""
    line: str
    """The server's with their flags, which come last and so win."""

    def repeat(self, repeat: int) -> Repeat:
        """What a repeat does here."""
        return repeat_of(self.design, self.number, self.at, repeat, self.line)


def points_of(asked: NamedDesign) -> list[Point]:
    """All combinations, the first name varied slowest; one point where nothing is varied."""
    vary = asked.design.vary
    combined = itertools.product(*vary.values())
    return [point_at(asked, number, dict(zip(vary, values, strict=True))) for number, values in enumerate(combined)]


def point_at(asked: NamedDesign, number: int, at: Mapping[str, float]) -> Point:
    """A point. Raises ``ConfigError`` for values with which there is no design."""
    fields = {name: value for name, value in at.items() if name not in FLAGS}
    design = checked(as_json(asked.design) | {"vary": {}} | fields, asked.where) if at else asked.design
    return Point(number=number, at=dict(at), design=design, line=line_at(design.server, at))


def line_at(line: str, at: Mapping[str, float]) -> str:
    """The server's line with the flags of these values."""
    words = [f"{FLAGS[name]} {_word(name, value)}" for name, value in at.items() if name in FLAGS]
    return " ".join((" ".join(line.split()), *words))


def _word(name: str, value: float) -> str:
    return str(round(value * GB)) if name == "kv_budget_gb" else f"{value:.12g}"
