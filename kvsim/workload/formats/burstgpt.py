"""BurstGPT: lengths of ChatGPT and GPT-4 requests of a campus, by the second; releases 1 and 2/3 differ in columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kvsim.workload.formats.base import Row, TableColumns
from kvsim.workload.records import Record

FIELDS = ("Timestamp", "Request tokens", "Response tokens", "Total tokens")
SESSION = "Session ID"
ELAPSED = "Elapsed time"


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

    def columns(self, header: Sequence[str]) -> TableColumns | None:
        if not self.matches(header):
            return None
        time, prompt, output, total = FIELDS
        session, elapsed = (name if name in header else None for name in (SESSION, ELAPSED))
        return TableColumns(time, "s", prompt, output, session, total_tokens=total, not_negative=elapsed)

    def row(self, record: Record) -> Row:
        prompt, output = record.tokens("Request tokens"), record.tokens("Response tokens")
        session = record.values.get(SESSION)
        return Row(
            record.line,
            record.time("Timestamp"),
            "s",
            prompt,
            output,
            str(session).strip() or None if session is not None else None,
            contradiction=_contradiction(record, prompt + output),
        )


def _contradiction(record: Record, parts: int) -> str:
    total = record.tokens("Total tokens")
    if total != parts:
        return f"Total tokens is {total}, its parts make {parts}"
    elapsed = str(record.values.get(ELAPSED) or "").strip()
    return f"{ELAPSED} is {elapsed}, less than none" if elapsed.startswith("-") else ""
