"""The values of a trace's rows, gathered as columns: what row by row and whole-file reading both end in."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from kvsim.workload.formats.base import Row
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
    after: Ints | None = None
    delay: Floats | None = None
    """In ``unit``, from the answer to the row that ``after`` names."""
    answer_s_per_token: float = 0.0
    """How long those answers are taken to last."""


class TableBuilder:
    """A table that grows row by row. Sessions and hash ids become small numbers in order of appearance."""

    def __init__(self, time_unit: str, answer_s_per_token: float | None = None) -> None:
        """``time_unit``: what the user says the times are in, or ``auto``. ``answer_s_per_token``: how long an answer
        is taken to last that a later row follows.
        """
        self._time_unit, self._pace = time_unit, answer_s_per_token
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
        self.after: dict[int, int] = {}
        self.delay: dict[int, int | float] = {}
        self._latest: dict[int, int] = {}
        self._sessions: dict[str, int] = {}
        self._hashes: dict[int | str | bytes, int] = {}

    def append(self, row: Row) -> None:
        self.line.append(row.line)
        known = self._sessions
        session = -1 if row.session is None else known.setdefault(row.session, len(known))
        self.session.append(session)
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

    def _following(self, row: Row, session: int) -> int | float:
        """The time of a row that follows an answer, as if that took its assumed time."""
        before = self._latest.get(session)
        if before is None:
            self.doubts.append((row.line, "a delay, but no earlier row of its session: it counts from the start"))
            return row.time
        place = len(self.time)
        self.after[place], self.delay[place] = before, row.time
        unit = row.unit if self._time_unit == "auto" else self._time_unit
        answer = self.output[before] * self._answer_s_per_token * PER_SECOND[unit or "s"]
        return self.time[before] + answer + row.time

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

    def table(self, unit: str | None) -> Table:
        """What was gathered."""
        prompt, hashed = _ints(self.prompt), _ints(self.hashed_outputs)
        after, delay = None, None
        if self.after:
            after, delay = np.full(len(prompt), -1, dtype=np.int64), np.zeros(len(prompt))
            places = np.fromiter(self.after, dtype=np.int64)
            after[places] = np.fromiter(self.after.values(), dtype=np.int64)
            delay[places] = np.fromiter(self.delay.values(), dtype=np.float64)
        return Table(
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
            after=after,
            delay=delay,
            answer_s_per_token=self._answer_s_per_token if self.after else 0.0,
        )


def _ints(values: array[int]) -> Ints:
    return np.array(values, dtype=np.int64)
