"""Multi-turn chat over shared system prompts: the default traffic of prefill/decode runs.

Every prompt begins with one of a few system prompts. A share of the sessions are conversations: each of their turns
carries all earlier questions and answers, so that generated KV can be hit. The turns of the others (tool calls, one-off
questions) carry nothing. The share is what brings the mean history over all turns to the one asked for. Carrying a cut
or summarised history everywhere would give the same mean, but a cut moves every token and so ends prefix reuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kvsim import room
from kvsim.errors import WorkloadError
from kvsim.workload.hits import token_hit_rate
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.records import MAX_TOKENS
from kvsim.workload.times import assumed_pace_s
from kvsim.workload.workload import Floats, Ints, Workload

if TYPE_CHECKING:
    from kvsim.config.schema import PdTrace

# Tool and system prompts differ in length: evenly spread around their mean by this share of it.
SYSTEM_PROMPT_SPREAD = 0.5
MAX_RATE_PER_S = 1e9
TURN_BYTES, SYSTEM_PROMPT_BYTES = 400, 24
"""Memory that drawing takes."""


def chat(
    traffic: PdTrace,
    num_requests: int,
    rate_per_s: float,
    seed: int,
    max_output_tokens: int | None = None,
    answer_s_per_token: float | None = None,
) -> Workload:
    """The first ``num_requests`` turns of stationary multi-turn chat at ``rate_per_s`` from time 0 on.

    Sessions start as a Poisson process; a turn follows the one before after its answer and an exponential pause,
    whatever the simulated system does (open loop). What stands in ``traffic`` is described in ``config.yaml``;
    ``num_sessions`` and ``turns_per_session`` bound the requests. ``max_output_tokens`` cuts answers,
    ``answer_s_per_token`` says how long they are taken to last. Raises ``WorkloadError`` for numbers that cannot go
    together.
    """
    sessions = _num_sessions(traffic, num_requests)
    if not 0 < rate_per_s <= MAX_RATE_PER_S:
        raise WorkloadError(f"arrival rate is {rate_per_s:g} requests/s; allowed: above 0, up to {MAX_RATE_PER_S:g}")
    _check_room(traffic, sessions)
    random = np.random.default_rng(seed)
    turns = _turns(traffic, sessions, rate_per_s, random, max_output_tokens, assumed_pace_s(answer_s_per_token))
    return _assembled(traffic, turns, num_requests)


def _check_room(traffic: PdTrace, sessions: int) -> None:
    turns = traffic.turns_per_session
    what = f"pd_trace: {sessions * turns:,} requests, {sessions:,} sessions of {turns:,} turns"
    fits = f"up to about {room.about(room.most(TURN_BYTES))} requests would fit"
    room.require(sessions * turns * TURN_BYTES, what, fits)
    prompts = traffic.num_system_prompts
    fits = f"up to about {room.about(room.most(SYSTEM_PROMPT_BYTES))} would fit"
    room.require(prompts * SYSTEM_PROMPT_BYTES, f"pd_trace.num_system_prompts = {prompts:,}", fits)


def _num_sessions(traffic: PdTrace, num_requests: int) -> int:
    if num_requests < 1:
        raise WorkloadError(f"pd_trace.num_requests is {num_requests}; allowed: 1 or more")
    if traffic.num_sessions is None:
        return -(-num_requests // traffic.turns_per_session)
    if num_requests > traffic.num_sessions * traffic.turns_per_session:
        raise WorkloadError(
            f"pd_trace.num_requests is {num_requests}; allowed: up to num_sessions x turns_per_session = "
            f"{traffic.num_sessions * traffic.turns_per_session}"
        )
    return traffic.num_sessions


@dataclass(frozen=True, eq=False)
class _Turns:
    """All turns of all sessions, session after session; flat columns."""

    session: Ints
    """Numbered from 0. A session that reaches past the end of the period goes on at its start as another one."""
    arrival_s: Floats
    system_prompt: Ints
    new_tokens: Ints
    history_tokens: Ints
    output_tokens: Ints
    converses: npt.NDArray[np.bool_]


def _turns(
    traffic: PdTrace,
    sessions: int,
    rate_per_s: float,
    random: np.random.Generator,
    max_output_tokens: int | None,
    pace_s: float,
) -> _Turns:
    shape = (sessions, traffic.turns_per_session)
    new_tokens = _new_tokens(traffic, shape, random)
    output_tokens = _lognormal(traffic.output_tokens_mean, traffic.output_tokens_cv, shape, random)
    if max_output_tokens is not None:
        output_tokens = np.minimum(output_tokens, max_output_tokens)
    before = np.cumsum(new_tokens + output_tokens, axis=1) - new_tokens - output_tokens
    converses = random.random(sessions) < _conversing_share(traffic, float(before.mean()))
    period_s = sessions * traffic.turns_per_session / rate_per_s
    elapsed_s = _elapsed_s(traffic, output_tokens, pace_s, period_s, random)
    system_prompt = random.integers(traffic.num_system_prompts, size=sessions)
    laps = np.floor_divide(elapsed_s, period_s)
    _, session = np.unique(np.arange(sessions)[:, None] * (laps.max() + 1) + laps, return_inverse=True)
    return _Turns(
        session=session.ravel(),
        arrival_s=np.maximum(elapsed_s - laps * period_s, 0.0).ravel(),
        system_prompt=np.repeat(system_prompt, shape[1]),
        new_tokens=new_tokens.ravel(),
        history_tokens=np.where(converses[:, None], before, 0).ravel(),
        output_tokens=output_tokens.ravel(),
        converses=np.repeat(converses, shape[1]),
    )


def _elapsed_s(
    traffic: PdTrace, output_tokens: Ints, pace_s: float, period_s: float, random: np.random.Generator
) -> Floats:
    """When each turn arrives, counted from the start of the period its session begins in; it may lie in a later one.

    Turned back into the period, such turns make the traffic stationary from time 0 on: they are what sessions begun
    before then still ask. Given their number, the starts of a Poisson process are uniform.
    """
    pauses = random.exponential(traffic.think_time_s, output_tokens.shape) + output_tokens * pace_s
    starts = random.uniform(0.0, period_s, (len(output_tokens), 1))
    return np.concatenate((starts, starts + np.cumsum(pauses[:, :-1], axis=1)), axis=1)


def _conversing_share(traffic: PdTrace, full_history_tokens: float) -> float:
    """The share of sessions that carry their history; ``full_history_tokens`` is its mean over turns where carried."""
    if traffic.history_tokens_mean > full_history_tokens * 1.001 and traffic.turns_per_session > 1:
        raise WorkloadError(
            f"pd_trace.history_tokens_mean is {traffic.history_tokens_mean:g}; allowed: up to "
            f"{full_history_tokens:.0f}, what {traffic.turns_per_session} turns of this length can carry"
        )
    return traffic.history_tokens_mean / full_history_tokens if full_history_tokens > 0 else 0.0


def _new_tokens(traffic: PdTrace, shape: tuple[int, int], random: np.random.Generator) -> Ints:
    """New tokens of every turn: uniform between the seed's bounds where given, else lognormal."""
    low, high = traffic.prompt_tokens_min, traffic.prompt_tokens_max
    if low is None and high is None:
        return _lognormal(traffic.new_tokens_mean, traffic.new_tokens_cv, shape, random)
    if low is None or high is None or low > high:
        raise WorkloadError(
            f"pd_trace.prompt_tokens_min is {low} and prompt_tokens_max {high}; allowed: both given, min <= max"
        )
    return random.integers(low, high, size=shape, endpoint=True)


def _lognormal(mean: float, cv: float, shape: tuple[int, int], random: np.random.Generator) -> Ints:
    """Whole numbers from 1 up with a lognormal's mean and coefficient of variation."""
    variance = np.log1p(cv**2)
    drawn = random.lognormal(np.log(mean) - variance / 2, np.sqrt(variance), shape)
    return np.maximum(np.rint(drawn), 1).astype(np.int64)


def _system_prompt_tokens(traffic: PdTrace) -> Ints:
    """The length of every system prompt; the seed gave all sessions the same initial context."""
    if traffic.initial_context_tokens is not None:
        return np.full(traffic.num_system_prompts, traffic.initial_context_tokens, dtype=np.int64)
    spread = SYSTEM_PROMPT_SPREAD if traffic.num_system_prompts > 1 else 0.0
    share = np.linspace(1 - spread, 1 + spread, traffic.num_system_prompts)
    return np.rint(share * traffic.system_prompt_tokens).astype(np.int64)


def _assembled(traffic: PdTrace, turns: _Turns, num_requests: int) -> Workload:
    """The earliest turns as requests: a piece of the system prompt's chain, then one of the session's or its own."""
    row = np.argsort(turns.arrival_s, kind="stable")[:num_requests]
    _, session = np.unique(turns.session[row], return_inverse=True)
    alone = -1 - np.arange(num_requests, dtype=np.int64)
    own_chain = np.where(turns.converses[row], traffic.num_system_prompts + session, alone)
    own_tokens = turns.history_tokens[row] + turns.new_tokens[row]
    system = turns.system_prompt[row]
    system_tokens = _system_prompt_tokens(traffic)[system]
    if (longest := int((system_tokens + own_tokens).max())) > MAX_TOKENS:
        raise WorkloadError(f"pd_trace: a prompt would have {longest:,} tokens; allowed: up to {MAX_TOKENS:,}")
    chain = np.stack((system, own_chain), axis=1).ravel()
    tokens = np.stack((system_tokens, own_tokens), axis=1).ravel().astype(np.int32)
    kept = tokens > 0
    offsets = np.concatenate(([0], np.cumsum(kept)))[::2].copy()
    columns: dict[str, Any] = {
        "prompt_tokens": (system_tokens + own_tokens).astype(np.int32),
        "output_tokens": turns.output_tokens[row].astype(np.int32),
        "output_chain": own_chain,
        "piece_offsets": offsets,
        "piece_chain": chain[kept],
        "piece_tokens": tokens[kept],
    }
    info = WorkloadInfo(
        source="synthetic chat",
        format="synthetic",
        infinite_cache_hit_rate_tokens=token_hit_rate(**columns),
        notes=(f"{np.mean(turns.converses):.1%} of sessions are conversations that carry their whole history",),
        generated_known=bool(np.any(turns.converses)),
    )
    return Workload(arrival_s=turns.arrival_s[row], session_id=session, info=info, **columns)
