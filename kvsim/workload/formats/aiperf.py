"""AIPerf's and Dynamo's ``mooncake_trace``: Mooncake's fields, with sessions whose turns follow after a delay."""

from __future__ import annotations

from collections.abc import Collection

from kvsim.workload.formats.base import Row
from kvsim.workload.formats.hashlist import hash_list
from kvsim.workload.records import Record

LENGTHS = ("input_length", "output_length")
FOREIGN_FIELDS = ("chat_id", "parent_chat_id")
BLOCK_TOKENS = 512


class Aiperf:
    """``input_length``, ``output_length``; ``timestamp`` or ``delay`` (ms), ``hash_ids``, ``session_id`` may be absent.

    A row with a ``delay`` follows the row before it of its session, so long after that one's answer: a closed loop. One
    with neither time starts with the trace.
    """

    ids_cover_prompt = True

    def __init__(self, hash_block_tokens: int | None) -> None:
        self.hash_block_tokens: int | None = hash_block_tokens or BLOCK_TOKENS

    @staticmethod
    def matches(fields: Collection[str]) -> bool:
        names = set(fields)
        own = "delay" in names or "timestamp" not in names or {"session_id", "hash_ids"} <= names
        return set(LENGTHS) <= names and own and not names & set(FOREIGN_FIELDS)

    def row(self, record: Record) -> Row:
        values = record.values
        session = values.get("session_id")
        follows = values.get("delay") not in (None, "") and values.get("timestamp") in (None, "")
        if follows and session in (None, ""):
            raise record.error("delay", values["delay"], "a delay needs the session_id that it counts in")
        time: int | float = 0
        if follows:
            time = record.time("delay")
        elif values.get("timestamp") not in (None, ""):
            time = record.time("timestamp")
        return Row(
            record.line,
            time,
            "ms",
            record.tokens("input_length"),
            record.tokens("output_length"),
            session=None if session in (None, "") else str(session),
            hash_ids=None if values.get("hash_ids") in (None, "") else hash_list(record, "hash_ids"),
            follows=follows,
        )
