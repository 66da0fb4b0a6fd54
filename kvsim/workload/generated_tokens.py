"""Prompts and answers that are known as one path of pieces: where the one ends and on which chain the other goes on."""

from __future__ import annotations

import numpy as np

from kvsim.workload.chains import Pieces
from kvsim.workload.workload import Ints


def heads(whole: Pieces, prompt_tokens: Ints) -> Pieces:
    """The pieces of the prompts alone, the first ``prompt_tokens`` of every path."""
    start, request = _starts(whole)
    tokens = np.clip(prompt_tokens[request] - start, 0, whole.tokens)
    kept = tokens > 0
    counts = np.bincount(request[kept], minlength=len(prompt_tokens))
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return Pieces(offsets, whole.chain[kept], tokens[kept].astype(np.int32))


def answer_chains(whole: Pieces, prompt_tokens: Ints) -> Ints:
    """The chain on which each answer goes on: that of the piece with its first token.

    An answer is one run of one chain, so one that leaves its chain says that the rest lies on that chain too. Where
    nobody shares the chain any further, the first to do so makes nothing equal that is not. Any other keeps its answer
    to itself, although a part of it may be known to others.
    """
    start, request = _starts(whole)
    end = start + whole.tokens
    chain = -1 - np.arange(len(prompt_tokens), dtype=np.int64)
    (at,) = np.nonzero((start <= prompt_tokens[request]) & (prompt_tokens[request] < end))
    chain[request[at]] = whole.chain[at]
    leaving = at[(whole.chain[at] >= 0) & (at + 1 < whole.offsets[1:][request[at]])]
    reach = np.zeros(int(whole.chain.max(initial=0)) + 1, dtype=np.int64)
    shared = whole.chain >= 0
    np.maximum.at(reach, whole.chain[shared], whole.tokens[shared])
    at_end = leaving[whole.tokens[leaving] == reach[whole.chain[leaving]]]
    first = at_end[np.unique(whole.chain[at_end], return_index=True)[1]]
    private = request[np.setdiff1d(leaving, first)]
    chain[private] = -1 - private
    return chain


def _starts(whole: Pieces) -> tuple[Ints, Ints]:
    """For each piece, how many tokens of its request stand before it, and the request."""
    request = np.repeat(np.arange(len(whole.offsets) - 1), np.diff(whole.offsets))
    before = np.concatenate(([0], np.cumsum(whole.tokens, dtype=np.int64)))
    return before[:-1] - before[whole.offsets[:-1]][request], request
