"""The audit of a design: what its prompts share, and what a cache has to find of them, before any server runs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kvsim.errors import CapacityError, ConfigError, KvsimError
from kvsim.lab.kv.deployed import CacheFacts, of_design
from kvsim.lab.kv.expected import Expected, expected
from kvsim.lab.kv.families import pieces_of
from kvsim.lab.kv.phases import Phase, Repeat
from kvsim.lab.kv.points import Point, point_at, points_of
from kvsim.lab.kv.reading import NamedDesign
from kvsim.measure.prompts import Prompts
from kvsim.measure.settings import Sending
from kvsim.workload.request import Request


@dataclass(frozen=True, kw_only=True)
class PhaseAudit:
    """One phase of one repeat at one point, in tokens."""

    point: int
    at: Mapping[str, float]
    repeat: int
    phase: str
    order: int
    family: str
    caching: bool
    warm_up_requests: int
    prompts: int
    prompt_tokens: int
    block_size: int
    whole_blocks: int
    """Whole blocks of the prompts, shared ones counted each time."""
    duplicates: int
    """Prompts that an earlier one of the phase equals, token for token."""
    prefix_tokens: int
    """Tokens of each prompt before its suffix."""
    aligned_tokens: int
    """How many of them are in whole blocks."""
    prefixes: Mapping[str, int]
    """Sha256 of the token ids of each prefix, as a server is sent them: how many prompts begin with it."""
    expected_hit_tokens: int | None
    expected_hits: tuple[int | None, ...]
    """Request by request."""
    why_unknown: str
    """Why arithmetic does not know some of them."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What a design sends, whoever serves it."""

    design: str
    condition: str
    phases: tuple[PhaseAudit, ...]
    failures: Mapping[int, str]
    """Why a point's server would not start, by point."""

    def dump(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


CONDITION = (
    "expected hits are exact for vLLM's rule (whole blocks from the first on, never the last token of a prompt), where "
    "a request is sent after those it could hit have ended, and the KV cache holds everything that is sent"
)


def audit(asked: NamedDesign, repeat: int = 0) -> Audit:
    """The audit of one repeat at every point. Raises ``ConfigError`` for a server that is none, or prompts too long."""
    found: list[PhaseAudit] = []
    failures: dict[int, str] = {}
    for point in audited_points(asked):
        try:
            facts = facts_at(asked, point)
        except CapacityError as error:
            failures[point.number] = str(error)
            continue
        found += audit_repeat(point.repeat(repeat), facts)
    return Audit(design=asked.name, condition=CONDITION, phases=tuple(found), failures=failures)


def audited_points(asked: NamedDesign) -> list[Point]:
    """The points of a design; of a search the highest value, at which it begins."""
    search = asked.design.search
    return points_of(asked) if search is None else [point_at(asked, 0, {search.key: search.high})]


def facts_at(asked: NamedDesign, point: Point) -> CacheFacts:
    """Raises ``ConfigError``, which names the file, or ``CapacityError``: the server does not start."""
    try:
        facts = of_design(point.design, point.line).facts
    except CapacityError:
        raise
    except KvsimError as error:
        raise ConfigError(f"{asked.where}: {error}") from None
    check_lengths(point.repeat(0), facts, asked.where)
    return facts


def check_lengths(repeat: Repeat, facts: CacheFacts, where: str) -> None:
    """Raise ``ConfigError`` for requests that the server would refuse."""
    longest = max(int(phase.counted.prompt_tokens.max()) for phase in repeat.phases)
    answer, most = repeat.design.output_tokens, facts.max_model_len
    if most is not None and longest + answer > most:
        raise ConfigError(
            f"{where}: a prompt of {longest:,} tokens and an answer of {answer:,} are longer than the {most:,} tokens "
            f"that the server takes (max_model_len)"
        )


def expected_of(repeat: Repeat, facts: CacheFacts) -> dict[str, Expected]:
    """What is expected of each phase, by name."""
    found: dict[str, Expected] = {}
    for phases in repeat.engines:
        found |= {phase.name: each for phase, each in zip(phases, expected(phases, facts), strict=True)}
    return found


def audit_repeat(repeat: Repeat, facts: CacheFacts) -> list[PhaseAudit]:
    """The audit of each of its phases."""
    hits = expected_of(repeat, facts)
    tokens = _Ids(repeat)
    return [_audited(repeat, phase, facts, hits[phase.name], tokens) for phase in repeat.phases]


class _Ids:
    """Hashes of the token ids that a server is sent."""

    def __init__(self, repeat: Repeat) -> None:
        content = repeat.content
        self._prompts = Prompts(content, np.arange(*Sending().vocabulary, dtype=np.int64), repeat.content_seed)

    def sha256(self, request: Request) -> str:
        digest = hashlib.sha256()
        for part in self._prompts.parts(request):
            digest.update(part.ids.astype("<i8").tobytes())
        return digest.hexdigest()


def _audited(repeat: Repeat, phase: Phase, facts: CacheFacts, hits: Expected, tokens: _Ids) -> PhaseAudit:
    size, counted = facts.block_size, phase.counted
    heads = [_prefix(request) for request in counted]
    prefix_tokens = sum(length for _, length in heads[0].pieces)
    return PhaseAudit(
        point=repeat.point,
        at=repeat.at,
        repeat=repeat.repeat,
        phase=phase.name,
        order=phase.order,
        family=phase.family,
        caching=phase.caching,
        warm_up_requests=0 if phase.warm_up is None else len(phase.warm_up),
        prompts=len(counted),
        prompt_tokens=int(counted.prompt_tokens.sum()),
        block_size=size,
        whole_blocks=int((counted.prompt_tokens // size).sum()),
        duplicates=len(counted) - len(set(map(tokens.sha256, counted))),
        prefix_tokens=prefix_tokens,
        aligned_tokens=prefix_tokens // size * size,
        prefixes=dict(Counter(tokens.sha256(head) for head in heads)) if prefix_tokens else {},
        expected_hit_tokens=hits.total,
        expected_hits=hits.hits,
        why_unknown=hits.why,
    )


def _prefix(request: Request) -> Request:
    """What stands before the suffix."""
    pieces = pieces_of(*request.pieces[:-1])
    return request._replace(pieces=pieces, prompt_tokens=sum(tokens for _, tokens in pieces))
