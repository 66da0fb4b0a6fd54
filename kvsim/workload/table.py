"""The values of a trace's rows, gathered as columns: what row by row and whole-file reading both end in."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kvsim.errors import WorkloadError
from kvsim.workload.edges import Edges, ResolvedEdges
from kvsim.workload.formats.base import Row
from kvsim.workload.graph import Waits
from kvsim.workload.times import PER_SECOND, assumed_pace_s
from kvsim.workload.workload import Floats, Ints

Remarks = tuple[tuple[int, str], ...]
"""Line and reason."""


@dataclass(frozen=True, eq=False)
class Table:
    """One entry per row, in the order of the file; nothing judged yet."""

    line: Ints
    time: npt.NDArray[Any]
    """In ``unit``: whole numbers as they stand, or floats."""
    unit: str | None
    prompt_tokens: Ints
    output_tokens: Ints
    session: Ints
    """Numbered in order of appearance; -1: none."""
    has_ids: Ints
    ids: Ints
    id_offsets: Ints
    hashed_tokens: Ints | None = None
    """Tokens of prompt and answer that ids are about; ``None``: the prompts'."""
    contradictions: Remarks = ()
    doubts: Remarks = ()
    waits: Waits | None = None
    """Delays in ``unit``; a row may wait for one that comes later in the file. ``None``: the times are all given."""
    earliest: Floats | None = None
    """In ``unit``: the earliest that each row which waits may be sent."""
    rank: Ints | None = None
    """Rows in an order in which none comes before one that it waits for; ``None``: that of the file."""
    answer_s_per_token: float = 0.0
    """How long answers that a row waits for are taken to last."""
    model: Ints | None = None
    """Numbers in ``model_names``, -1: the row names none; ``None``: not kept, or no row names one."""
    model_names: tuple[str, ...] = ()
    """In order of appearance."""


class TableBuilder:
    """A table that grows row by row. Sessions and hash ids become small numbers in order of appearance."""

    def __init__(
        self,
        path: Path,
        time_unit: str,
        answer_s_per_token: float | None = None,
        refuse: Callable[[WorkloadError], None] | None = None,
        keeps_models: bool = False,
    ) -> None:
        """``time_unit``: what the user says the times are in, or ``auto``. ``answer_s_per_token``: how long an answer
        is taken to last that another row waits for. ``refuse`` is told of wrong waits, which are raised otherwise.
        ``keeps_models``: which model each row asks.
        """
        self._time_unit, self._pace = time_unit, answer_s_per_token
        self._edges = Edges(path, refuse)
        self.line = array("q")
        self.time: list[int | float] = []
        self.prompt = array("q")
        self.output = array("q")
        self.session = array("q")
        self.has_ids = array("q")
        self.ids = array("q")
        self.id_offsets = array("q", [0])
        self.hashed_outputs = array("q")
        self.contradictions: list[tuple[int, str]] = []
        self.doubts: list[tuple[int, str]] = []
        self._latest: dict[int, int] = {}
        self._sessions: dict[str, int] = {}
        self._hashes: dict[int | str | bytes, int] = {}
        self._model = array("q") if keeps_models else None
        self._models: dict[str, int] = {}

    def append(self, row: Row) -> None:
        self.line.append(row.line)
        known = self._sessions
        session = -1 if row.session is None else known.setdefault(row.session, len(known))
        self.session.append(session)
        self._edges.named(row)
        self.time.append(self._following(row, session) if row.follows else row.time)
        if session >= 0:
            self._latest[session] = len(self.time) - 1
        self.prompt.append(row.prompt_tokens)
        self.output.append(row.output_tokens)
        if row.contradiction:
            self.contradictions.append((row.line, row.contradiction))
        if row.doubt:
            self.doubts.append((row.line, row.doubt))
        self.has_ids.append(row.hash_ids is not None)
        self._append_ids(row.hash_ids or ())
        self.id_offsets.append(len(self.ids))
        self.hashed_outputs.append(row.hashed_output_tokens)
        if self._model is not None:
            self._model.append(-1 if row.model is None else self._models.setdefault(row.model, len(self._models)))

    def _following(self, row: Row, session: int) -> int | float:
        """Note that the row waits for the one before it; the earliest time that it may be sent."""
        before = self._latest.get(session)
        if before is None:
            self.doubts.append((row.line, "a delay, but no earlier row of its session: it counts from the start"))
            return row.time
        self._edges.add(len(self.time), before, row.time)
        return 0

    @cached_property
    def _answer_s_per_token(self) -> float:
        return assumed_pace_s(self._pace)

    def _append_ids(self, hash_ids: Sequence[int | str | bytes]) -> None:
        known = self._hashes
        for hash_id in hash_ids:
            number = known.get(hash_id)
            if number is None:
                number = known[hash_id] = len(known)
            self.ids.append(number)

    def table(self, unit: str | None, answers: Mapping[int, int], is_whole: bool = True) -> Table:
        """What was gathered. Rows that wait get the times they would have if answers took their assumed time.

        ``answers``: output tokens that were told behind their rows, by the rows' lines. ``is_whole``: there are no
        further rows in the file. Raises ``WorkloadError`` for waits that cannot be.
        """
        prompt, hashed = _ints(self.prompt), _ints(self.hashed_outputs)
        if answers:
            told = zip(self.line, self.output, strict=True)
            self.output = array("q", (answers.get(line, output) for line, output in told))
        if not is_whole:
            self._edges.cut(self.doubts)
        edges = self._edges.resolved(self.line)
        table = Table(
            line=_ints(self.line),
            time=np.array(self.time),
            unit=unit,
            prompt_tokens=prompt,
            output_tokens=_ints(self.output),
            session=_ints(self.session),
            has_ids=_ints(self.has_ids),
            ids=_ints(self.ids),
            id_offsets=_ints(self.id_offsets),
            hashed_tokens=prompt + hashed if np.any(hashed) else None,
            contradictions=tuple(self.contradictions),
            doubts=tuple(self.doubts),
            model=_ints(self._model) if self._model is not None and self._models else None,
            model_names=tuple(self._models),
        )
        return table if edges is None else self._timed(table, edges)

    def _timed(self, table: Table, edges: ResolvedEdges) -> Table:
        unit = table.unit if self._time_unit == "auto" else self._time_unit
        per_token = self._answer_s_per_token * PER_SECOND[unit or "s"]
        return replace(
            table,
            time=np.array(edges.times(self.time, [tokens * per_token for tokens in self.output])),
            waits=edges.waits(),
            earliest=np.where(edges.is_root(len(self.time)), 0.0, np.array(self.time, dtype=np.float64)),
            rank=edges.rank,
            answer_s_per_token=self._answer_s_per_token,
        )


def _ints(values: array[int]) -> Ints:
    return np.array(values, dtype=np.int64)
