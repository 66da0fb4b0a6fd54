"""Alibaba's Qwen-Bailian traces: chats whose turns name their parent, with ids of 16-token blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from kvsim.workload.formats.base import OneRow, Row
from kvsim.workload.formats.hashlist import hash_list
from kvsim.workload.records import Record

FIELDS = ("chat_id", "parent_chat_id", "timestamp", "input_length", "output_length", "hash_ids")
BLOCK_TOKENS = 16
ROOT = "-1"


class Bailian(OneRow):
    """``chat_id, parent_chat_id`` (-1: a root), ``timestamp`` (s), ``input_length, output_length, hash_ids``.

    Perhaps ``turn`` and ``type`` (text, search, image, file, api, thinking, coder), which a note counts. Each row
    already holds its whole context. A session is a root with all that descends from it; where a parent is not in the
    file before its child, as in a cut file, those of one such parent are a session.
    """

    ids_cover_prompt = True

    def __init__(self, hash_block_tokens: int | None) -> None:
        self.hash_block_tokens: int | None = hash_block_tokens or BLOCK_TOKENS
        self._root: dict[str, str] = {}
        self._turn: dict[str, int] = {}
        self._types: Counter[str] = Counter()

    @property
    def notes(self) -> tuple[str, ...]:
        if len(self._types) < 2:
            return ()
        return (f"requests by type: {', '.join(f'{kind} {count:,}' for kind, count in self._types.most_common())}",)

    @staticmethod
    def matches(fields: Collection[str]) -> bool:
        return set(FIELDS) <= set(fields)

    def row(self, record: Record) -> Row:
        chat, parent = str(record.value("chat_id")), str(record.value("parent_chat_id"))
        if chat == parent:
            raise record.error("parent_chat_id", parent, f"another chat_id than its own, or {ROOT}")
        lost = parent != ROOT and parent not in self._root
        root = self._root.get(parent, parent) if parent != ROOT else chat
        self._root[chat] = root
        if record.values.get("type") not in (None, ""):
            self._types[str(record.values["type"])] += 1
        return Row(
            record.line,
            record.time("timestamp"),
            "s",
            record.tokens("input_length"),
            record.tokens("output_length"),
            session=root,
            hash_ids=hash_list(record, "hash_ids"),
            doubt=f"parent_chat_id is {parent}, which no earlier row has"
            if lost
            else self._wrong_turn(record, chat, parent),
        )

    def _wrong_turn(self, record: Record, chat: str, parent: str) -> str:
        """Why ``turn`` cannot be; nothing where it can, or is not given."""
        if record.values.get("turn") in (None, ""):
            return ""
        turn = self._turn[chat] = record.tokens("turn")
        before = 0 if parent == ROOT else self._turn.get(parent)
        return "" if before is None or turn == before + 1 else f"turn is {turn} behind turn {before} of its parent"
