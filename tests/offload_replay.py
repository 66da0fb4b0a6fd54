"""Recordings of ``tests/vllm/record_offload.py``, vLLM's offloading connector, served by kvsim in steps of a second."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from builders import by_request, coefficients, plan, stepwise

from kvsim.plan.plan import Plan
from kvsim.sim.log.detail import DetailLog
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.sim.tiers.offload_tier import OffloadTier
from kvsim.sim.tiers.ports import Channel, Port, Route, Routes
from kvsim.validate.recording import Recording, read_recording
from kvsim.validate.replay import _block_ids
from kvsim.workload.chains import pieces_of
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.workload import Workload

TOKEN_BYTES = 131_072
"""Of Llama-3.1-8B."""
Answer = tuple[int, int, int, int]
"""Of a request: tokens that the GPU had, tokens that were loaded, and when its first and its last token came.

The hits of those that were preempted are -1: kvsim counts those of what a request had not had before, too.
"""
LoadRow = tuple[int, int, int]
"""Of a load: the request, when it began, and its tokens."""


@dataclass(frozen=True)
class Compared:
    """What vLLM did and what kvsim does."""

    recorded: list[Answer]
    found: list[Answer]
    recorded_memory: tuple[int, int]
    """Chunks that are in host memory or on the way there at the end, and chunks that were evicted from it."""
    found_memory: tuple[int, int]
    recorded_loads: list[LoadRow]
    """Those after preemptions, too."""
    found_loads: list[LoadRow]
    recorded_preemptions: int
    found_preemptions: int
    steps: int

    @property
    def differing(self) -> list[int]:
        """The requests of which anything differs."""
        pairs = enumerate(zip(self.recorded, self.found, strict=True))
        return [place for place, (ours, theirs) in pairs if ours != theirs]

    @property
    def is_identical(self) -> bool:
        recorded = self.recorded_memory, self.recorded_loads, self.recorded_preemptions
        return not self.differing and recorded == (self.found_memory, self.found_loads, self.found_preemptions)


class _Whole(Workload):
    """Requests whose pieces have their answers, too."""

    def __post_init__(self) -> None:
        """Nothing sums to prompt tokens."""


def compare(path: Path, *, is_stepwise: bool = False) -> Compared:
    """Serve the requests of a recording with the settings of its engine; ``is_stepwise``: one event a step."""
    raw, recording = json.loads(gzip.decompress(path.read_bytes())), read_recording(path)
    made = _plan(raw["config"])
    system = UnifiedSystem(stepwise(made) if is_stepwise else made, _workload(recording), 1, keeps_detail=True)
    assert system.tiers is not None and system.detail is not None
    view = system.tiers.hierarchy.connectors[0].views[0]
    config = raw["config"]
    view.routes = Routes(_taking("read", config["load_steps"]), _taking("write", config["store_steps"]))
    system.run()
    tier = view.tier
    assert isinstance(tier, OffloadTier)
    assert tier.capacity_chunks == config["cpu_chunks"]
    table = by_request(system)
    preempted = {name for step in raw["steps"] for name in step["preempted"]}
    columns = (table[name] for name in ("hit_tokens", "loaded_tokens", "first_token_s", "finish_s"))
    loads = sorted((int(row[0]), round(row[2]), int(row[5])) for row in zip(*_columns(system.detail), strict=True))
    found: list[Answer] = []
    for request, hits, loaded, first_s, end_s in zip(recording.requests, *columns, strict=True):
        known = (-1, -1) if request.id in preempted else (int(hits), int(loaded))
        found.append((*known, round(first_s), round(end_s)))
    return Compared(
        recorded=_recorded(recording, raw["steps"], preempted),
        found=found,
        recorded_memory=tuple(raw["steps"][-1]["cpu"]),
        found_memory=(tier.taken, tier.evicted),
        recorded_loads=_recorded_loads(recording, raw["steps"]),
        found_loads=loads,
        recorded_preemptions=sum(len(step["preempted"]) for step in raw["steps"]),
        found_preemptions=int(table["preemptions"].sum()),
        steps=len(raw["steps"]),
    )


def _columns(detail: DetailLog) -> list[Any]:
    return list(detail.loads.table().values())


def _taking(name: str, steps: int) -> Route:
    return (Channel(Port(name), math.inf, float(steps)),)


def _plan(config: dict[str, Any]) -> Plan:
    size_gb = (config["cpu_chunks"] * config["block_size"] * TOKEN_BYTES + 1) / 1e9
    sets = (
        "cache.connector=offloading",
        "cache.write_generated=false",
        "cache.load_or_recompute=false",
        f"cache.chunk_tokens={config['block_size']}",
        f"engine.block_size={config['block_size']}",
        "hardware.dram.scope=instance",
        f"hardware.dram.capacity_gb={size_gb!r}",
    )
    names = ("max_num_batched_tokens", "max_num_seqs", "max_model_len", "scheduler_reserve_full_isl")
    names += ("watermark", "long_prefill_token_threshold")
    settings: dict[str, Any] = {name: config[name] for name in names}
    settings["scheduling_policy"] = config["policy"]
    times = coefficients(const_s=1.0)
    made = plan(
        sets=sets,
        times=times,
        num_blocks=config["num_blocks"] - 1,
        async_scheduling=config["async_scheduling"],
        **settings,
    )
    return replace(made, num_instances=1, tiers=("dram",))


def _workload(recording: Recording) -> Workload:
    requests, count = recording.requests, len(recording.requests)
    lengths = np.array([len(r.prompt_token_ids) + len(r.output_token_ids) for r in requests], dtype=np.int64)
    offsets, chain, tokens = pieces_of(_block_ids(requests, recording.settings.block_size), lengths)
    return _Whole(
        arrival_s=np.array([r.arrival_step for r in requests], dtype=np.float64),
        prompt_tokens=np.array([len(r.prompt_token_ids) for r in requests], dtype=np.int32),
        output_tokens=np.array([recording.output_tokens(r) for r in requests], dtype=np.int32),
        session_id=np.full(count, -1, dtype=np.int64),
        output_chain=-1 - np.arange(count, dtype=np.int64),
        piece_offsets=np.asarray(offsets, dtype=np.int64),
        piece_chain=np.asarray(chain, dtype=np.int64),
        piece_tokens=np.asarray(tokens, dtype=np.int32),
        priority=np.array([r.priority for r in requests], dtype=np.int32),
        info=WorkloadInfo(source="recording", format="recording", generated_known=True),
    )


def _recorded(recording: Recording, steps: list[dict[str, Any]], preempted: set[str]) -> list[Answer]:
    hits: dict[str, tuple[int, int]] = {}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for step in steps:
        for name, (cached, loaded) in step["loads"].items():
            hits.setdefault(name, (cached, loaded))
        for name, cached in step["cached_tokens_at_admission"].items():
            hits.setdefault(name, (cached, 0))
        for name in step["sampled"]:
            last[name] = step["end"]
            first.setdefault(name, last[name])
    answers: list[Answer] = []
    for request in recording.requests:
        cached, loaded = hits[request.id]
        if cached + loaded == len(request.prompt_token_ids):
            loaded -= 1  # the last token is computed all the same
        if request.id in preempted:
            cached = loaded = -1
        answers.append((cached, loaded, first[request.id], last[request.id]))
    return answers


def _recorded_loads(recording: Recording, steps: list[dict[str, Any]]) -> list[LoadRow]:
    places = {request.id: place for place, request in enumerate(recording.requests)}
    return sorted(
        (places[name], step["load_time"], loaded) for step in steps for name, (_, loaded) in step["loads"].items()
    )
