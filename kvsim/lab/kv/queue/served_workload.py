"""A workload file's requests as the engine gets them: shared prefixes as chains, tokenised first, in order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvsim.lab.kv.queue.workload_file import QueuedRequest, QueuedRequests
from kvsim.record.binned import Floats
from kvsim.units import MICRO, MILLI
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.workload import Counts, Workload


@dataclass(frozen=True)
class Sent:
    """Requests in the order in which they reach the engine; those of one instant as the file has them."""

    name: str
    requests: tuple[QueuedRequest, ...]
    tokenise_us_per_token: float = 0.0

    @property
    def reached_s(self) -> Floats:
        """When each prompt is tokenised, beside the others."""
        return np.array([_reaches_s(one, self.tokenise_us_per_token) for one in self.requests], dtype=np.float64)

    @property
    def begin_s(self) -> float:
        """When the first of them is sent."""
        return min(one.arrival_ms for one in self.requests) * MILLI

    def workload(self, priorities: Counts | None = None) -> Workload:
        """What engines serve; lower priorities go first."""
        groups = {name: place for place, name in enumerate(dict.fromkeys(one.prefix_group for one in self.requests))}
        pieces = [_pieces(place, one, groups) for place, one in enumerate(self.requests)]
        flat = [piece for path in pieces for piece in path]
        own = -1 - np.arange(len(self.requests), dtype=np.int64)
        return Workload(
            arrival_s=self.reached_s,
            prompt_tokens=np.array([one.prompt_tokens for one in self.requests], dtype=np.int32),
            output_tokens=np.array([one.output_tokens for one in self.requests], dtype=np.int32),
            session_id=np.full(len(self.requests), -1, dtype=np.int64),
            output_chain=own,
            piece_offsets=np.cumsum([0, *map(len, pieces)]).astype(np.int64),
            piece_chain=np.array([chain for chain, _ in flat], dtype=np.int64),
            piece_tokens=np.array([tokens for _, tokens in flat], dtype=np.int32),
            info=WorkloadInfo(source=self.name, format="queue"),
            priority=priorities,
        )


def sent(queued: QueuedRequests, tokenise_us_per_token: float = 0.0) -> Sent:
    """The requests of a file, in their order."""
    order = sorted(queued.requests, key=lambda one: _reaches_s(one, tokenise_us_per_token))
    return Sent(queued.name, tuple(order), tokenise_us_per_token)


def _reaches_s(request: QueuedRequest, tokenise_us_per_token: float) -> float:
    return request.arrival_ms * MILLI + tokenise_us_per_token * MICRO * request.prompt_tokens


def _pieces(place: int, request: QueuedRequest, groups: dict[str | None, int]) -> list[tuple[int, int]]:
    shared = request.prefix_tokens or 0
    found = [(groups[request.prefix_group], shared)] if shared else []
    if request.prompt_tokens > shared:
        found.append((-1 - place, request.prompt_tokens - shared))
    return found
