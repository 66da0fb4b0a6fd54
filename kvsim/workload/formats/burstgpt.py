"""BurstGPT: lengths of ChatGPT and GPT-4 requests of a campus, by the second; releases 1 and 2/3 differ in columns."""

from __future__ import annotations

from collections.abc import Collection

from kvsim.workload.formats.base import Row
from kvsim.workload.records import Record

FIELDS = ("Timestamp", "Request tokens", "Response tokens", "Total tokens")
SESSION = "Session ID"


class BurstGpt:
    """``Timestamp`` (s), ``Request tokens``, ``Response tokens``, ``Total tokens``; sessions since release 2.

    ``Elapsed time`` is end to end, says nothing about TTFT, and is left alone. An answer of no tokens is a failure.
    """

    ids_cover_prompt = True

    def __init__(self, hash_block_tokens: int | None) -> None:
        self.hash_block_tokens = hash_block_tokens

    @staticmethod
    def matches(fields: Collection[str]) -> bool:
        return set(FIELDS) <= set(fields)

    def row(self, record: Record) -> Row:
        prompt, output = record.tokens("Request tokens"), record.tokens("Response tokens")
        total, parts = record.tokens("Total tokens"), prompt + output
        session = record.values.get(SESSION)
        return Row(
            record.line,
            record.time("Timestamp"),
            "s",
            prompt,
            output,
            str(session).strip() or None if session is not None else None,
            contradiction="" if parts == total else f"Total tokens is {total}, its parts make {parts}",
        )
