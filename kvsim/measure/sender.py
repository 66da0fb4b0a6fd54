"""Sends requests of a workload, and keeps a row of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import numpy as np

from kvsim.measure.connection import FAILURES, Connection
from kvsim.measure.probe import Found
from kvsim.measure.prompt_tokens import Tokens
from kvsim.measure.prompts import Prompts
from kvsim.measure.result import INTERRUPTED, RequestRow
from kvsim.measure.stream import Answer
from kvsim.measure.wire import Wire
from kvsim.workload.request import Request
from kvsim.workload.workload import Workload

Progress = Callable[[int, float], None]
"""``progress(ended, now_s)``."""


class Sender:
    """One server and one workload."""

    def __init__(self, connection: Connection, wire: Wire, prompts: Prompts, progress: Progress | None = None) -> None:
        self._connection, self._wire, self._prompts, self._progress = connection, wire, prompts, progress
        self._start_s = time.perf_counter()
        self._bodies: dict[int, bytes] = {}
        self.rows: list[RequestRow] = []
        """Of the requests that have ended, in that order."""
        self._spread, self._miscounted = 0, 0
        self._miscounted_by = 0

    def start(self) -> None:
        """The run begins now."""
        self._start_s = time.perf_counter()

    def now_s(self) -> float:
        """The time since it began."""
        return time.perf_counter() - self._start_s

    def prepare(self, request: Request) -> int | None:
        """Make its body ahead of time, unless it waits for an answer; returns its bytes."""
        if not self._prompts.is_settled(request):
            return None
        body = self._bodies[request.request_id] = self._body(request)
        return len(body)

    def _body(self, request: Request) -> bytes:
        parts = self._prompts.parts(request)
        return self._wire.body(request, parts, wants_ids=self._prompts.holds_answer_of(request))

    async def send(self, request: Request, scheduled_s: float) -> None:
        """Send it and wait for its end, whatever that is."""
        body = self._bodies.pop(request.request_id, None) or self._body(request)
        answer = Answer(keeps=self._prompts.holds_answer_of(request))
        row = RequestRow(
            request_id=request.request_id,
            scheduled_s=scheduled_s,
            sent_s=self.now_s(),
            prompt_tokens=request.prompt_tokens,
            asked_tokens=request.output_tokens,
            pieces=request.pieces,
            output_chain=request.output_chain,
            session_id=request.session_id,
        )
        try:
            await self._connection.stream(self._wire.path, body, answer, self.now_s)
        except asyncio.CancelledError:
            row.status = INTERRUPTED
            raise
        except FAILURES as error:
            row.status, row.error = self._connection.failure(error)
        finally:
            self._ended(request, row, answer)

    def _ended(self, request: Request, row: RequestRow, answer: Answer) -> None:
        now_s = self.now_s()
        row.chunk_s, row.chunk_tokens, row.output_tokens = answer.chunk_s, answer.chunk_tokens, answer.tokens
        row.first_token_s = answer.chunk_s[0] if answer.chunk_s else None
        row.finish_s = answer.chunk_s[-1] if row.is_ok else now_s
        row.cached_tokens = answer.usage_count("prompt_tokens_details", "cached_tokens")
        counted = answer.usage_count("prompt_tokens")
        if counted is not None and row.is_ok:
            self._miscounted += counted != request.prompt_tokens
            self._miscounted_by += counted - request.prompt_tokens
            row.prompt_tokens = counted
        self._spread += answer.is_spread and row.is_ok
        self._prompts.answered(request, self._ids_of(answer) if row.is_ok else None)
        self.rows.append(row)
        if self._progress is not None:
            self._progress(len(self.rows), now_s)

    def _ids_of(self, answer: Answer) -> Tokens | None:
        """Which tokens it has, named by the server or read from its text."""
        if answer.has_ids:
            return np.asarray(answer.token_ids, dtype=np.int64)
        if self._wire.texts is not None and answer.texts:
            return self._wire.texts.ids_of("".join(answer.texts))
        return None

    def notes(self, workload: Workload, found: Found) -> Iterator[str]:
        """What was not as the workload has it."""
        prompts, answered = self._prompts, [row for row in self.rows if row.is_ok]
        short = sum(row.output_tokens < row.asked_tokens for row in answered)
        if short:
            yield f"{short:,} of {len(answered):,} answers ended before the length that was asked for"
        if self._miscounted:
            mean = self._miscounted_by / self._miscounted
            yield f"{self._miscounted:,} prompts have {mean:+.1f} tokens in the mean by the server's count"
        if self._spread:
            yield f"{self._spread:,} answers came in chunks of several tokens: each is taken to have as many"
        if prompts.made_up_tokens:
            yield (
                f"prompts hold {prompts.answer_tokens:,} tokens of earlier answers; {prompts.made_up_tokens:,} of them "
                f"are not what the server answered ({self._why(found)})"
            )
        if prompts.overlap_tokens:
            yield f"too few token ids to tell prompts apart: they may share {prompts.overlap_tokens} tokens more"
        if self._wire.inexact:
            yield f"the text of {self._wire.inexact:,} prompts reads back as other tokens"
        if workload.adapter is not None and len(np.unique(workload.adapter)) > 1:
            yield f"the workload's adapters are left out: all requests go to {found.model}"
        if found.max_model_len is not None:
            whole = workload.prompt_tokens.astype(np.int64) + workload.output_tokens
            long = int((whole > found.max_model_len).sum())
            if long:
                yield f"{long:,} requests are longer than the server's {found.max_model_len:,} tokens"

    def _why(self, found: Found) -> str:
        if not found.names_tokens and self._wire.texts is None:
            return "it names no token ids; --tokenizer reads them from the text"
        return "they came too late, failed or were shorter"
