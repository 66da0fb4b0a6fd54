"""Recordings replayed through kvsim's own scheduler, and the first decision that differs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kvsim.plan.engine_settings import EngineSettings
from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.drafting import Drafting
from kvsim.sim.engine.hybrid import HybridScheduler, scheduler_of
from kvsim.sim.engine.pipeline_scheduler import PipelineScheduler
from kvsim.sim.engine.pools import pool_of
from kvsim.sim.engine.sequence import RequestState, Sequence, block_path
from kvsim.sim.engine.speculative import SpeculativeScheduler
from kvsim.sim.engine.step import Step
from kvsim.validate.recording import RecordedRequest, RecordedStep, Recording
from kvsim.workload.chains import HashPaths, pieces_of
from kvsim.workload.request import Request


@dataclass(frozen=True)
class Difference:
    """The first field of the first step in which kvsim decided otherwise."""

    step: int
    field: str
    recorded: object
    found: object


@dataclass(frozen=True)
class Replay:
    """One recording as ``validate oracle`` reports it."""

    file: str
    engine: str
    requests: int
    steps: int
    steps_compared: int
    identical: bool
    first_difference: Difference | None


def replay(file: str, recording: Recording) -> Replay:
    """``file``: where the recording is from."""
    found, steps = first_difference(recording), len(recording.steps)
    compared = steps if found is None else found.step + 1
    return Replay(file, recording.engine, len(recording.requests), steps, compared, found is None, found)


def first_difference(recording: Recording) -> Difference | None:
    """Replay every step; ``None`` where all of them are identical."""
    for recorded, found in zip(recording.steps, replayed(recording), strict=True):
        for name in RecordedStep.model_fields:
            expected, ours = getattr(recorded, name), getattr(found, name)
            if name == "preempted":
                expected, ours = sorted(expected), sorted(ours)
            if expected != ours:
                return Difference(recorded.step, name, expected, ours)
    return None


def replayed(recording: Recording) -> Iterator[RecordedStep]:
    """kvsim's own decisions for the recording's requests, as many steps as were recorded."""
    arriving = _sequences(recording)
    stepper = _stepper(recording.settings)
    for request, sequence in zip(recording.requests, arriving, strict=True):
        if request.abort_step is not None:
            stepper.leavers.setdefault(request.abort_step, []).append(sequence)
    arrived = 0
    for step, recorded in enumerate(recording.steps):
        stepper.drain(recorded.applied)
        while arrived < len(arriving) and recording.requests[arrived].arrival_step <= step:
            stepper.scheduler.submit(arriving[arrived])
            arrived += 1
        yield stepper.step(step, [request.id for request in recording.requests])


class _Stepper:
    """The scheduler and block pool of a colocated engine, step by step; there is no time."""

    def __init__(self, settings: EngineSettings) -> None:
        pool, batch = pool_of(settings, None), DecodeBatch(settings.block_size, False)
        self.scheduler = scheduler_of(settings, pool, batch)
        self._is_async = settings.async_scheduling
        self._in_flight: Step | None = None
        self.leavers: dict[int, list[Sequence]] = {}
        """Sequences whose clients go, by the step while which they do."""

    def step(self, number: int, names: list[str]) -> RecordedStep:
        """Decide a step, say what was decided, and run it."""
        scheduler = self.scheduler
        running = set(scheduler.running)
        scheduler.schedule()
        found = self._observed(number, names, running)
        step = Step(scheduler.joined, scheduler.preempted)
        step.num_decodes = scheduler.batch.num
        scheduler.advance(step, stops_at_first_token=False)
        due = self._in_flight if self._is_async else step
        self._in_flight = step
        if due is not None:
            self._end(due, number - 1 if self._is_async else number)
        return found

    def drain(self, applied: int) -> None:
        """Wait for outputs while there is nothing to schedule, up to so many in all."""

    def _end(self, step: Step, number: int) -> None:
        """A step has run, the one of that number."""
        for sequence in self.leavers.pop(number, ()):
            self.scheduler.abort(sequence)
        self.scheduler.end_aborted()
        for sequence in self._ended(step):
            self.scheduler.finish(sequence)

    def _ended(self, step: Step) -> list[Sequence]:
        """Who has its last token now that the step has run."""
        if isinstance(self.scheduler, SpeculativeScheduler | PipelineScheduler):
            return [sequence for sequence, _ in self.scheduler.settle(step) if sequence.ending]
        return step.ended

    def _observed(self, number: int, names: list[str], running: set[Sequence]) -> RecordedStep:
        """``running``: before the step was scheduled."""
        scheduler = self.scheduler
        tokens, drafts = dict(scheduler.chunks), dict[Sequence, int]()
        is_told = isinstance(scheduler, SpeculativeScheduler | PipelineScheduler)
        if isinstance(scheduler, SpeculativeScheduler):
            tokens, drafts = scheduler.scheduled()
        if isinstance(scheduler, PipelineScheduler):
            tokens = scheduler.scheduled()

        def name(sequence: Sequence) -> str:
            return names[sequence.state.request.session_id]

        return RecordedStep.model_construct(
            step=number,
            scheduled=[
                (name(s), tokens.get(s, 1)) for s in scheduler.running if s in tokens or (s.decoding and not is_told)
            ],
            preempted=[name(sequence) for sequence in scheduler.preempted],
            cached_tokens_at_admission={
                name(s): s.computed for s in scheduler.running if s not in running and not s.resumed
            },
            running=[name(sequence) for sequence in scheduler.running],
            waiting=[name(sequence) for sequence in scheduler.waiting],
            free_blocks=scheduler.pool.num_free,
            drafts={name(sequence): count for sequence, count in drafts.items()},
            held={name(s): scheduler.held_blocks(s) for s in scheduler.running}
            if isinstance(scheduler, HybridScheduler)
            else {},
        )


class _PipelineStepper(_Stepper):
    """Steps of a pipeline: as many are on their way as vLLM's queue of batches has room for, empty ones too."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self._room = settings.batch_queue_size
        self._queue: deque[Step] = deque()
        self._applied = 0

    @property
    def _has_requests(self) -> bool:
        assert isinstance(self.scheduler, PipelineScheduler)
        return self.scheduler.has_requests

    def step(self, number: int, names: list[str]) -> RecordedStep:
        scheduler, running = self.scheduler, set(self.scheduler.running)
        scheduler.schedule()
        found = self._observed(number, names, running).model_copy(update={"applied": self._applied})
        step = Step(scheduler.joined, scheduler.preempted)
        scheduler.advance(step, stops_at_first_token=False)
        self._queue.append(step)
        if len(self._queue) == self._room or not (step.outputs or self._has_requests):
            self._apply()
        return found

    def drain(self, applied: int) -> None:
        while self._queue and self._applied < applied and not self._has_requests:
            self._apply()

    def _apply(self) -> None:
        self._end(self._queue.popleft(), self._applied)
        self._applied += 1


def _stepper(settings: EngineSettings) -> _Stepper:
    return _PipelineStepper(settings) if settings.pipeline_parallel > 1 else _Stepper(settings)


def _sequences(recording: Recording) -> list[Sequence]:
    """The requests in their order, equal blocks behind equal prefixes being the same blocks of the same chains.

    ``session_id`` is the place in the recording; ``request_id`` breaks ties of priority and arrival as vLLM does, by
    the request's name.
    """
    requests, block_size = recording.requests, recording.settings.block_size
    by_name = sorted(range(len(requests)), key=lambda place: requests[place].id)
    rank = {place: at for at, place in enumerate(by_name)}
    lengths = np.array([len(r.prompt_token_ids) + len(r.output_token_ids) for r in requests], dtype=np.int64)
    offsets, chain, tokens = pieces_of(_block_ids(requests, block_size), lengths)
    found = []
    for place, recorded in enumerate(requests):
        pieces = slice(int(offsets[place]), int(offsets[place + 1]))
        request = Request(
            request_id=rank[place],
            arrival_s=float(recorded.arrival_step) if recorded.arrival_s is None else recorded.arrival_s,
            prompt_tokens=len(recorded.prompt_token_ids),
            output_tokens=recording.output_tokens(recorded),
            session_id=place,
            pieces=tuple(zip(chain[pieces].tolist(), tokens[pieces].tolist(), strict=True)),
            output_chain=-1 - place,
            priority=recorded.priority,
            adapter=recorded.adapter,
        )
        state = RequestState(request, block_path(request, block_size), request.output_tokens)
        sequence = Sequence(state, request.prompt_tokens, request.output_tokens)
        if recording.settings.speculation is not None:
            sequence.drafting = Drafting(request.prompt_tokens + request.output_tokens, 0, 0)
            sequence.drafting.follow(recorded.accepted_drafts, recorded.proposed_drafts)
        found.append(sequence)
    return found


def _block_ids(requests: list[RecordedRequest], block_size: int) -> HashPaths:
    """A number for the content of every full block, prompt and answer, under its adapter; what is before it does not
    matter."""
    known: dict[tuple[int, tuple[int, ...]], int] = {}
    ids: list[int] = []
    offsets = [0]
    for request in requests:
        tokens = request.prompt_token_ids + request.output_token_ids
        blocks = (tuple(tokens[at : at + block_size]) for at in range(0, len(tokens) - block_size + 1, block_size))
        ids.extend(known.setdefault((request.adapter, block), len(known)) for block in blocks)
        offsets.append(len(ids))
    return HashPaths(np.array(offsets, dtype=np.int64), np.array(ids, dtype=np.int64), block_size)
