"""What a trace format is: how one record becomes one row."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from kvsim.workload.records import Record


class Row(NamedTuple):
    """One request as its trace gives it, nothing judged or converted yet."""

    line: int
    time: int | float
    unit: str | None
    """``s``, ``ms``, ``us``, ``ns``, ``date`` (whole nanoseconds since 1970), or ``None``: to be found out."""
    prompt_tokens: int
    output_tokens: int
    session: str | None = None
    hash_ids: Sequence[int | str | bytes] | None = None
    """``None``: this row has none."""
    contradiction: str = ""
    """What of the row cannot be true together; empty where nothing is wrong."""
    follows: bool = False
    """``time`` counts from the answer to the row before it of the same session."""


class TraceFormat(Protocol):
    """A trace schema. One file and one line in the registry each; :mod:`kvsim.workload.formats.azure` is the shortest.

    ``hash_block_tokens`` is what the user asked for, ``None`` for the schema's own block.
    """

    hash_block_tokens: int | None
    """Tokens a hash id stands for; ``None``: no ids, or to be found out from them."""
    ids_cover_prompt: bool
    """Whether a row should have an id for every block of its prompt, the partial last one included."""

    def __init__(self, hash_block_tokens: int | None) -> None: ...

    @staticmethod
    def matches(fields: Collection[str]) -> bool:
        """Whether a file whose first row has these fields is of this schema."""

    def row(self, record: Record) -> Row:
        """The row of a record. Raises ``WorkloadError`` with the place, the value and what is allowed."""
