"""ShareGPT replays with token ids: nanoseconds, lengths, and the prompt itself, from which the hashes are made."""

from __future__ import annotations

from array import array
from collections.abc import Collection

from kvsim.workload.formats.base import OneRow, Row
from kvsim.workload.formats.tokenblocks import TokenBlocks
from kvsim.workload.records import Record

FIELDS = ("input_toks", "output_toks", "arrival_time_ns", "input_tok_ids")
BLOCK_TOKENS = 16


class Sharegpt(OneRow):
    """``input_toks, output_toks, arrival_time_ns, input_tok_ids``, perhaps ``output_tok_ids``; JSON lines.

    A block is its token ids behind all that stands before, as engines hash it; the partial last block has none, so its
    tokens belong to the request alone. With ids of its own, the answer goes on where the prompt ends, and the blocks
    are those of both together, so that a later prompt can hit what was generated.
    """

    ids_cover_prompt = False

    def __init__(self, hash_block_tokens: int | None) -> None:
        block_tokens = hash_block_tokens or BLOCK_TOKENS
        self.hash_block_tokens: int | None = block_tokens
        self._blocks = TokenBlocks(block_tokens)

    @staticmethod
    def matches(fields: Collection[str]) -> bool:
        return set(FIELDS) <= set(fields)

    def row(self, record: Record) -> Row:
        prompt, output = record.tokens("input_toks"), record.tokens("output_toks")
        tokens = _tokens(record, "input_tok_ids", "input_toks", prompt)
        answered = record.values.get("output_tok_ids") is not None
        if answered:
            tokens += _tokens(record, "output_tok_ids", "output_toks", output)
        return Row(
            record.line,
            record.time("arrival_time_ns"),
            "ns",
            prompt,
            output,
            hash_ids=self._blocks.path(tokens, with_rest=answered),
            hashed_output_tokens=output if answered else 0,
        )


def _tokens(record: Record, field: str, count_field: str, count: int) -> array[int]:
    ids = record.value(field)
    try:
        tokens = array("q", ids) if isinstance(ids, list) else None
    except (TypeError, OverflowError):
        tokens = None
    if tokens is None:
        raise record.error(field, ids, "a list of whole token ids")
    if len(tokens) != count:
        raise record.error(count_field, count, f"the number of {field}, {len(tokens)}")
    return tokens
