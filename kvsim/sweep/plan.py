"""The runs of a sweep: numbered, each with its values and its seed, all known before any begins."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kvsim.errors import ConfigError
from kvsim.record.labels import counted
from kvsim.sweep.schema import Range
from kvsim.sweep.sweep import Sweep, Values, hash_of

_REPLICATIONS, _POINTS = 0, 1
"""What is drawn from a sweep's seed."""
_DIGITS = 6
"""Significant digits of a number drawn from a range: as many are the same on every machine."""
_ID = 16


@dataclass(frozen=True)
class Run:
    """One row of the table."""

    number: int
    """From 0 on: point by point, and of a point replication by replication."""
    point: int
    replication: int
    seed: int
    values: Mapping[str, Any]
    """What differs from point to point."""
    id: str
    """Hash of all that is run; the row is a function of it."""


class Plan:
    """All runs, in their order. Raises ``ConfigError`` where there are more than ``max_runs``."""

    def __init__(self, sweep: Sweep, max_runs: int | None = None) -> None:
        self.sweep = sweep
        if max_runs is not None and self._asked() * sweep.replications > max_runs:
            asked = f"{counted(self._asked(), 'point')} x {counted(sweep.replications, 'replication')}"
            raise ConfigError(
                f"{asked} are {self._asked() * sweep.replications:,} runs; allowed: {max_runs:,}, or as --max-runs says"
            )
        self._fixed = {name: sweep.hashed(name, value) for name, value in sweep.fixed.items()}
        self._seeds = [seed_of(sweep.seed, each) for each in range(sweep.replications)]

    def __len__(self) -> int:
        return self.num_points * self.sweep.replications

    @property
    def num_points(self) -> int:
        return self._asked() if self._sampled is None else len(self._sampled)

    def runs(self) -> Iterator[Run]:
        """Every run, in the order of their numbers."""
        for number in range(len(self)):
            yield self.run(number)

    def run(self, number: int) -> Run:
        """The run of that number."""
        point, replication = divmod(number, self.sweep.replications)
        values, seed = self._point(point), self._seeds[replication]
        hashed = {key: self.sweep.hashed(key, value) for key, value in values.items()}
        made_of = {"fixed": self._fixed, "set": dict(self.sweep.sets), "values": hashed, "seed": seed}
        return Run(number, point, replication, seed, values, hash_of(made_of)[:_ID])

    def _asked(self) -> int:
        """Points as the file has them, those that are drawn twice too."""
        if self.sweep.samples is not None:
            return self.sweep.samples
        return math.prod(len(values) for values in self.sweep.keys.values() if not isinstance(values, Range))

    def _point(self, number: int) -> dict[str, Any]:
        if self._sampled is not None:
            return self._sampled[number]
        chosen = {}
        for key, values in reversed(list(self.sweep.keys.items())):
            assert not isinstance(values, Range)
            number, at = divmod(number, len(values))
            chosen[key] = values[at]
        return {key: chosen[key] for key in self.sweep.keys}

    @cached_property
    def _sampled(self) -> list[dict[str, Any]] | None:
        """Different points that were drawn; ``None``: they are a grid."""
        sweep = self.sweep
        if sweep.samples is None:
            return None
        shares = _shares(sweep, sweep.samples)
        drawn = [
            {key: _value(values, share) for (key, values), share in zip(sweep.keys.items(), row, strict=True)}
            for row in shares.tolist()
        ]
        return list({hash_of(point): point for point in drawn}.values())


def seed_of(seed: int, replication: int) -> int:
    """The seed of a replication, at every point alike; below 2**53, as JSON has numbers."""
    drawn = np.random.SeedSequence(seed, spawn_key=(_REPLICATIONS, replication)).generate_state(1, np.uint64)
    return int(drawn[0] >> np.uint64(11))


def _shares(sweep: Sweep, samples: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Where each sample lies, between 0 and 1 on each axis."""
    generator = np.random.default_rng(np.random.SeedSequence(sweep.seed, spawn_key=(_POINTS,)))
    if sweep.sampling == "random":
        return generator.random((samples, len(sweep.keys)))
    from scipy.stats import qmc

    # Called ``seed`` before SciPy 1.15.
    name = "rng" if "rng" in inspect.signature(qmc.LatinHypercube).parameters else "seed"
    sampler = qmc.LatinHypercube(len(sweep.keys), **{name: generator})
    return np.asarray(sampler.random(samples), np.float64)


def _value(values: Values, share: float) -> Any:
    if not isinstance(values, Range):
        return values[int(share * len(values))]
    low, high = values.low, values.high + (1.0 if values.integer else 0.0)
    at = low * (high / low) ** share if values.log else low + share * (high - low)
    if values.integer:
        return min(math.floor(at), int(values.high))
    return min(max(float(f"{at:.{_DIGITS}g}"), low), high)
