"""Agents: sessions of tool calls, whose results and thoughts grow the context turn by turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kvsim import room
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
    found, thought_s = Assembly(), max(traffic.reasoning_tokens, 1) * assumed_pace_s(answer_s_per_token)
    for session in range(num_sessions):
        _session(found, traffic, session, float(starts_s[session]), thought_s, random)
    notes = (f"agents of {traffic.turns_min} to {traffic.turns_max} turns, up to {MOST_CONTEXT_TOKENS:,} tokens",)
    return found.workload("synthetic agents", notes, closed=closed)


def _session(
    found: Assembly,
    traffic: AgentTrace,
    session: int,
    start_s: float,
    thought_s: float,
    random: np.random.Generator,
) -> None:
    parts: list[Part] = [
        (("system", int(random.integers(traffic.num_system_prompts))), SYSTEM_PROMPT_TOKENS),
        (("tools", int(random.integers(traffic.num_tool_sets))), traffic.tool_def_tokens),
    ]
    turns = int(random.integers(traffic.turns_min, traffic.turns_max, endpoint=True))
    results = random.integers(traffic.tool_result_min_tokens, traffic.tool_result_max_tokens, turns, endpoint=True)
    waits_s = random.exponential(TOOL_S, turns)
    thought = max(traffic.reasoning_tokens, 1)
    before, time_s, context = -1, start_s, SYSTEM_PROMPT_TOKENS + traffic.tool_def_tokens
    for turn in range(turns):
        context += int(results[turn])
        if context + thought > MOST_CONTEXT_TOKENS:
            return
        parts.append(((session, "result", turn), int(results[turn])))
        answer = (session, "thought", turn)
        wait_s = float(waits_s[turn])
        before = found.add(time_s, parts, thought, session=session, after=before, think_s=wait_s, answer=answer)
        parts.append((answer, thought))
        context += thought
        time_s += thought_s + float(waits_s[min(turn + 1, turns - 1)])
