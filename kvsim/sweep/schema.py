"""What stands in a sweep's file: types and ranges."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from kvsim.config.section import Count, Section, Whole

Sampling = Literal["grid", "random", "lhs"]


class Range(Section):
    """Values between two numbers, both included; ``log``: evenly by their logarithm; ``integer``: whole numbers."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low = {self.low:g} must be below high = {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low = {self.low:g} must be above 0 with log: true")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("low and high must be whole numbers with integer: true")
        return self


class SweepFile(Section):
    """The file, but for what is said of a run: those arguments stand beside these keys."""

    keys: dict[str, Any]
    """By dotted key of the configuration, or by argument: a list of values, or a :class:`Range`."""
    sets: dict[str, Any] = Field(default={}, alias="set")
    """Keys of the configuration that are the same in every run, dotted or nested."""
    sampling: Sampling = "grid"
    samples: Count | None = None
    """Points of a random or Latin hypercube design."""
    replications: Count = 1
    seed: Whole | None = None
    """Everything that is drawn follows from it; ``None``: that of config.yaml."""
