"""Agents: sessions of tool calls, whose results and thoughts grow the context turn by turn."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace
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
_LAPS, _SUBAGENTS = 1 << 32, 1 << 61
"""Apart from each other, sessions that one is cut into, and those of sub-agents."""
SUBAGENT_TURNS = (2, 8)
"""Fewest and most."""
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


@dataclass(frozen=True)
class Spawning:
    """How often agents let sub-agents work for them, instead of a tool."""

    share: float = 0.0
    """How many of the turns are followed by sub-agents."""
    subagents: int = 3
    """How many at a time; the next turn waits for the last of them."""


NO_SUBAGENTS = Spawning()


def agent_graph(
    traffic: AgentTrace,
    num_requests: int,
    rate_per_s: float,
    seed: int,
    spawning: Spawning = NO_SUBAGENTS,
    answer_s_per_token: float | None = None,
) -> Workload:
    """The first ``num_requests`` of agents that come and go at a steady rate from time 0 on, as a request graph.

    A turn is sent when the answer before it has come and its tool has answered; where sub-agents are spawned, when all
    of them have ended. Sub-agents have a context of their own, and ``SUBAGENT_TURNS`` turns. Sessions start as a
    Poisson process; those that have begun before time 0 go on with the context that they have by then. With answers
    that last ``answer_s_per_token`` a token, ``rate_per_s`` requests are sent a second. Raises ``WorkloadError`` where
    that is no finite number above 0.
    """
    if not 0 < rate_per_s < np.inf:
        raise WorkloadError(f"arrival rate is {rate_per_s} requests/s; allowed: a finite number > 0")
    if not 0 <= spawning.share <= 1 or spawning.subagents < 1:
        raise WorkloadError(
            f"{spawning.subagents} sub-agents after a share of {spawning.share} of the turns; allowed: 1 or more, "
            "after a share from 0 to 1"
        )
    most = room.about(room.most(TURN_BYTES))
    room.require(num_requests * TURN_BYTES, f"{num_requests:,} turns of agents", f"up to about {most} would fit")
    random = np.random.default_rng(seed)
    drawn, total = [], 0
    while total < num_requests:
        drawn.append(_drawn(traffic, random, spawning))
        total += drawn[-1].requests
    found, thought_s = Assembly(), _thought_tokens(traffic) * assumed_pace_s(answer_s_per_token)
    period_s = total / rate_per_s
    for session, start_s in enumerate(random.uniform(0.0, period_s, len(drawn)).tolist()):
        _add(found, traffic, session, drawn[session], thought_s, start_s, period_s)
    notes = _notes(traffic)
    if spawning.share > 0:
        notes += (f"{spawning.share:.3g} of the turns are followed by {spawning.subagents} sub-agents",)
    first = found.workload("synthetic agents", notes, closed=True).limited(num_requests)
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
    spawned: dict[int, list[_Session]]
    """By the turn that they follow."""

    @property
    def requests(self) -> int:
        """With those of its sub-agents."""
        return len(self.results) + sum(sub.requests for subs in self.spawned.values() for sub in subs)


def _drawn(traffic: AgentTrace, random: np.random.Generator, spawning: Spawning = NO_SUBAGENTS) -> _Session:
    session = _turns(traffic, random, traffic.turns_min, traffic.turns_max)
    if spawning.share > 0:
        for turn in np.flatnonzero(random.random(max(len(session.results) - 1, 0)) < spawning.share).tolist():
            session.spawned[turn] = [_turns(traffic, random, *SUBAGENT_TURNS) for _ in range(spawning.subagents)]
    return session


def _turns(traffic: AgentTrace, random: np.random.Generator, fewest: int, most: int) -> _Session:
    system, tools = int(random.integers(traffic.num_system_prompts)), int(random.integers(traffic.num_tool_sets))
    turns = int(random.integers(fewest, most, endpoint=True))
    results = random.integers(traffic.tool_result_min_tokens, traffic.tool_result_max_tokens, turns, endpoint=True)
    waits_s = random.exponential(TOOL_S, turns)
    context = SYSTEM_PROMPT_TOKENS + traffic.tool_def_tokens + np.cumsum(results + _thought_tokens(traffic))
    held = int(np.searchsorted(context, MOST_CONTEXT_TOKENS, side="right"))
    # A tool that nobody asks any more still takes its time before the last turn.
    return _Session(system, tools, results[:held].tolist(), waits_s[: held + 1].tolist(), {})


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
    thought, last = _thought_tokens(traffic), len(drawn.waits_s) - 1
    time_s, lap, before, turns = start_s, 0, [-1], _Context(traffic, drawn, (session,))
    for turn, result in enumerate(drawn.results):
        if time_s // period_s > lap:
            lap, before = int(time_s // period_s), [-1]
            turns = turns.renamed((session, lap))
        row = found.add(
            time_s - lap * period_s if lap else time_s,
            turns.asked(turn, result),
            thought,
            session=session + _LAPS * lap,
            after=before,
            think_s=0.0 if turn - 1 in drawn.spawned else drawn.waits_s[turn],
            answer=turns.name("thought", turn),
        )
        turns.answered(turn, thought)
        before = [row]
        if turn in drawn.spawned:
            time_s += thought_s
            ends_s = [time_s]
            for number, sub in enumerate(drawn.spawned[turn]):
                own = (*turns.own, turn, number)
                after, end_s = _add_sub(found, traffic, own, sub, thought_s, time_s, (lap + 1) * period_s, row)
                before += after
                ends_s.append(end_s)
            time_s = max(ends_s)
        else:
            time_s += thought_s + drawn.waits_s[min(turn + 1, last)]


def _add_sub(
    found: Assembly,
    traffic: AgentTrace,
    own: tuple[int, ...],
    drawn: _Session,
    thought_s: float,
    start_s: float,
    period_end_s: float,
    spawner: int,
) -> tuple[list[int], float]:
    """A sub-agent's turns up to the end of the period: the last of them, and when its answer would come."""
    thought, time_s, before = _thought_tokens(traffic), start_s, spawner
    turns, session = _Context(traffic, drawn, own), _SUBAGENTS + len(found.paths)
    lap_s = found.arrival_s[spawner] + thought_s - start_s
    for turn, result in enumerate(drawn.results):
        wait_s = drawn.waits_s[turn] if turn else 0.0
        time_s += wait_s
        if time_s >= period_end_s:
            return [], time_s
        before = found.add(
            time_s + lap_s,
            turns.asked(turn, result),
            thought,
            session=session,
            after=before,
            think_s=wait_s,
            answer=turns.name("thought", turn),
        )
        turns.answered(turn, thought)
        time_s += thought_s
    return [before], time_s


class _Context:
    """What an agent's next prompt is made of."""

    def __init__(self, traffic: AgentTrace, drawn: _Session, own: tuple[int, ...]) -> None:
        self.own = own
        self._head: list[Part] = [
            (("system", drawn.system), SYSTEM_PROMPT_TOKENS),
            (("tools", drawn.tools), traffic.tool_def_tokens),
        ]
        self._said: list[tuple[str, int, int]] = []
        self._parts = list(self._head)

    def renamed(self, own: tuple[int, ...]) -> _Context:
        """The context of another agent, who has said as much."""
        self.own = own
        self._parts = [*self._head, *((self.name(what, turn), tokens) for what, turn, tokens in self._said)]
        return self

    def name(self, what: str, turn: int) -> Hashable:
        return (*self.own, what, turn)

    def asked(self, turn: int, tokens: int) -> list[Part]:
        """The prompt with a tool's result behind all that was said."""
        self._grow("result", turn, tokens)
        return self._parts

    def answered(self, turn: int, tokens: int) -> None:
        self._grow("thought", turn, tokens)

    def _grow(self, what: str, turn: int, tokens: int) -> None:
        self._parts.append((self.name(what, turn), tokens))
        self._said.append((what, turn, tokens))
