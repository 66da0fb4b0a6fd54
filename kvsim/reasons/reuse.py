"""How long ago evicted blocks had last been used, and in how large a cache they would have stayed: reuse distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kvsim.reasons.evidence import Evidence
from kvsim.reasons.prefixes import Missed, asked_before
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
    """How many prompts' distances were worked out, of ``missing``."""
    missing: int
    """Prompts that missed evicted blocks whose last use is known, or all that did, where only some were looked at."""


def idle_s(evidence: Evidence, until_s: Floats) -> Floats:
    """Seconds since the last use of the first block that was gone, for prompts that missed evicted ones; each request
    used its blocks ``until_s``."""
    missed, uses, block = evidence.missed, _uses(evidence, until_s), evidence.settings.block_size
    questions = _spread(np.flatnonzero(missed.tokens["evicted"]), IDLE_QUESTIONS)
    found = [missed.admitted_s[each] - _last_uses_s(missed, uses, each, block, 1)[0] for each in questions.tolist()]
    return np.array([wait_s for wait_s in found if np.isfinite(wait_s)])


def extra_blocks(evidence: Evidence, until_s: Floats) -> MoreBlocks | None:
    """How many blocks more of each instance would have kept half of what was evicted.

    By Mattson's stack distances: a block stays as long as the different blocks used since its last use, and those of
    its prompt before it, which are freed after it, fit beside it. What is hit instead changes nothing in when requests
    come here; exact for requests that come one after the other.
    """
    missed, uses = evidence.missed, _uses(evidence, until_s)
    questions = _spread(np.flatnonzero(missed.tokens["evicted"]), DISTANCE_QUESTIONS)
    spans = [_distances(missed, uses, each, evidence.settings.block_size) for each in questions.tolist()]
    short = np.sort(np.concatenate(spans)) - evidence.settings.num_blocks if spans else np.zeros(0, dtype=np.int64)
    if not len(short):
        return None
    extra = int(max(short[(len(short) - 1) // 2], 1))
    kept = np.searchsorted(short, extra, side="right") / len(short)
    prompts, everyone = sum(len(each) > 0 for each in spans), int((missed.tokens["evicted"] > 0).sum())
    missing = prompts if len(questions) == everyone else everyone
    return MoreBlocks(extra, int(kept * missed.total("evicted")), prompts, missing)


def _spread(rows: Ints, most: int) -> Ints:
    return rows[:: max(1, -(-len(rows) // most))]


def _uses(evidence: Evidence, until_s: Floats) -> _Uses:
    missed, block = evidence.missed, evidence.settings.block_size
    path = missed.path
    own = {name: column[missed.rows] for name, column in evidence.result.table.items()}
    until_s = until_s[missed.rows]
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


def _last_uses_s(missed: Missed, uses: _Uses, request: int, block: int, count: int) -> Floats:
    """When somebody last let go of each of the ``count`` blocks behind the hits of ``request``; ``nan``: nobody had."""
    path, found = missed.path, np.full(count, np.nan)
    lasts = int(missed.hit[request]) + block * np.arange(1, count + 1) - 1
    for piece in range(int(path.offsets[request]), int(path.offsets[request + 1])):
        start = int(path.start[piece])
        inside = (lasts >= start) & (lasts < start + int(path.tokens[piece]))
        if not inside.any():
            continue
        had = (uses.chain == path.chain[piece]) & (uses.instance == missed.instance[request])
        had &= uses.until_s <= missed.admitted_s[request]
        order = np.argsort(uses.reach[had], kind="stable")
        reach, until_s = uses.reach[had][order], uses.until_s[had][order]
        # Of all that reach further than a token, the latest.
        latest_s = np.append(np.maximum.accumulate(until_s[::-1])[::-1], np.nan)
        found[inside] = latest_s[np.searchsorted(reach, lasts[inside] - start, side="right")]
    return found


def _distances(missed: Missed, uses: _Uses, request: int, block: int) -> Ints:
    """For each evicted block of ``request`` that somebody had let go of: blocks in which it would have stayed."""
    first = int(missed.hit[request]) // block
    last_s = _last_uses_s(missed, uses, request, block, int(missed.tokens["evicted"][request]) // block)
    found = [
        _blocks_since(missed, uses, request, since_s, block, first + np.flatnonzero(last_s == since_s))
        for since_s in np.unique(last_s[np.isfinite(last_s)]).tolist()
    ]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _blocks_since(missed: Missed, uses: _Uses, request: int, since_s: float, block: int, places: Ints) -> Ints:
    """Different blocks in use on the instance after ``since_s`` and before ``request`` was admitted, and those of its
    prompt up to each of ``places``; blocks that are not full are used again first, and count as one."""
    path = missed.path
    there = (uses.instance == missed.instance[request]) & (uses.until_s > since_s)
    there &= uses.from_s < missed.admitted_s[request]
    pieces = slice(int(path.offsets[request]), int(path.offsets[request + 1]))
    own_chain, start = path.chain[pieces], path.start[pieces]
    names, index = np.unique(np.concatenate([uses.chain[there], own_chain]), return_inverse=True)
    most = np.zeros(len(names), dtype=np.int64)
    used = int(there.sum())
    np.maximum.at(most, index.reshape(-1)[:used], uses.blocks[there])
    own_most = most[index.reshape(-1)[used:]]
    ends = np.minimum((start + path.tokens[pieces])[:, None], (places + 1) * block)
    own = np.maximum(ends // block - (start // block)[:, None], 0)
    found: Ints = np.maximum(own, own_most[:, None]).sum(axis=0) + int(most.sum() - own_most.sum())
    return found + bool(uses.is_ragged[there].any())
