"""Splitwise's traces: seconds, prompt and token sizes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kvsim.workload.formats.base import Row, TableColumns
from kvsim.workload.records import Record

FIELDS = ("arrival_timestamp", "prompt_size", "token_size")


class Splitwise:
    """``request_id, request_type, application_id, arrival_timestamp`` (s), ``batch_size, prompt_size, token_size``."""

    ids_cover_prompt = True

    def __init__(self, hash_block_tokens: int | None) -> None:
        self.hash_block_tokens = hash_block_tokens

    @staticmethod
    def matches(fields: Collection[str]) -> bool:
        return set(FIELDS) <= set(fields)

    def columns(self, header: Sequence[str]) -> TableColumns | None:
        time, prompt, output = FIELDS
        one = "batch_size" if "batch_size" in header else None
        return TableColumns(time, "s", prompt, output, one=one) if self.matches(header) else None

    def row(self, record: Record) -> Row:
        batch = record.tokens("batch_size") if "batch_size" in record.values else 1
        return Row(
            record.line,
            record.time("arrival_timestamp"),
            "s",
            record.tokens("prompt_size"),
            record.tokens("token_size"),
            contradiction="" if batch == 1 else f"batch_size is {batch}: taken for one request",
        )
