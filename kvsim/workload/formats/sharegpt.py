"""ShareGPT replays with token ids: nanoseconds, lengths, and the prompt itself, from which the hashes are made."""

from __future__ import annotations

from array import array
from collections.abc import Collection
from hashlib import blake2b

from kvsim.workload.formats.base import Row
from kvsim.workload.records import Record

FIELDS = ("input_toks", "output_toks", "arrival_time_ns", "input_tok_ids")
BLOCK_TOKENS = 16


class Sharegpt:
    """``input_toks, output_toks, arrival_time_ns, input_tok_ids``; JSON lines.

    A block's hash chains its parent's hash and its token ids, as engines do; the partial last block has none, so
    its tokens belong to the request alone.
    """

    ids_cover_prompt = False

    def __init__(self, hash_block_tokens: int | None) -> None:
        self.block_tokens = hash_block_tokens or BLOCK_TOKENS
        self.hash_block_tokens: int | None = self.block_tokens

    @staticmethod
    def matches(fields: Collection[str]) -> bool:
        return set(FIELDS) <= set(fields)

    def row(self, record: Record) -> Row:
        prompt = record.tokens("input_toks")
        tokens = self._tokens(record)
        if len(tokens) != prompt:
            raise record.error("input_toks", prompt, f"the number of input_tok_ids, {len(tokens)}")
        return Row(
            record.line,
            record.time("arrival_time_ns"),
            "ns",
            prompt,
            record.tokens("output_toks"),
            hash_ids=self._hashes(tokens),
        )

    @staticmethod
    def _tokens(record: Record) -> array[int]:
        ids = record.value("input_tok_ids")
        try:
            if isinstance(ids, list):
                return array("q", ids)
        except (TypeError, OverflowError):
            pass
        raise record.error("input_tok_ids", ids, "a list of whole token ids")

    def _hashes(self, tokens: array[int]) -> list[bytes]:
        size = self.block_tokens
        content = memoryview(tokens).cast("B")
        width = tokens.itemsize * size
        hashes: list[bytes] = []
        parent = b""
        for start in range(0, len(tokens) // size * width, width):
            parent = blake2b(parent + content[start : start + width], digest_size=16).digest()
            hashes.append(parent)
        return hashes
