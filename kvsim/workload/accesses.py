"""A trace as questions for blocks: one access per hash id, in the order of the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from kvsim.errors import WorkloadError
from kvsim.workload.lint import lint_raw, raise_first_error
from kvsim.workload.rawtrace import read_raw, timed
from kvsim.workload.reading import AS_IT_STANDS, Reading
from kvsim.workload.workload import Ints, Workload


@dataclass(frozen=True, eq=False)
class Accesses:
    """The blocks that prompts ask for: prompt ``i`` asks for ``keys[offsets[i]:offsets[i + 1]]``, in that order."""

    keys: list[int]
    """Small whole numbers >= 0, one per different hash id."""
    offsets: list[int]
    time_s: list[float]
    """Time of each prompt since the first, seconds."""
    session_id: list[int]
    """Session of each prompt; -1: unknown."""
    turn: list[int]
    """How many earlier prompts of the file are of the same session; 0 where that is unknown."""

    def prompts(self) -> Iterator[tuple[int, int, float, int, int]]:
        """``start, stop, time_s, session_id, turn`` of each prompt."""
        prompts = zip(pairwise(self.offsets), self.time_s, self.session_id, self.turn, strict=True)
        for (start, stop), time_s, session_id, turn in prompts:
            yield start, stop, time_s, session_id, turn

    @property
    def num_different(self) -> int:
        """Blocks that a cache which forgets nothing ends with."""
        return len(set(self.keys))


def read_accesses(path: str | Path, reading: Reading = AS_IT_STANDS) -> Accesses:
    """Every hash id of every row, partial blocks, failed rows and ids behind the prompt included.

    Raises ``WorkloadError`` for what cannot be read and for a trace without hash ids.
    """
    file, raw = read_raw(path, reading, keeps_failed=True)
    if reading.strict:
        raise_first_error(file.path, tuple(lint_raw(raw)))
    raw = timed(raw, reading)
    if raw.paths is None:
        no_ids = f"no hash ids in any row ({raw.format}); nothing says which blocks prompts share"
        raise WorkloadError(f"{file.path}: {no_ids}")
    return Accesses(
        keys=raw.paths.ids.tolist(),
        offsets=raw.paths.offsets.tolist(),
        time_s=raw.time_s.tolist(),
        session_id=raw.session.tolist(),
        turn=_turns(raw.session).tolist(),
    )


def accesses_of(workload: Workload, block_tokens: int) -> Accesses:
    """The whole blocks of ``block_tokens`` that each prompt of ``workload`` asks for, in order of arrival.

    A block is what it ends with: the chain of its last token, and its place in the prompt.
    """
    numbers: dict[tuple[int, int], int] = {}
    keys, offsets = [], [0]
    for request in workload:
        reached, block = 0, 0
        for chain, tokens in request.pieces:
            reached += tokens
            while (block + 1) * block_tokens <= reached:
                keys.append(numbers.setdefault((chain, block), len(numbers)))
                block += 1
        offsets.append(len(keys))
    return Accesses(
        keys=keys,
        offsets=offsets,
        time_s=(workload.arrival_s - workload.arrival_s[:1]).tolist(),
        session_id=workload.session_id.tolist(),
        turn=_turns(workload.session_id).tolist(),
    )


def _turns(session: Ints) -> Ints:
    """How often each session stood earlier in the column."""
    order = np.argsort(session, kind="stable")
    ordered = session[order]
    first = np.searchsorted(ordered, ordered, side="left")
    turns = np.empty_like(session)
    turns[order] = np.arange(len(session)) - first
    return np.where(session >= 0, turns, 0)
