"""What stands behind the routes: prompts become requests of a simulated system, and its tokens become answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from kvsim.serve.answers import Answers, Asked
from kvsim.serve.metrics import Metrics
from kvsim.serve.pump import Pump
from kvsim.serve.reply import Reply, Stream
from kvsim.serve.tokens import Tokens
from kvsim.sim.online import Listener, OnlineServing, OnlineState
from kvsim.workload.live_prefixes import PrefixRegistry
from kvsim.workload.request import Request

NO_SESSION = -1
LEAST_BLOCKS = 65_536
"""Blocks whose content is remembered, however small the caches are: requests that wait have some, too."""


class QueueFull(Exception):
    """More requests, or more prompt tokens, than the server takes at a time; vLLM's name of the limit."""

    def __init__(self, limit: str, most: int) -> None:
        super().__init__(f"the server is full: {limit.replace('_', '-')} is {most:,}; try again later")
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond which requests are turned away, by the names of vLLM's flags."""

    max_num_queued_reqs: int
    max_num_queued_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Sending:
    """What of a request decides where and with whom its prompts are served."""

    adapter: int = 0
    priority: int = 0
    salt: str | None = None
    session: str | None = None


class SimulatedEngine:
    """Takes prompts, and hands out the tokens of their answers as simulated time says."""

    def __init__(
        self,
        build: Callable[[Listener], OnlineServing],
        speed: float,
        tokens: Tokens,
        answers: Answers,
        most_blocks: int,
        metrics: Metrics,
        limits: Limits,
    ) -> None:
        self.tokens, self.metrics = tokens, metrics
        self.pump = Pump(build, speed)
        self._answers, self._limits = answers, limits
        known = min(max(2 * self.pump.serving.most_cached_blocks, LEAST_BLOCKS), most_blocks)
        self._registry = PrefixRegistry(self.pump.serving.block_size, known, self.pump.serving.holds)
        self.forgets = known < self.pump.serving.most_cached_blocks
        """Whether caches hold more blocks than there is memory to remember the content of."""
        self._ids = count()
        self._unanswered_tokens = 0
        """Prompt tokens of requests without a token so far."""

    def start(self) -> None:
        """Simulated time begins; called in the event loop."""
        self.pump.start()

    def state(self) -> OnlineState:
        """How things stand now."""
        self.pump.catch_up()
        return self.pump.serving.state()

    def reset_prefix_cache(self) -> bool:
        """Forget all prefixes; whether that could be done, which it cannot while requests hold blocks, as in vLLM."""
        self.pump.catch_up()
        if self.pump.in_flight:
            return False
        self.pump.serving.reset_prefix_cache()
        return True

    def submit(
        self, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[str]], asked: Sequence[Asked], choices: int,
        sending: Sending, received_s: float | None = None,
    ) -> Reply:  # fmt: skip
        """Send each prompt so many times, all of them now, or when the loop's time was ``received_s`` if nothing has
        happened since.

        ``texts``: under which the answer to each may be recorded. Raises ``QueueFull``, with nothing sent.
        """
        self._admit(len(prompts) * choices)
        reply = Reply(self, prompts, choices)
        for number, prompt in enumerate(prompts):
            for choice in range(choices):
                answer = self._answers.answer(prompt, texts[number], choice, asked[number])
                reply.add(Stream(reply, next(self._ids), number, answer))
        sent = [(self._request(stream, sending), stream) for stream in reply.streams]
        for stream in reply.streams:
            self._unanswered_tokens += len(prompts[stream.prompt])
            self.metrics.sent(asked[stream.prompt], choices)
        arrival_s = self.pump.send(sent, received_s)
        for stream in reply.streams:
            stream.sent_s = arrival_s
        return reply

    def counted(self, stream: Stream, count: int, time_s: float) -> None:
        """Tokens of an answer have come."""
        if stream.first_s < 0:
            self._unanswered_tokens -= len(stream.reply.prompts[stream.prompt])
            self.metrics.first_token_came(time_s - stream.sent_s)
        else:
            self.metrics.token_came(time_s - stream.last_s)

    def ended(self, stream: Stream) -> None:
        """An answer is complete, or there will be none."""
        if stream.first_s < 0:
            self._unanswered_tokens -= len(stream.reply.prompts[stream.prompt])
        if stream.facts is not None:
            self.metrics.finished(stream, stream.facts)
        else:
            self.metrics.failed("error")

    def abort(self, stream: Stream) -> bool:
        """The client of an answer has gone; whether the answer was still under way."""
        if not self.pump.abort(stream.request_id):
            return False
        self.metrics.failed("abort")
        if stream.first_s < 0:
            self._unanswered_tokens -= len(stream.reply.prompts[stream.prompt])
        return True

    def _admit(self, more: int) -> None:
        limits = self._limits
        if self.pump.in_flight + more > limits.max_num_queued_reqs:
            self.metrics.turned_away("max_num_queued_reqs")
            raise QueueFull("max_num_queued_reqs", limits.max_num_queued_reqs)
        most = limits.max_num_queued_tokens
        if most is not None and self._unanswered_tokens >= most:
            self.metrics.turned_away("max_num_queued_tokens")
            raise QueueFull("max_num_queued_tokens", most)

    def _request(self, stream: Stream, sending: Sending) -> Request:
        """What the simulation is asked: nothing of it is text."""
        prompt, answer = stream.reply.prompts[stream.prompt], stream.answer
        extra = None if not sending.adapter and sending.salt is None else (sending.adapter, sending.salt)
        pieces, output_chain = self._registry.pieces(prompt, answer.tokens, extra)
        return Request(
            request_id=stream.request_id,
            arrival_s=0.0,
            prompt_tokens=len(prompt),
            output_tokens=len(answer.tokens),
            session_id=_session(sending.session),
            pieces=pieces,
            output_chain=output_chain,
            priority=sending.priority,
            adapter=sending.adapter,
        )


def _session(name: str | None) -> int:
    """A number that goes with the name alone."""
    if name is None:
        return NO_SESSION
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])
