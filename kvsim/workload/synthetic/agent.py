"""Agents: sessions of tool calls, whose results and thoughts grow the context turn by turn."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kvsim import room
from kvsim.errors import WorkloadError
from kvsim.workload.synthetic.arrivals import arrival_times
from kvsim.workload.synthetic.assembled import Assembly, Part
from kvsim.workload.times import assumed_pace_s
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from kvsim.config.schema import AgentTrace

MOST_CONTEXT_TOKENS = 128 * 1024
"""A session whose next turn would be longer ends there, as an agent that runs out of context does."""
SYSTEM_PROMPT_TOKENS = 1024
TURN_BYTES, DRAW_BYTES = 9_200, 40
"""Memory that a turn takes, and that drawing one does before it is known whether the context holds it."""
_LAPS = 1 << 32
"""Apart from each other, sessions that one is cut into."""
TOOL_S = 2.0
"""Mean time a tool takes to answer: exponential."""


def agent(
    traffic: AgentTrace,
    num_sessions: int,
    sessions_per_s: float,
    seed: int,
    arrivals: str = "poisson",
    *,
    closed: bool = False,
    answer_s_per_token: float | None = None,
) -> Workload:
    """``num_sessions`` agents, each with ``turns_min`` to ``turns_max`` turns over one tool set and system prompt.

    A prompt is the system prompt, the tool definitions, and every earlier thought and tool result. A turn follows the
    answer before it and the time its tool takes; ``closed`` waits for that answer, else it is taken to last
    ``answer_s_per_token`` a token. All but the last tool result of a prompt was in the prompt before, so most of it can
    be hit.
    """
    each_tokens = max(traffic.reasoning_tokens, 1) + traffic.tool_result_min_tokens
    turns = min((traffic.turns_min + traffic.turns_max) / 2, MOST_CONTEXT_TOKENS / each_tokens)
    room.require(traffic.turns_max * DRAW_BYTES, f"agent_trace.turns_max = {traffic.turns_max:,}")
    most = room.about(room.most(turns * TURN_BYTES))
    what = f"{num_sessions:,} agents of {turns:,.4g} turns"
    room.require(num_sessions * turns * TURN_BYTES, what, f"up to about {most} agents would fit")
    random = np.random.default_rng(seed)
    starts_s = arrival_times(arrivals, num_sessions, sessions_per_s, random)
    found, thought_s = Assembly(), _thought_tokens(traffic) * assumed_pace_s(answer_s_per_token)
    for session in range(num_sessions):
        _add(found, traffic, session, _drawn(traffic, random), thought_s, float(starts_s[session]))
    return found.workload("synthetic agents", _notes(traffic), closed=closed)


def stationary_agents(
    traffic: AgentTrace,
    num_requests: int,
    rate_per_s: float,
    seed: int,
    answer_s_per_token: float | None = None,
) -> Workload:
    """The first ``num_requests`` turns of such agents that come and go at a steady rate from time 0 on: an open loop.

    Sessions start as a Poisson process; those that have begun before time 0 go on with the context that they have by
    then. Raises ``WorkloadError`` where the rate is no finite number above 0.
    """
    if not 0 < rate_per_s < np.inf:
        raise WorkloadError(f"arrival rate is {rate_per_s} requests/s; allowed: a finite number > 0")
    most = room.about(room.most(TURN_BYTES))
    room.require(num_requests * TURN_BYTES, f"{num_requests:,} turns of agents", f"up to about {most} would fit")
    random = np.random.default_rng(seed)
    drawn, total = [], 0
    while total < num_requests:
        drawn.append(_drawn(traffic, random))
        total += len(drawn[-1].results)
    found, thought_s = Assembly(), _thought_tokens(traffic) * assumed_pace_s(answer_s_per_token)
    period_s = total / rate_per_s
    for session, start_s in enumerate(random.uniform(0.0, period_s, len(drawn)).tolist()):
        _add(found, traffic, session, drawn[session], thought_s, start_s, period_s)
    first = found.workload("synthetic agents", _notes(traffic), closed=False).limited(num_requests)
    return replace(first, session_id=np.unique(first.session_id, return_inverse=True)[1])


def _notes(traffic: AgentTrace) -> tuple[str, ...]:
    return (f"agents of {traffic.turns_min} to {traffic.turns_max} turns, up to {MOST_CONTEXT_TOKENS:,} tokens",)


def _thought_tokens(traffic: AgentTrace) -> int:
    return max(traffic.reasoning_tokens, 1)


class _Session(NamedTuple):
    """What one agent does: the results that its tools give, as many as its context holds, and how long each takes."""

    system: int
    tools: int
    results: list[int]
    waits_s: list[float]


def _drawn(traffic: AgentTrace, random: np.random.Generator) -> _Session:
    system, tools = int(random.integers(traffic.num_system_prompts)), int(random.integers(traffic.num_tool_sets))
    turns = int(random.integers(traffic.turns_min, traffic.turns_max, endpoint=True))
    results = random.integers(traffic.tool_result_min_tokens, traffic.tool_result_max_tokens, turns, endpoint=True)
    waits_s = random.exponential(TOOL_S, turns)
    context = SYSTEM_PROMPT_TOKENS + traffic.tool_def_tokens + np.cumsum(results + _thought_tokens(traffic))
    held = int(np.searchsorted(context, MOST_CONTEXT_TOKENS, side="right"))
    # A tool that nobody asks any more still takes its time before the last turn.
    return _Session(system, tools, results[:held].tolist(), waits_s[: held + 1].tolist())


def _add(
    found: Assembly,
    traffic: AgentTrace,
    session: int,
    drawn: _Session,
    thought_s: float,
    start_s: float,
    period_s: float = math.inf,
) -> None:
    """The turns of a session. What lies behind the period is at its start, as the turns of another session."""
    head: list[Part] = [
        (("system", drawn.system), SYSTEM_PROMPT_TOKENS),
        (("tools", drawn.tools), traffic.tool_def_tokens),
    ]
    thought, last = _thought_tokens(traffic), len(drawn.waits_s) - 1
    before, time_s, lap = -1, start_s, 0
    own: tuple[int, ...] = (session,)
    said: list[tuple[str, int, int]] = []
    parts = list(head)
    for turn, result in enumerate(drawn.results):
        if time_s // period_s > lap:
            lap, before = int(time_s // period_s), -1
            own = (session, lap)
            parts = [*head, *(((*own, what, place), tokens) for what, place, tokens in said)]
        parts.append(((*own, "result", turn), result))
        before = found.add(
            time_s - lap * period_s if lap else time_s,
            parts,
            thought,
            session=session + _LAPS * lap,
            after=before,
            think_s=drawn.waits_s[turn],
            answer=(*own, "thought", turn),
        )
        parts.append(((*own, "thought", turn), thought))
        said += (("result", turn, result), ("thought", turn, thought))
        time_s += thought_s + drawn.waits_s[min(turn + 1, last)]
