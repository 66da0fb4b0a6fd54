"""What one request asks for, independent of the cluster that serves it."""

from __future__ import annotations

from typing import NamedTuple


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
    """``(chain, tokens)``; the tokens sum to ``prompt_tokens``, or to more where the answer begins with known chains."""
    output_chain: int
    priority: int = 0
    """Lower goes first where the engines' scheduling policy is ``priority``."""
    adapter: int = 0
    """LoRA adapter that it goes to."""
