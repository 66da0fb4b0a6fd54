"""What the site shows of a file: entries, which are the index's rows, and a page of blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kvsim._version import __version__
from kvsim.errors import KvsimError
from kvsim.experiments.files import flat
from kvsim.record.labels import number

Tree = Mapping[str, Any]
Block = dict[str, Any]
"""A part of a page, as ``assets/pages.js`` draws it: ``kind``, ``title``, and what that kind has."""


class NoArtefactError(KvsimError):
    """A file that is none of kvsim's artefacts."""


class OtherVersionError(NoArtefactError):
    """One that another version wrote."""


class DamagedError(NoArtefactError):
    """One that lacks what its kind always has."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the index sorts by; ``None``: the artefact does not say."""

    requests: int | None = None
    requests_per_s: float | None = None
    output_tokens_per_s: float | None = None
    ttft_mean_ms: float | None = None
    ttft_p99_ms: float | None = None
    tpot_mean_ms: float | None = None
    e2e_mean_ms: float | None = None
    hit_rate: float | None = None
    """Share of prompt tokens."""
    off_pct: float | None = None
    """How far the predicted mean TTFT, else E2E, is off what was measured."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of the index: one system, one point, one load of an artefact."""

    name: str
    figures: Figures
    kind: str = ""
    """Empty: that of its artefact."""
    model: str = ""
    gpu: str = ""
    workload: str = ""
    system: str = ""
    cache: str = ""
    """The prefix cache's mode, with its policy and tiers."""
    order: str = ""
    """Which phase came first, of a paired design."""
    backend: str = "simulated"
    more: tuple[tuple[str, str, float | None], ...] = ()
    """Further figures for comparisons: label, unit, value."""
    parts: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    """``mean`` and ``p99`` TTFT in milliseconds by part."""
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    """By latency: percent of requests and milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A file, or the files of a sweep, as the site shows it."""

    path: Path
    digest: str
    """Sha256 of the content, shortened: the address on the site."""
    kind: str
    title: str
    entries: tuple[Entry, ...]
    lead: str = ""
    """The conclusion."""
    facts: tuple[tuple[str, str], ...] = ()
    blocks: tuple[Block, ...] = ()
    config: Mapping[str, str] = field(default_factory=dict)
    """By dotted key."""
    sides: tuple[tuple[str, str], ...] = ()
    """File and system of each side, where it is a difference."""
    picture: Path | None = None
    """A PNG that was written beside it."""


def ensure_version(found: object) -> None:
    """Raise ``OtherVersionError`` unless this version wrote it."""
    if found != __version__:
        raise OtherVersionError(f"written by kvsim {found}, this is {__version__}")


def flat_config(config: Tree) -> dict[str, str]:
    """Every key, dotted, and its value as text."""
    return {key: "" if value is None else str(value) for key, value in flat(config)}


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Block:
    """A table of texts, the first column its rows' names."""
    return {"kind": "table", "title": title, "head": list(head), "rows": [list(row) for row in rows]}


def listed_block(title: str, lines: Sequence[str]) -> Block:
    """Sentences."""
    return {"kind": "list", "title": title, "lines": list(lines)}


def plus_minus(mean: float | None, half_width: float | None) -> str:
    """A mean with its interval; without one where there is a single run."""
    if mean is None or half_width is None:
        return number(mean)
    return f"{number(mean)} ± {number(half_width)}"


def cache_of(config: Tree, tiers: Iterable[str] = ()) -> str:
    """The prefix cache of a configuration, and the tiers below it, in a few words: ``off``, ``on, dram+ssd``."""
    below = "+".join(tiers)
    return ("on" if config["engine"]["enable_prefix_caching"] else "off") + (f", {below}" if below else "")
