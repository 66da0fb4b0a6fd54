"""The phases of a repeat: which requests each sends, to which engine, in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kvsim.lab.kv.design import PHASES, Design
from kvsim.lab.kv.families import (
    UNIQUE,
    Chains,
    Family,
    Lengths,
    Pieces,
    find_family,
    lengths_of,
    prompts_in,
    workload_of,
)
from kvsim.workload.workload import Floats, Workload

LENGTHS, ARRIVALS, CONTENT = range(3)
"""What is drawn, each by a generator of its own."""
COLD = ("cold", "control_cold")
IN_PROCESS = "in_process"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Requests that are compared with those of other phases."""

    name: str
    order: int
    """Place among the phases of the repeat."""
    family: str
    caching: bool
    """Whether its engine has a prefix cache."""
    warm_up: Workload | None
    """What is sent before, one after the other, and does not count."""
    counted: Workload

    @property
    def in_process(self) -> bool:
        """Whether there is an engine without a server before it."""
        return self.name == IN_PROCESS

    @property
    def sent(self) -> tuple[Workload, ...]:
        """All that its engine gets, in that order."""
        return (self.counted,) if self.warm_up is None else (self.warm_up, self.counted)


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """One repeat at one point: all that a backend has to do."""

    design: Design
    """With the values of the point."""
    point: int
    at: Mapping[str, float]
    repeat: int
    line: str
    """The server's, with the flags of the point; nothing in it is of the prefix cache."""
    engines: tuple[tuple[Phase, ...], ...]
    """Phases by the engine that they meet, in their order."""
    content_seed: int
    """By which chains become token ids."""

    @property
    def phases(self) -> tuple[Phase, ...]:
        return tuple(phase for phases in self.engines for phase in phases)

    @property
    def content(self) -> Workload:
        """Everything that is sent, of which all token ids are made: no two chains of a repeat look alike."""
        prompts = [pieces for phase in self.phases for sent in phase.sent for pieces in prompts_in(sent)]
        return workload_of(prompts, 1, None, 1, "all phases of a repeat")


def repeat_of(design: Design, point: int, at: Mapping[str, float], repeat: int, line: str) -> Repeat:
    """A repeat, drawn from the design's seed and its number alone."""
    maker = _Maker(design, repeat)
    phases = tuple(maker.phase(name, order) for order, name in enumerate(names_of(design, repeat)))
    engines = (phases,) if design.isolation == "same_engine" else tuple((phase,) for phase in phases)
    seeds = np.random.SeedSequence([design.seed, repeat, CONTENT, point])
    return Repeat(
        design=design,
        point=point,
        at=at,
        repeat=repeat,
        line=line,
        engines=engines,
        content_seed=int(seeds.generate_state(1)[0]),
    )


def names_of(design: Design, repeat: int) -> tuple[str, ...]:
    """The phases of a repeat in the order in which they run: pairs stay together."""
    names = PHASES[design.compare]
    if design.order == "cold_first" or (design.order == "alternate" and repeat % 2 == 0):
        return names
    return tuple(name for start in range(0, len(names), 2) for name in reversed(names[start : start + 2]))


def arrivals_of(design: Design, repeat: int) -> Floats | None:
    """Times from the first request on, at random; ``None``: requests come as others end."""
    if design.rate_per_s is None:
        return None
    random = np.random.default_rng(np.random.SeedSequence([design.seed, repeat, ARRIVALS]))
    gaps_s = random.exponential(1.0, design.requests) / design.rate_per_s
    return np.asarray(np.cumsum(gaps_s) - gaps_s[0], dtype=np.float64)


class _Maker:
    """Makes the phases of one repeat."""

    def __init__(self, design: Design, repeat: int) -> None:
        own = find_family(design.family)
        seeds = (design.seed, repeat, LENGTHS)
        self._design, self._chains = design, Chains()
        self._lengths: Lengths = lengths_of(own, design.requests, design.prefix_tokens, design.suffix_tokens, seeds)
        self._arrival_s = arrivals_of(design, repeat)
        self._made: dict[str, list[Pieces]] = {}

    def phase(self, name: str, order: int) -> Phase:
        design = self._design
        cold = name in COLD
        family = design.control if name.startswith("control") and design.control is not None else design.family
        if cold and design.cold == "unique_prompts":
            family = UNIQUE
        prompts = self._prompts(family, name)
        warm = self._warm_up(find_family(family), prompts)
        limit = design.concurrency or 1
        return Phase(
            name=name,
            order=order,
            family=family,
            caching=not (cold and design.cold == "caching_off"),
            warm_up=None if warm is None else workload_of(warm, design.output_tokens, None, 1, f"warm-up of {name}"),
            counted=workload_of(prompts, design.output_tokens, self._arrival_s, limit, name),
        )

    def _prompts(self, family: str, name: str) -> list[Pieces]:
        """Phases with an engine each send the very same prompts, where they are of one family; on one engine none may
        find what another left."""
        key = name if self._design.isolation == "same_engine" else family
        if key not in self._made:
            self._made[key] = self._chains.prompts(find_family(family), self._lengths)
        return self._made[key]

    def _warm_up(self, family: Family, prompts: list[Pieces]) -> list[Pieces] | None:
        design = self._design
        if design.warm_up == "none":
            return None
        same = [prompts[place % len(prompts)] for place in range(design.warm_up_requests)]
        if design.warm_up == "same":
            return self._chains.behind(same) if family.sends_once else same
        suffix_tokens = tuple(self._lengths.suffix_tokens[place % len(prompts)] for place in range(len(same)))
        lengths = Lengths(prefix_tokens=self._lengths.prefix_tokens, suffix_tokens=suffix_tokens)
        return self._chains.prompts(find_family(UNIQUE), lengths)
