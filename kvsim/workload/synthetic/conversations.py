"""Conversations of so many turns: every prompt carries all questions and answers before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kvsim import room
from kvsim.errors import WorkloadError
from kvsim.workload.hits import token_hit_rate
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.lengths import Lengths
from kvsim.workload.records import MAX_TOKENS
from kvsim.workload.workload import Workload

TURN_BYTES = 400
"""Memory that drawing takes."""


@dataclass(frozen=True)
class Conversation:
    """What its turns are like."""

    turns: int
    new: Lengths
    """Tokens that a turn adds to the prompt."""
    answers: Lengths
    think_s: float
    """Mean pause between an answer and the next turn: exponential."""
    prefix_tokens: int = 0
    """Tokens at the head of the first turn that conversations share."""
    num_prefixes: int = 1


def conversations(
    shape: Conversation, num_requests: int, rate_per_s: float, seed: int, pace_s: float, source: str
) -> Workload:
    """The first ``num_requests`` turns of stationary conversations at ``rate_per_s`` from time 0 on: an open loop.

    Conversations start as a Poisson process. A turn follows the answer before it, taken to last ``pace_s`` a token,
    and a pause. Those that have begun before time 0 go on with the history that they have by then.
    """
    count = -(-num_requests // shape.turns)
    fits = f"up to about {room.about(room.most(TURN_BYTES))} requests would fit"
    room.require(count * shape.turns * TURN_BYTES, f"{source}: {num_requests:,} requests", fits)
    if not 0 < rate_per_s < np.inf:
        raise WorkloadError(f"arrival rate is {rate_per_s} requests/s; allowed: a finite number > 0")
    random = np.random.default_rng(seed)
    size = (count, shape.turns)
    new = shape.new.draw(count * shape.turns, random).reshape(size)
    answers = shape.answers.draw(count * shape.turns, random).reshape(size)
    history = np.cumsum(new + answers, axis=1) - new - answers
    if (longest := int((history + new).max())) > MAX_TOKENS:
        raise WorkloadError(f"{source}: a prompt would have {longest:,} tokens; allowed: up to {MAX_TOKENS:,}")
    period_s = count * shape.turns / rate_per_s
    gaps_s = answers * pace_s + random.exponential(shape.think_s, size)
    elapsed_s = random.uniform(0.0, period_s, (count, 1)) + np.cumsum(gaps_s, axis=1) - gaps_s
    # Given how many there are, the starts of a Poisson process are uniform; what lies behind the period is what
    # conversations begun before it still ask.
    laps = np.floor_divide(elapsed_s, period_s)
    _, session = np.unique(np.arange(count)[:, None] * (laps.max() + 1) + laps, return_inverse=True)
    head = np.minimum(shape.prefix_tokens, new[:, :1] - 1) + np.zeros(size, dtype=np.int64)
    prefix = np.repeat(random.integers(shape.num_prefixes, size=count), shape.turns)
    arrival_s = np.maximum(elapsed_s - laps * period_s, 0.0).ravel()
    rows = np.argsort(arrival_s, kind="stable")[:num_requests]
    return _assembled(
        arrival_s[rows],
        np.unique(session.ravel()[rows], return_inverse=True)[1],
        prefix[rows],
        head.ravel()[rows],
        (history + new).ravel()[rows],
        answers.ravel()[rows],
        shape,
        source,
    )


def _assembled(
    arrival_s: np.ndarray,
    session: np.ndarray,
    prefix: np.ndarray,
    head: np.ndarray,
    prompts: np.ndarray,
    answers: np.ndarray,
    shape: Conversation,
    source: str,
) -> Workload:
    own = shape.num_prefixes + session
    chain = np.stack((prefix, own), axis=1).ravel()
    tokens = np.stack((head, prompts - head), axis=1).ravel()
    columns: dict[str, Any] = {
        "prompt_tokens": prompts.astype(np.int32),
        "output_tokens": answers.astype(np.int32),
        "output_chain": own,
        "piece_offsets": np.concatenate(([0], np.cumsum(tokens > 0)))[::2],
        "piece_chain": chain[tokens > 0],
        "piece_tokens": tokens[tokens > 0].astype(np.int32),
    }
    info = WorkloadInfo(
        source,
        "synthetic",
        infinite_cache_hit_rate_tokens=token_hit_rate(**columns),
        notes=(f"conversations of {shape.turns} turns that carry their whole history",),
        generated_known=True,
    )
    return Workload(arrival_s=arrival_s, session_id=session, info=info, **columns)
