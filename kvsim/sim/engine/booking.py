"""What requests are told of a step that runs or has run: whose time it was, and when their tokens came."""

from __future__ import annotations

from kvsim.sim.engine.block_table import shared_blocks
from kvsim.sim.engine.sequence import Sequence
from kvsim.sim.engine.step import Chunk, Step
from kvsim.sim.log.detail import EngineDetail
from kvsim.sim.log.steps import StepLog
from kvsim.steptime.curves.base import StepTime


def book_chunk(chunk: Chunk, is_lonely: bool, step_time: StepTime, start_s: float, end_s: float) -> None:
    """A step from ``start_s`` to ``end_s`` has computed a chunk. ``is_lonely``: and nothing else."""
    sequence, before = chunk.sequence, chunk.before
    state, after = sequence.state, before + chunk.tokens
    sequence.ready = after
    high_water, prompt_tokens = chunk.high_water, state.request.prompt_tokens
    again = high_water > before
    if again:
        state.recomputed_tokens += min(after, high_water) - before
        before = min(after, high_water)
    if prompt_tokens > before:
        state.computed_tokens += min(after, prompt_tokens) - before
    if state.first_token_s < 0:
        alone_s = end_s - start_s if is_lonely else -1.0
        if alone_s < 0 and not chunk.again:
            alone_s = step_time.prefill_alone_s(chunk.tokens, chunk.before)
        state.prefilled(start_s, end_s, alone_s, again or chunk.again)


def book_token(sequence: Sequence, log: StepLog, now: float, detail: EngineDetail | None) -> None:
    """The token that follows a sequence's last computed one has come."""
    state = sequence.state
    if state.first_token_s < 0:
        state.first_token_s = now
    elif sequence.last_token_s >= 0:
        if state.measured:
            log.gap(now - sequence.last_token_s)
        if detail is not None:
            detail.gap(now - sequence.last_token_s)
        sequence.last_token_s = -1.0


def book_joined(
    sequence: Sequence, step_time: StepTime, log: StepLog, start_s: float, end_s: float, detail: EngineDetail | None
) -> None:
    """A sequence whose KV came from elsewhere has its first decode step, from ``start_s`` to ``end_s``."""
    state = sequence.state
    if state.first_token_s < 0:
        state.first_decoded(start_s, end_s, step_time.decode_alone_s(sequence.num_tokens))
        return
    if state.measured:
        log.gap(end_s - state.first_token_s)
    if detail is not None:
        detail.gap(end_s - state.first_token_s)


def book_returned(step: Step, log: StepLog, end_s: float, detail: EngineDetail | None) -> int:
    """Sequences that steps before did not reach have waited longer than a step for their token, which the step that
    ended at ``end_s`` gave; how many count."""
    counted = 0
    for sequence in step.returned:
        if sequence.last_token_s >= 0:
            if sequence.state.measured:
                log.gap(end_s - sequence.last_token_s)
                counted += 1
            if detail is not None:
                detail.gap(end_s - sequence.last_token_s)
            sequence.last_token_s = -1.0
    return counted


def known_before(step: Step, chunk: Chunk, block_size: int) -> int:
    """Tokens of a chunk's sequence that have KV when its step begins, where blocks are hashed when they are scheduled:
    it may have hit some that the same step computes."""
    known = chunk.before
    if known:
        for other in step.chunks:
            if other.before < known and other is not chunk:
                shared_tokens = shared_blocks(chunk.sequence.path, other.sequence.path) * block_size
                if other.before < shared_tokens:
                    known = other.before
    return known
