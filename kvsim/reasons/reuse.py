"""How long ago evicted blocks had last been used, and in how large a cache they would have stayed: reuse distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kvsim.reasons.evidence import Evidence
from kvsim.reasons.prefixes import Missed, asked_before, prefilled_at_s
from kvsim.workload.workload import Floats, Ints

IDLE_QUESTIONS, DISTANCE_QUESTIONS = 2_000, 300
"""Prompts, evenly spread over those that missed evicted blocks, that are looked at."""


@dataclass(frozen=True, eq=False)
class _Uses:
    """Full blocks that requests used on an instance: of each piece of a path, answers included, how many and when."""

    instance: Ints
    chain: Ints
    reach: Ints
    """Tokens of the chain."""
    blocks: Ints
    """Blocks of the chain that the request had."""
    from_s: Floats
    until_s: Floats
    is_ragged: npt.NDArray[np.bool_]
    """Whether the request had a last block that was not full."""


@dataclass(frozen=True)
class MoreBlocks:
    """What more blocks an instance would keep."""

    blocks: int
    tokens: int
    """Prompt tokens that would have been hit in place of computed."""
    prompts: int
    """How many prompts' distances were worked out."""


def idle_s(evidence: Evidence) -> Floats:
    """Seconds since the last use of the first block that was gone, for prompts that missed evicted ones."""
    missed, uses, block = evidence.missed, _uses(evidence), evidence.settings.block_size
    questions = _spread(np.flatnonzero(missed.tokens["evicted"]), IDLE_QUESTIONS)
    found = [missed.admitted_s[each] - _last_use_s(missed, uses, each, block) for each in questions.tolist()]
    return np.array([wait_s for wait_s in found if np.isfinite(wait_s)])


def extra_blocks(evidence: Evidence) -> MoreBlocks | None:
    """How many blocks more of each instance would have kept half of what was evicted.

    By Mattson's stack distances: a block stays as long as the different blocks used since its last use, and those of
    its prompt before it, which are freed after it, fit beside it. What is hit instead changes nothing in when requests
    come here; exact for requests that come one after the other.
    """
    missed, uses = evidence.missed, _uses(evidence)
    block, room = evidence.settings.block_size, evidence.settings.num_blocks
    every = np.flatnonzero(missed.tokens["evicted"])
    questions = _spread(every, DISTANCE_QUESTIONS)
    lacking = []
    for each in questions.tolist():
        last_s = _last_use_s(missed, uses, each, block)
        if np.isfinite(last_s):
            gone = int(missed.tokens["evicted"][each]) // block
            lacking.append(_used_since(missed, uses, each, last_s, block) + np.arange(1, gone + 1) - room)
    if not lacking:
        return None
    short = np.sort(np.concatenate(lacking))
    extra = int(max(short[(len(short) - 1) // 2], 1))
    kept = np.searchsorted(short, extra, side="right") / len(short)
    return MoreBlocks(extra, int(kept * missed.total("evicted")), len(lacking))


def _spread(rows: Ints, most: int) -> Ints:
    return rows[:: max(1, -(-len(rows) // most))]


def _uses(evidence: Evidence) -> _Uses:
    missed, block = evidence.missed, evidence.settings.block_size
    path = missed.path
    own = {name: column[missed.rows] for name, column in evidence.result.table.items()}
    until_s = prefilled_at_s(own) + own["transfer_s"] if evidence.is_pd else own["finish_s"]
    everyone, last = np.arange(len(missed.prompt)), path.offsets[1:] - 1
    begins = np.where(path.chain[last] == path.answer_chain, path.start[last], missed.prompt)
    answered = (begins + path.answer_reach) // block - begins // block
    whose = [path.owner, everyone, everyone]
    chains = [path.chain, path.answer_chain, path.answer_chain.min(initial=0) - 1 - everyone]
    reaches = [path.tokens, path.answer_reach, np.zeros_like(everyone)]
    blocks = [(path.start + path.tokens) // block - path.start // block, answered, _copies(missed, begins, block)]
    if evidence.is_pd:
        whose, chains, reaches, blocks = whose[::2], chains[::2], reaches[::2], blocks[::2]
    request = np.concatenate(whose)
    ends = missed.prompt + (0 if evidence.is_pd else own["output_tokens"].astype(np.int64) - 1)
    return _Uses(
        missed.instance[request],
        np.concatenate(chains),
        np.concatenate(reaches),
        np.concatenate(blocks),
        missed.admitted_s[request],
        until_s[request],
        (ends % block > 0)[request],
    )


def _copies(missed: Missed, begins: Ints, block: int) -> Ints:
    """Blocks that each request computes although earlier ones had them and no cache could help: second copies.

    They are the one with its prompt's last token, and those of an answer that repeats another.
    """
    _, known = asked_before(missed.path)
    usable = np.minimum(missed.shared // block, (missed.prompt - 1) // block)
    repeated = begins + np.minimum(known, missed.path.answer_reach)
    ends = np.where(missed.shared >= missed.prompt, np.maximum(repeated, missed.shared), missed.shared)
    found: Ints = np.maximum(ends // block - usable, 0)
    return found


def _last_use_s(missed: Missed, uses: _Uses, request: int, block: int) -> float:
    """When somebody last let go of the block behind the hits of ``request``; ``nan``: nobody had."""
    path, last = missed.path, int(missed.hit[request]) + block - 1
    pieces = slice(int(path.offsets[request]), int(path.offsets[request + 1]))
    piece = pieces.start + int(np.searchsorted(path.start[pieces], last, side="right")) - 1
    at_s = missed.admitted_s[request]
    had = (uses.chain == path.chain[piece]) & (uses.instance == missed.instance[request])
    had &= (uses.reach > last - path.start[piece]) & (uses.until_s <= at_s)
    return float(uses.until_s[had].max()) if had.any() else float("nan")


def _used_since(missed: Missed, uses: _Uses, request: int, since_s: float, block: int) -> int:
    """Different blocks in use on the instance after ``since_s`` and before ``request`` was admitted, and those that it
    hit; blocks that are not full are used again first, and count as one."""
    path, hit = missed.path, int(missed.hit[request])
    there = (uses.instance == missed.instance[request]) & (uses.until_s > since_s)
    there &= uses.from_s < missed.admitted_s[request]
    pieces = slice(int(path.offsets[request]), int(path.offsets[request + 1]))
    start, end = path.start[pieces], np.minimum(path.start[pieces] + path.tokens[pieces], hit)
    own = np.maximum(end // block - start // block, 0)
    chains = np.concatenate([uses.chain[there], path.chain[pieces]])
    blocks = np.concatenate([uses.blocks[there], own])
    names, index = np.unique(chains, return_inverse=True)
    most = np.zeros(len(names), dtype=np.int64)
    np.maximum.at(most, index.reshape(-1), blocks)
    return int(most.sum()) + bool(uses.is_ragged[there].any())
