"""AIPerf's and Dynamo's ``mooncake_trace``: Mooncake's fields, with sessions whose turns follow after a delay."""

from __future__ import annotations

from collections.abc import Collection

from kvsim.workload.formats.base import OneRow, Row
from kvsim.workload.formats.generic import has_time
from kvsim.workload.formats.hashlist import hash_list
from kvsim.workload.records import Record

LENGTHS = ("input_length", "output_length")
FOREIGN_FIELDS = ("chat_id", "parent_chat_id")
BLOCK_TOKENS = 512


class Aiperf(OneRow):
    """``input_length``, ``output_length``; ``timestamp`` or ``delay`` (ms), ``hash_ids``, ``session_id`` may be absent.

    A row with a ``delay``, or with no time, follows the row before it of its session, so long after that one's answer:
    a closed loop. The first row of a session, or one without, starts at its time, or with the trace. Each row is taken
    for the whole context of its turn, as Dynamo replays them; AIPerf itself can also send the turns before it along.
    Without ``output_length``, how long the answer is nobody knows: the row counts as failed.
    """

    ids_cover_prompt = True

    def __init__(self, hash_block_tokens: int | None) -> None:
        self.hash_block_tokens: int | None = hash_block_tokens or BLOCK_TOKENS
        self._begun: set[str] = set()

    @staticmethod
    def matches(fields: Collection[str]) -> bool:
        names = set(fields)
        own = "delay" in names or {"timestamp", "session_id", "hash_ids"} <= names or not has_time(fields)
        return set(LENGTHS) <= names and own and not names & set(FOREIGN_FIELDS)

    def row(self, record: Record) -> Row:
        session = _given(record, "session_id")
        follows, time = self._time(record, None if session is None else str(session))
        return Row(
            record.line,
            time,
            "ms",
            record.tokens("input_length"),
            0 if _given(record, "output_length") is None else record.tokens("output_length"),
            session=None if session is None else str(session),
            hash_ids=None if _given(record, "hash_ids") is None else hash_list(record, "hash_ids"),
            follows=follows,
        )

    def _time(self, record: Record, session: str | None) -> tuple[bool, int | float]:
        """Whether the row follows another, and its delay or its time."""
        timed, delayed = (_given(record, field) is not None for field in ("timestamp", "delay"))
        if delayed and session is None:
            raise record.error("delay", record.values["delay"], "a delay needs the session_id that it counts in")
        begun = session in self._begun
        follows = (delayed and begun) or (not timed and (delayed or begun))
        if session is not None:
            self._begun.add(session)
        if follows:
            return True, record.time("delay") if delayed else 0
        return False, record.time("timestamp") if timed else 0


def _given(record: Record, field: str) -> object:
    """The value of a field, ``None`` where there is none: JSON leaves it out or says null, CSV leaves it empty."""
    value = record.values.get(field)
    return None if value == "" else value
