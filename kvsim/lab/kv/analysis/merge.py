"""One run of chunks of repeats: the same bytes in whatever order chunks are named, and however repeats were split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvsim.config.yaml_source import named
from kvsim.errors import KvsimError
from kvsim.lab.kv.folder import DamagedRunError, read_run
from kvsim.lab.kv.trial import PhaseRow, RequestRow, Trials

REPEATS = "repeats"


class MergeError(KvsimError):
    """Chunks that are not of one run."""


@dataclass(frozen=True)
class Chunk:
    """Some repeats of a run, and where they were read."""

    folder: Path
    trials: Trials

    @property
    def repeats(self) -> list[int]:
        return sorted({row.repeat for row in self.trials.phases})

    def of(self, repeat: int) -> tuple[list[PhaseRow], list[RequestRow]]:
        """The rows of a repeat, in the order in which they are written."""
        phases = [row for row in self.trials.phases if row.repeat == repeat]
        requests = [row for row in self.trials.requests if row.repeat == repeat]
        return (
            sorted(phases, key=lambda row: (row.point, row.order)),
            sorted(requests, key=lambda row: (row.point, row.phase, row.request)),
        )


def read_chunks(folders: Sequence[Path], *, skip_damaged: bool) -> tuple[list[Chunk], list[DamagedRunError]]:
    """Chunks, and those left out. Raises ``DamagedRunError`` for a damaged one unless they are skipped, or all are."""
    found: list[Chunk] = []
    damaged: list[DamagedRunError] = []
    for folder in folders:
        try:
            found.append(Chunk(folder, read_run(folder)))
        except DamagedRunError as error:
            if not skip_damaged:
                raise
            damaged.append(error)
    if not found:
        raise damaged[0]
    return found, damaged


def merged(chunks: Sequence[Chunk]) -> Trials:
    """The union of the rows. Raises ``MergeError`` for chunks of different runs, and a repeat that is two things."""
    ordered = sorted(chunks, key=lambda chunk: (chunk.repeats, chunk.trials.notes, repr(chunk.trials.design)))
    first = ordered[0]
    for other in ordered[1:]:
        _check_alike(first, other)
    owner: dict[int, Chunk] = {}
    for chunk in ordered:
        for repeat in chunk.repeats:
            if repeat in owner and owner[repeat].of(repeat) != chunk.of(repeat):
                raise MergeError(
                    f"{named(owner[repeat].folder)} and {named(chunk.folder)}: repeat {repeat} has other rows in each; "
                    "one of both is wanted"
                )
            owner.setdefault(repeat, chunk)
    rows = [owner[repeat].of(repeat) for repeat in sorted(owner)]
    return Trials(
        name=first.trials.name,
        design=_design(ordered, max(owner, default=-1)),
        backend=first.trials.backend,
        phases=tuple(row for phases, _ in rows for row in phases),
        requests=tuple(row for _, requests in rows for row in requests),
        server=first.trials.server,
        notes=tuple(dict.fromkeys(note for chunk in ordered for note in chunk.trials.notes)),
    )


def missing(found: Trials) -> list[int]:
    """Repeats that the design asks for and no chunk has."""
    there = {row.repeat for row in found.phases}
    asked = found.design.get(REPEATS, 0)
    return [repeat for repeat in range(asked if isinstance(asked, int) else 0) if repeat not in there]


def _design(chunks: Sequence[Chunk], last: int) -> Mapping[str, object]:
    """The design with as many repeats as any chunk asks for, or has."""
    asked = [chunk.trials.design.get(REPEATS, 0) for chunk in chunks]
    most = max((each for each in asked if isinstance(each, int)), default=0)
    return {**chunks[0].trials.design, REPEATS: max(most, last + 1)}


def _check_alike(one: Chunk, other: Chunk) -> None:
    a, b = one.trials, other.trials
    both = f"{named(one.folder)} and {named(other.folder)}"
    for what, mine, theirs in (("design", a.name, b.name), ("backend", a.backend, b.backend)):
        if mine != theirs:
            raise MergeError(f"{both}: {what} '{mine}' and '{theirs}'; chunks of one run are wanted")
    for what, have, has in (("design", a.design, b.design), ("server", a.server, b.server)):
        key = first_difference(have, has, (REPEATS,))
        if key is not None:
            raise MergeError(
                f"{both}: {what}: {key} is {have.get(key)!r} and {has.get(key)!r}; chunks of one run are wanted"
            )


def first_difference(one: Mapping[str, object], other: Mapping[str, object], without: Sequence[str]) -> str | None:
    """The first key by name that is not alike in both; ``None``: all are."""
    keys = sorted((set(one) | set(other)) - set(without))
    return next((key for key in keys if one.get(key) != other.get(key)), None)
