"""Mooncake's traces (FAST'25 release): milliseconds, lengths, and prefix-chained hashes of 512-token blocks."""

from __future__ import annotations

from collections.abc import Collection

from kvsim.workload.formats.base import OneRow, Row
from kvsim.workload.formats.hashlist import hash_list
from kvsim.workload.records import Record

FIELDS = ("timestamp", "input_length", "output_length", "hash_ids")
# Fields of schemas that share Mooncake's names but mean other units or blocks by them.
FOREIGN_FIELDS = ("chat_id", "parent_chat_id", "session_id", "delay")
BLOCK_TOKENS = 512


class Mooncake(OneRow):
    """``timestamp`` (ms), ``input_length``, ``output_length``, ``hash_ids``; JSON lines or CSV."""

    ids_cover_prompt = True

    def __init__(self, hash_block_tokens: int | None) -> None:
        self.hash_block_tokens: int | None = hash_block_tokens or BLOCK_TOKENS

    @staticmethod
    def matches(fields: Collection[str]) -> bool:
        return set(FIELDS) <= set(fields) and not set(FOREIGN_FIELDS) & set(fields)

    def row(self, record: Record) -> Row:
        return Row(
            record.line,
            record.time("timestamp"),
            "ms",
            record.tokens("input_length"),
            record.tokens("output_length"),
            hash_ids=hash_list(record, "hash_ids"),
        )
