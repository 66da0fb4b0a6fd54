"""Recordings of SGLang's scheduler (``tests/sglang/record.py``), replayed through kvsim's."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kvsim.plan.engine_settings import EngineSettings, SglangSettings
from kvsim.sim.engine import hybrid, pools
from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.sequence import RequestState, Sequence, block_path
from kvsim.sim.engine.step import Chunk, Step
from kvsim.workload.chains import HashPaths, pieces_of
from kvsim.workload.request import Request

Record = dict[str, Any]
FIELDS = ("prefills", "decodes", "retracted", "waiting", "running", "new_token_ratio", "free_tokens")
FIELDS += ("evictable_tokens",)


def read(file: Path) -> Record:
    with gzip.open(file) as data:
        return dict(json.load(data))


def settings_of(config: Record) -> EngineSettings:
    """kvsim's settings for a recording's."""
    chunk = config["chunked_prefill_size"]
    return EngineSettings(
        num_blocks=config["max_total_num_tokens"] // config["page_size"],
        block_size=config["page_size"],
        max_num_batched_tokens=chunk if chunk > 0 else config["max_prefill_tokens"],
        max_num_seqs=config["max_running_requests"],
        max_model_len=config["context_length"],
        enable_prefix_caching=not config["disable_radix_cache"],
        enable_chunked_prefill=chunk > 0,
        long_prefill_token_threshold=0,
        watermark=0.0,
        scheduling_policy=config["schedule_policy"].replace("-", "_"),
        prefix_cache="radix",
        async_scheduling=not config["disable_overlap_schedule"],
        sglang=SglangSettings(
            enable_mixed_chunk=config["enable_mixed_chunk"],
            max_prefill_tokens=config["max_prefill_tokens"],
            schedule_conservativeness=config["schedule_conservativeness"],
            ignore_eos=config["ignore_eos"],
        ),
    )


def sequences_of(recording: Record) -> list[Sequence]:
    """The requests in their order, made of chains of tokens; ``session_id`` is the place in the recording."""
    requests, page = recording["requests"], recording["config"]["page_size"]
    tokens = [request["prompt_token_ids"] + request["output_token_ids"] for request in requests]
    lengths = np.array([len(each) for each in tokens], dtype=np.int64)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    ids = np.array([token for each in tokens for token in each], dtype=np.int64)
    starts, chains, counts = pieces_of(HashPaths(offsets, ids, 1), lengths)
    found = []
    for place, recorded in enumerate(requests):
        pieces = slice(int(starts[place]), int(starts[place + 1]))
        request = Request(
            request_id=place,
            arrival_s=float(recorded["arrival_step"]),
            prompt_tokens=len(recorded["prompt_token_ids"]),
            output_tokens=len(recorded["output_token_ids"]),
            session_id=place,
            pieces=tuple(zip(chains[pieces].tolist(), counts[pieces].tolist(), strict=True)),
            output_chain=-1 - place,
        )
        state = RequestState(request, block_path(request, page), request.output_tokens)
        found.append(Sequence(state, request.prompt_tokens, request.output_tokens))
    return found


class Stepper:
    """The scheduler and tree of an engine, step by step, with the order of operations of the recorder; no time."""

    def __init__(self, recording: Record) -> None:
        settings = settings_of(recording["config"])
        self.pool, batch = pools.pool_of(settings, None), DecodeBatch(settings.block_size, False)
        self.scheduler: Any = hybrid.scheduler_of(settings, self.pool, batch)
        self.page = settings.block_size
        self.is_async, chunk = settings.async_scheduling, recording["config"]["chunked_prefill_size"]
        self.is_mixed = recording["config"]["enable_mixed_chunk"] and chunk > 0
        self.in_flight: Step | None = None
        self.names = [request["id"] for request in recording["requests"]]

    def name(self, sequence: Sequence) -> str:
        return str(self.names[sequence.state.request.session_id])

    def step(self) -> Record | None:
        """Decide a step, say what was decided, and let that run whose turn it is; ``None`` where nothing is decided."""
        scheduler, found, step = self.scheduler, None, None
        scheduler.schedule()
        is_planned = bool(scheduler.chunks or scheduler.batch.num) and not scheduler.rests
        if is_planned or scheduler.preempted:
            found = self.observed(is_planned)
        if is_planned:
            step = Step(scheduler.joined, scheduler.preempted)
            step.num_decodes = scheduler.batch.num
            step.chunks = [Chunk(sequence, tokens) for sequence, tokens in scheduler.chunks]
            scheduler.advance(step, stops_at_first_token=False)
        due = self.in_flight if self.is_async else step
        self.in_flight = step
        if due is not None:
            if due.chunks:
                scheduler.settle_prompts(due)
            for sequence in due.ended:
                scheduler.finish(sequence)
        return found

    def going_on(self, decodes: list[str]) -> list[str]:
        """Who decodes after the step: SGLang counts those whose last token is on its way until it looks for them."""
        scheduler = self.scheduler
        if scheduler.chunks and decodes:
            return []
        looks = not scheduler.chunks or self.is_mixed
        return [self.name(s) for s in scheduler.running if not (looks and s.ending)]

    def observed(self, is_planned: bool) -> Record:
        scheduler, pool = self.scheduler, self.pool
        decodes = [self.name(s) for s in scheduler.running if s.decoding] if is_planned else []
        return {
            "prefills": [[self.name(s), s.computed, tokens] for s, tokens in scheduler.chunks],
            "decodes": decodes,
            "running": self.going_on(decodes),
            "waiting": [self.name(s) for s in scheduler.waiting],
            "retracted": [self.name(s) for s in scheduler.preempted],
            "free_tokens": pool.num_blank * self.page,
            "evictable_tokens": pool.num_cached_free * self.page,
            "new_token_ratio": scheduler.new_token_ratio,
        }


def replayed(recording: Record) -> Iterator[Record]:
    """kvsim's own decisions for the recording's requests, step by step."""
    stepper, arriving, arrived, taken = Stepper(recording), sequences_of(recording), 0, 0
    requests, passes = recording["requests"], 0
    while taken < len(recording["steps"]):
        while arrived < len(arriving) and when(requests[arrived]) <= (taken, passes):
            stepper.scheduler.submit(arriving[arrived])
            arrived += 1
        found = stepper.step()
        passes = 0 if found is not None else passes + 1
        if found is not None:
            taken += 1
            yield found
        elif passes > 9:
            raise AssertionError(f"nothing happens after {taken} steps")


def when(request: Record) -> tuple[int, int]:
    """Before which step, and which pass since the last one, a request is queued."""
    return request["arrival_step"], request["arrival_pass"]


def first_difference(recording: Record) -> tuple[int, str, object, object] | None:
    """``(step, field, recorded, found)``; ``None`` where all steps are identical."""
    for number, (recorded, found) in enumerate(zip(recording["steps"], replayed(recording), strict=True)):
        for name in FIELDS:
            if recorded[name] != found[name]:
                return number, name, recorded[name], found[name]
    return None
