"""A case as somebody asks for it: a report, a configuration, or a command's words, made into what a mode runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kvsim.config import Config
from kvsim.config.comparison import SECTIONS
from kvsim.errors import ConfigError, nearest
from kvsim.modes.experiment import ExperimentSpec, Variant
from kvsim.workload.info import WorkloadInfo

WARM = "warm_caches"
"""A key of ``load`` that says how a system begins, where the others say what it is asked for."""


@dataclass(frozen=True)
class AskedCase:
    """One side of a difference, or what is to be explained."""

    label: str
    """How it was named: a file, or words."""
    spec: ExperimentSpec
    reported_ttft_ms: Mapping[str, float | None] = field(default_factory=dict)
    """By system: the mean that its report has; empty where it is no report."""
    sha256: str | None = None
    """What its report says that the trace is; ``None``: nothing."""

    @property
    def config(self) -> Config:
        """What decides its requests."""
        return self.spec.variants[0].config

    @property
    def names(self) -> list[str]:
        return [variant.name for variant in self.spec.variants]

    def only(self, names: list[str]) -> AskedCase:
        """The case with these of its systems, in their order here."""
        found = {variant.name: variant for variant in self.spec.variants}
        for name in names:
            if name not in found:
                raise ConfigError(f"{self.label}: no system '{name}'; {nearest(name, list(found))}")
        return replace(self, spec=replace(self.spec, variants=[found[name] for name in names]))

    def serving(self, other: AskedCase, rate_per_s: float | None) -> AskedCase:
        """The case with the requests of ``other``, at that rate, and judged as that one; ``None``: as they come there.

        What serves them is its own: the sections that ``--compare`` takes, and whether caches begin warm.
        """
        own, theirs = self.spec, other.spec
        variants = [replace(variant, config=_on(other.config, variant.config)) for variant in own.variants]
        spec = replace(own, variants=_alike(variants), trace=theirs.trace, replicas=theirs.replicas)
        if rate_per_s is None:
            spec = replace(spec, rate_per_s=theirs.rate_per_s, load=theirs.load, load_of=theirs.load_of)
        else:
            spec = replace(spec, rate_per_s=rate_per_s, load=None, load_of=None, replicas=None)
        return replace(self, spec=spec)

    def check_trace(self, info: WorkloadInfo) -> None:
        """Raise ``ConfigError`` where the trace that was read is another than the report is of."""
        if self.sha256 is not None and info.sha256 is not None and info.sha256 != self.sha256:
            raise ConfigError(
                f"{self.label}: trace {info.source!r} has sha256 {info.sha256[:12]}..., the report is of one with "
                f"{self.sha256[:12]}..."
            )


def _alike(made: list[Variant]) -> list[Variant]:
    """One configuration where it was one before: variants of the first's are one plan, tuned once."""
    first = made[0].config
    return [replace(each, config=first) if each.config == first else each for each in made]


def _on(requests: Config, serves: Config) -> Config:
    """``serves`` with all that says what is served, and what is good, as ``requests`` has it."""
    sections = {name: getattr(serves, name) for name in SECTIONS}
    load = requests.load.model_copy(update={WARM: getattr(serves.load, WARM)})
    return requests.model_copy(update=sections | {"load": load})


def pairs(a: AskedCase, b: AskedCase, asked: list[str] | None) -> tuple[AskedCase, AskedCase]:
    """``a`` and ``b`` with the systems that are compared with each other, in one order.

    ``asked`` by name; else the only ones where each side has one, whatever they are called, all that both have with
    ``--pd``, the first of them in other modes. Raises ``ConfigError`` for different modes, and for nothing in common.
    """
    modes = a.spec.mode.name, b.spec.mode.name
    if modes[0] != modes[1]:
        raise ConfigError(f"{a.label} is of mode {modes[0]}, {b.label} of mode {modes[1]}; one mode is wanted")
    if asked is not None:
        return a.only(asked), b.only(asked)
    if len(a.names) == len(b.names) == 1:
        return a, b
    common = [name for name in a.names if name in b.names]
    if not common:
        has = f"{a.label} has {', '.join(a.names)}, {b.label} has {', '.join(b.names)}"
        raise ConfigError(f"{has}: no system is in both; --systems names one of a side that has several")
    common = common if a.spec.mode.is_pd else common[:1]
    return a.only(common), b.only(common)
