"""The answers to one HTTP request while they come: what is out already, and who waits for more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvsim.serve.answers import Answer

if TYPE_CHECKING:
    from kvsim.serve.engine import SimulatedEngine
    from kvsim.sim.online import RequestFacts


class Stream:
    """One answer on its way. What is kept of it is how many tokens came at each step: whoever reads slowly costs no
    more than that."""

    __slots__ = (
        "answer",
        "facts",
        "first_s",
        "is_aborted",
        "is_refused",
        "last_s",
        "prompt",
        "reply",
        "request_id",
        "sent_s",
        "steps",
    )

    def __init__(self, reply: Reply, request_id: int, prompt: int, answer: Answer) -> None:
        self.reply, self.request_id, self.prompt, self.answer = reply, request_id, prompt, answer
        self.steps: deque[int] = deque()
        """Tokens that came at each step and nobody has taken yet."""
        self.facts: RequestFacts | None = None
        """What is known of it once it is complete."""
        self.is_refused = self.is_aborted = False
        self.sent_s = 0.0
        self.first_s = self.last_s = -1.0
        """Simulated times at which the first and the last token so far came; below 0: none has."""

    @property
    def is_over(self) -> bool:
        return self.facts is not None or self.is_refused or self.is_aborted

    def tokens(self, count: int, time_s: float) -> None:
        self.steps.append(count)
        self.reply.engine.counted(self, count, time_s)
        self.last_s = time_s
        if self.first_s < 0:
            self.first_s = time_s

    def finished(self, facts: RequestFacts) -> None:
        self.facts = facts
        self.reply.over(self)

    def refused(self) -> None:
        self.is_refused = True
        self.reply.over(self)

    def wake(self) -> None:
        self.reply.wake()


class Reply:
    """All answers to one HTTP request, in the order of their index."""

    def __init__(self, engine: SimulatedEngine, prompts: Sequence[Sequence[int]], choices: int) -> None:
        self.engine, self.prompts, self.choices = engine, prompts, choices
        self.streams: list[Stream] = []
        self.last_over: Stream | None = None
        """The one that ended last."""
        self.is_left = False
        """Whether its client has gone."""
        self.is_streamed = False
        """Whether somebody wants each token as it comes."""
        self._running = 0
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_over(self) -> bool:
        return not self._running

    @property
    def refused(self) -> Stream | None:
        """One that fits nowhere, if there is one."""
        return next((stream for stream in self.streams if stream.is_refused), None)

    def add(self, stream: Stream) -> None:
        self.streams.append(stream)
        self._running += 1

    def over(self, stream: Stream) -> None:
        """One has ended."""
        self._running -= 1
        self.last_over = stream
        self.engine.ended(stream)

    def wake(self) -> None:
        """Whoever waits looks again, if there is something that it waits for."""
        is_due = self.is_streamed or self.is_over or self.is_left
        if is_due and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def leave(self) -> None:
        """The client has gone: what still runs is aborted."""
        self.is_left = True
        self.close()
        self.wake()

    def close(self) -> None:
        """Nobody wants any more of it."""
        for stream in self.streams:
            if not stream.is_over and self.engine.abort(stream):
                stream.is_aborted = True
                self._running -= 1

    async def more(self) -> None:
        """Until something has happened since this was called."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def whole(self) -> None:
        """Until all answers are complete, or the client has gone."""
        while not self.is_over and not self.is_left:
            await self.more()
