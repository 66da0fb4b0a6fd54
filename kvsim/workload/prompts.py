"""What the prompts of a trace are made of, and so what they share: hash ids say so, else sessions, else nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kvsim.workload.chains import HashPaths, Pieces, pieces_of
from kvsim.workload.generated_tokens import answer_chains, heads
from kvsim.workload.hits import HitRates, hash_hit_rates
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.rawtrace import RawTrace
from kvsim.workload.workload import Ints


@dataclass(frozen=True, eq=False)
class Content:
    """Pieces and answers of all requests, and what is to be said about them."""

    pieces: Pieces
    output_chain: Ints
    rates: HitRates
    notes: tuple[str, ...]
    generated_known: bool

    def described(self, info: WorkloadInfo) -> WorkloadInfo:
        """``info`` with what is known about the content."""
        return replace(
            info,
            infinite_cache_hit_rate=self.rates.all_ids,
            infinite_cache_hit_rate_full_blocks=self.rates.full_blocks,
            infinite_cache_hit_rate_tokens=self.rates.tokens,
            notes=info.notes + self.notes,
            generated_known=self.generated_known,
        )


def content_of(raw: RawTrace, rows: Ints, prompt_tokens: Ints) -> Content:
    """The content of some rows of a trace, in the order given, whose prompts have ``prompt_tokens``."""
    if raw.paths is not None and raw.hashed_tokens is not None:
        return _from_conversations(raw.paths.taken(rows), prompt_tokens, raw.hashed_tokens[rows])
    if raw.paths is not None:
        return _from_hashes(raw.paths.taken(rows), prompt_tokens)
    return _from_sessions(raw.session[rows], prompt_tokens)


def _alone(num_requests: int) -> Ints:
    """A chain for each request that no other has."""
    return -1 - np.arange(num_requests, dtype=np.int64)


def _from_hashes(given: HashPaths, prompt_tokens: Ints) -> Content:
    paths = given.within(prompt_tokens)
    notes: tuple[str, ...] = ()
    if extra := len(given.ids) - len(paths.ids):
        notes += (f"{extra:,} hash ids lie beyond their prompts: ignored",)
    if bare := int(prompt_tokens.sum() - paths.lengths(prompt_tokens).sum()):
        notes += (f"{bare:,} prompt tokens have no hash id: each request has them to itself",)
    return Content(
        pieces=pieces_of(paths, prompt_tokens),
        output_chain=_alone(len(prompt_tokens)),
        rates=hash_hit_rates(paths, prompt_tokens),
        notes=(*notes, "answers have no hash ids: generated tokens are never hit"),
        generated_known=False,
    )


def _from_conversations(given: HashPaths, prompt_tokens: Ints, hashed_tokens: Ints) -> Content:
    """Ids that go on over the answers: prompt and answer are one path, of which the prompt is the head."""
    paths = given.within(hashed_tokens)
    whole = pieces_of(paths, hashed_tokens)
    output_chain = answer_chains(whole, prompt_tokens)
    return Content(
        pieces=heads(whole, prompt_tokens),
        output_chain=output_chain,
        rates=hash_hit_rates(paths, prompt_tokens, hashed_tokens),
        notes=("what answers say is known: a later prompt that repeats one can hit it",),
        generated_known=bool(np.any(output_chain >= 0)),
    )


def _from_sessions(session: Ints, prompt_tokens: Ints) -> Content:
    sizes = np.bincount(session[session >= 0], minlength=1)
    shared = (session >= 0) & (sizes[session] > 1)
    chain = np.where(shared, session, _alone(len(session)))
    if np.any(session >= 0):
        note = (
            "no hash ids: blocks are synthesised per session, every prompt being the head of its session's one stream "
            "of prompts and answers"
        )
    else:
        note = "no hash ids, no sessions: blocks are synthesised per request, nothing can be hit"
    return Content(
        pieces=Pieces(np.arange(len(session) + 1, dtype=np.int64), chain, prompt_tokens.astype(np.int32)),
        output_chain=chain,
        rates=HitRates(None, None, None),
        notes=(note,),
        generated_known=bool(np.any(shared)),
    )
