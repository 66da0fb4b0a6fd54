"""A learned policy that is trained on the first requests of the very run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kvsim.config import Config
from kvsim.errors import KvsimError
from kvsim.learned import train_on
from kvsim.plan.plan import Plan
from kvsim.sim.engine.sequence import block_path
from kvsim.sim.tiers.chunks import chunk_keys, chunk_runs
from kvsim.workload.accesses import Accesses
from kvsim.workload.workload import Workload


@dataclass(frozen=True)
class Train:
    """How a run's own requests train the learned policy."""

    mode: str
    """``warmup``: the first share of the run, which does not count; ``split``: it is not served at all."""
    fraction: float

    def num_requests(self, workload: Workload) -> int:
        """Requests that train; one at least is left."""
        return max(1, min(int(self.fraction * len(workload)), len(workload) - 1))


def accesses_of(workload: Workload, plan: Plan) -> Accesses:
    """The chunks that the workload's prompts ask for, as tiers name them, renumbered from 0."""
    block_size = plan.spec.block_size_tokens
    chunk_blocks = plan.config.cache.chunk_tokens // block_size
    names: dict[int, int] = {}
    keys: list[int] = []
    offsets, turns = [0], []
    seen: dict[int, int] = {}
    for request in workload:
        blocks = (request.prompt_tokens - 1) // block_size
        own = chunk_keys(chunk_runs(block_path(request, block_size), blocks, chunk_blocks))
        keys.extend(names.setdefault(key, len(names)) for key in own)
        offsets.append(len(keys))
        turn = seen.get(request.session_id, 0) if request.session_id >= 0 else 0
        seen[request.session_id] = turn + 1
        turns.append(turn)
    return Accesses(
        keys=keys,
        offsets=offsets,
        time_s=(workload.arrival_s - workload.arrival_s[:1]).tolist(),
        session_id=workload.session_id.tolist(),
        turn=turns,
    )


def trained(workload: Workload, plan: Plan, train: Train, path: Path) -> None:
    """Write a model that has seen the first requests of ``workload`` to ``path``, and its card.

    Raises ``WorkloadError`` where they are too few to learn from, ``KvsimError`` where the file cannot be written.
    """
    first = workload.limited(train.num_requests(workload))
    model = train_on(accesses_of(first, plan), seed=plan.config.seed).model
    try:
        model.write(path)
    except OSError as error:
        raise KvsimError(f"cannot write {str(path)!r}: {error.strerror}") from error


def with_model(config: Config, path: Path) -> Config:
    """A configuration with the learned policy taking its model from there."""
    return config.model_copy(update={"policies": config.policies.model_copy(update={"learned_model": str(path)})})


def without_first(workload: Workload, count: int) -> Workload:
    """All but the first ``count`` requests, the first of them at time 0; of an open loop."""
    pieces = int(workload.piece_offsets[count])
    return replace(
        workload,
        arrival_s=workload.arrival_s[count:] - workload.arrival_s[count],
        prompt_tokens=workload.prompt_tokens[count:],
        output_tokens=workload.output_tokens[count:],
        session_id=workload.session_id[count:],
        output_chain=workload.output_chain[count:],
        piece_offsets=np.asarray(workload.piece_offsets[count:] - pieces),
        piece_chain=workload.piece_chain[pieces:],
        piece_tokens=workload.piece_tokens[pieces:],
        priority=None if workload.priority is None else workload.priority[count:],
        adapter=None if workload.adapter is None else workload.adapter[count:],
        info=replace(
            workload.info.noted(f"the first {count:,} requests trained the learned policy and are not served"),
            infinite_cache_hit_rate=None,
            infinite_cache_hit_rate_full_blocks=None,
            infinite_cache_hit_rate_tokens=None,
        ),
    )


def is_learned(config: Config) -> bool:
    """Whether it evicts by a model without naming one."""
    return config.policies.eviction == "learned" and config.policies.learned_model is None
