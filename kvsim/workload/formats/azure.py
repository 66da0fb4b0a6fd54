"""Azure's LLM inference traces of 2023 and 2024 (AzurePublicDataset): dates, prompt and answer lengths, no content."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kvsim.workload.formats.base import Row, TableColumns
from kvsim.workload.records import Record
from kvsim.workload.times import DATE, DATE_FORM, date_ns

FIELDS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


class Azure:
    """``TIMESTAMP,ContextTokens,GeneratedTokens``."""

    ids_cover_prompt = True

    def __init__(self, hash_block_tokens: int | None) -> None:
        self.hash_block_tokens = hash_block_tokens

    @staticmethod
    def matches(fields: Collection[str]) -> bool:
        return set(FIELDS) <= set(fields)

    def columns(self, header: Sequence[str]) -> TableColumns | None:
        time, prompt, output = FIELDS
        return TableColumns(time, DATE, prompt, output) if self.matches(header) else None

    def row(self, record: Record) -> Row:
        value = record.value("TIMESTAMP")
        try:
            time = date_ns(str(value))
        except ValueError:
            raise record.error("TIMESTAMP", value, DATE_FORM) from None
        return Row(record.line, time, DATE, record.tokens("ContextTokens"), record.tokens("GeneratedTokens"))
