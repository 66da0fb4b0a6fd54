"""A measurement: ask the server what it is, replay the workload, read its counters beside."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from kvsim._version import __version__
from kvsim.errors import ConfigError
from kvsim.measure.connection import Connection, allow_connections
from kvsim.measure.lag import LoopLag, is_saturated, p99
from kvsim.measure.metric_reader import MetricReader
from kvsim.measure.probe import Found, Probe
from kvsim.measure.prompts import Prompts
from kvsim.measure.replay import Replay
from kvsim.measure.result import ClientFacts, MeasuredRun, RequestRow, ServerMetrics
from kvsim.measure.sender import Progress, Sender
from kvsim.measure.settings import Sending, Server
from kvsim.measure.texts import Texts
from kvsim.measure.wire import Wire
from kvsim.workload.workload import Workload

_PROBE_TOKENS = 12


@dataclass(frozen=True)
class Measurement:
    """What is sent, where and how."""

    server: Server
    workload: Workload
    sending: Sending
    words: str = ""
    seed: int | None = None
    progress: Progress | None = None
    content: Workload | None = None
    """What the workload is a part of; ``None``: it is all there is."""

    async def run(self) -> MeasuredRun:
        """Measure. Raises ``ConfigError`` where the server cannot be measured."""
        most = self.workload.max_concurrency
        allow_connections(None if most is None else min(most, len(self.workload)))
        sending = self.sending
        texts = None if sending.tokenizer is None else Texts(sending.tokenizer)
        alphabet = np.arange(*sending.vocabulary, dtype=np.int64) if texts is None else texts.alphabet
        connection = Connection(self.server, sending.timeout_s, sending.connect_timeout_s)
        try:
            # Nothing of the workload's is in this prompt, but by chance its first token.
            random = np.random.default_rng((abs(sending.content_seed), 1))
            sample = random.choice(alphabet, _PROBE_TOKENS)
            found = await Probe(connection, self.server, sending, texts, sample).find()
            prompts = Prompts(self.workload, alphabet, sending.content_seed, self.content)
            wire = Wire(sending, found.model, found.abilities, texts, found.template_tokens)
            return await self._replayed(connection, Sender(connection, wire, prompts, self.progress), found)
        finally:
            await connection.close()

    async def _replayed(self, connection: Connection, sender: Sender, found: Found) -> MeasuredRun:
        replay = Replay(self.workload, sender, sender.now_s)
        replay.make_ready()
        reader, lag = MetricReader(connection, sender.now_s), LoopLag()
        before = await reader.read()
        started = datetime.now(UTC)
        with _garbage_frozen(), _on_interrupt(replay.stop):
            sender.start()
            lag.start()
            async with beside(reader.watch(self.sending.metrics_interval_s), lag.watch()):
                await replay.run()
                duration_s, cpu_share = sender.now_s(), lag.cpu_share()
        metrics = ServerMetrics(before, await reader.read(), tuple(reader.samples))
        rows = sender.sent_rows()
        return MeasuredRun(
            rows=rows,
            duration_s=duration_s,
            client=_facts(rows, lag, cpu_share, replay.most_in_flight),
            metrics=metrics,
            url=self.server.shown,
            model=found.model,
            workload=self.words,
            seed=self.seed,
            endpoint=self.sending.endpoint,
            started_at=started.isoformat(timespec="milliseconds"),
            asked=len(self.workload),
            max_concurrency=self.workload.max_concurrency,
            waits=self.workload.graph is not None,
            timeout_s=self.sending.timeout_s,
            incomplete=replay.stopped,
            notes=(*found.notes, *sender.notes(self.workload, found)),
            server=found.facts(),
        )


def _facts(rows: tuple[RequestRow, ...], lag: LoopLag, cpu_share: float, most_in_flight: int) -> ClientFacts:
    late_s = [row.lag_s for row in rows]
    return ClientFacts(
        version=__version__,
        lag_p99_s=p99(late_s),
        lag_max_s=max(late_s, default=0.0),
        loop_lag_p99_s=p99(lag.late_s),
        loop_lag_max_s=max(lag.late_s, default=0.0),
        cpu_share=cpu_share,
        most_in_flight=most_in_flight,
        saturated=is_saturated(p99(late_s), p99(lag.late_s), cpu_share),
    )


def check(sending: Sending, workload: Workload) -> None:
    """Raise ``ConfigError`` for what cannot be sent."""
    low, high = sending.vocabulary
    if not 0 <= low < high - 1:
        raise ConfigError(f"vocabulary {low}:{high}; allowed: FROM:TO, two or more token ids from 0 on")
    if not len(workload):
        raise ConfigError("the workload has no requests")
    if sending.endpoint == "chat" and sending.tokenizer is None:
        raise ConfigError("a chat is text, and text of a known number of tokens wants --tokenizer FILE")


@asynccontextmanager
async def beside(*watching: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Coroutines that run for ever, until the block ends."""
    tasks = [asyncio.create_task(each) for each in watching]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _garbage_frozen() -> Iterator[None]:
    """What is there already is not looked through again and again while tokens are timed."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _after(seconds: float | None, stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` then, if the block still lasts."""
    handle = None if seconds is None else asyncio.get_running_loop().call_later(seconds, stop)
    try:
        yield
    finally:
        if handle is not None:
            handle.cancel()


@contextmanager
def _on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C calls ``stop``, where signals can be caught: not beside the main thread, and not on Windows."""
    loop = asyncio.get_running_loop()
    is_main = threading.current_thread() is threading.main_thread()
    if is_main:
        try:
            loop.add_signal_handler(signal.SIGINT, stop)
        except NotImplementedError:
            is_main = False
    try:
        yield
    finally:
        if is_main:
            loop.remove_signal_handler(signal.SIGINT)
