"""What one request asks for, independent of the cluster that serves it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Request(NamedTuple):
    """One inference request.

    A *chain* is a stream of tokens whose identity is its number: equal chain and equal position mean equal tokens
    *and* an equal prefix before them. A prompt is a path of pieces ``(chain, tokens)``, each piece the first ``tokens``
    tokens of its chain, and every chain has one parent path, so that what two prompts share is a common head.
    Negative chains belong to one request alone and can never be hit by another.

    Generated tokens continue ``output_chain``: where the pieces left it if it is the chain of the last one, else from
    its beginning. Where they are known to follow other chains first, the pieces go on behind the prompt with those.
    """

    request_id: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    session_id: int
    """-1: no session known."""
    pieces: tuple[tuple[int, int], ...]
    """``(chain, tokens)``; the tokens sum to ``prompt_tokens``, or to more where answers begin with known chains."""
    output_chain: int
    priority: int = 0
    """Lower goes first where the engines' scheduling policy is ``priority``."""
    adapter: int = 0
    """LoRA adapter that it goes to."""


class RequestRows:
    """The requests of columns, as ``kvsim.workload.workload.Workload`` has them, made one by one."""

    __slots__ = ("_columns", "_offsets", "_optional", "_piece_chain", "_piece_tokens")

    def __init__(
        self,
        columns: tuple[Any, Any, Any, Any, Any],
        pieces: tuple[Any, Any, Any],
        optional: tuple[Any | None, Any | None],
    ) -> None:
        """Arrays. ``columns``: arrival times in seconds, prompt and output tokens, sessions, output chains;
        ``pieces``: offsets, chains, tokens; ``optional``: priorities, adapters.
        """
        # One by one, numbers come out of views in a third of the time that arrays take.
        self._columns = tuple([column.data for column in columns])
        self._offsets, self._piece_chain, self._piece_tokens = (column.data for column in pieces)
        self._optional = tuple([None if column is None else column.data for column in optional])

    def request(self, row: int) -> Request:
        """The request of that number."""
        arrival_s, prompt_tokens, output_tokens, session_id, output_chain = self._columns
        priority, adapter = self._optional
        offsets, chains, tokens = self._offsets, self._piece_chain, self._piece_tokens
        return Request(
            row,
            arrival_s[row],
            prompt_tokens[row],
            output_tokens[row],
            session_id[row],
            tuple([(chains[piece], tokens[piece]) for piece in range(offsets[row], offsets[row + 1])]),
            output_chain[row],
            0 if priority is None else priority[row],
            0 if adapter is None else adapter[row],
        )
