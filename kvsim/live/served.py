"""The requests that a server answered, and what is predicted for the same requests at the same times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kvsim.errors import CapacityError
from kvsim.plan.plan import Plan
from kvsim.record.detail import Detail
from kvsim.record.result import Distribution, Table
from kvsim.record.summary import e2e_s, tpot_s, ttft_s
from kvsim.sim.run import Case, run
from kvsim.validate.accuracy import Floats
from kvsim.workload.workload import Ints, Workload

Chosen = npt.NDArray[np.bool_]
"""Requests of a run that are meant, in its order."""
METRICS = ("ttft", "tpot", "e2e")


@dataclass(frozen=True, eq=False)
class Served:
    """The answered requests of one measured run, in the order in which they were sent."""

    name: str
    workload: Workload
    """What was sent, when it was sent; seconds from the first."""
    requests: Table
    """One entry a request: ``arrival_s`` as the client sent it, ``first_token_s``, ``finish_s``, ``prompt_tokens``,
    ``output_tokens``; ``hit_tokens``, NaN where the server does not tell them."""
    request_ids: Ints
    """By which the client calls them."""
    token_s: Floats
    """When tokens came, request by request."""
    token_offsets: Ints
    """Tokens of request ``i`` stand in ``token_s[token_offsets[i]:token_offsets[i + 1]]``."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Requests without an answer, by the kind of failure; they are in nothing else."""
    counters: Mapping[str, float | None] = field(default_factory=dict)
    """How far the server's own went meanwhile: ``prefix_queries``, ``prefix_hits``, ``preemptions``."""
    notes: tuple[str, ...] = ()
    """Sentences on how it was measured that a reader of its figures should know."""

    def __len__(self) -> int:
        return len(self.requests["arrival_s"])

    @property
    def gaps_s(self) -> tuple[Floats, Floats]:
        """Times between neighbouring tokens of an answer, and when the later of the two came."""
        later = np.ones(len(self.token_s), dtype=bool)
        later[self.token_offsets[:-1]] = False
        return np.diff(self.token_s, prepend=0.0)[later], self.token_s[later]


@dataclass(frozen=True, eq=False)
class Predicted:
    """What kvsim predicts for the requests of a ``Served``, in their order; NaN for those that fit no engine."""

    requests: Table
    """Columns as of ``Served``; times as a client sees them."""
    itl: Distribution
    preemptions: int
    query_tokens: int
    hit_tokens: int
    detail: Detail
    sim_cpu_s: float


def predict(served: Served, plan: Plan, front_end_s: float) -> Predicted:
    """Serve the same requests, which the engine has so long after they were sent. Raises ``CapacityError``."""
    found = run(Case("unified", "unified", plan, served.workload, plan.config.seed, keeps_detail=True)).system
    if not found.completed:
        raise CapacityError(f"{served.name}: none of {len(served)} requests fits the model and the KV cache")
    assert found.detail is not None  # it was asked for
    table = found.table
    rows = table["request_id"].astype(np.int64)

    def column(name: str) -> Floats:
        values = np.full(len(served), np.nan)
        values[rows] = table[name]
        return values

    requests = {
        "arrival_s": served.requests["arrival_s"],
        "first_token_s": column("first_token_s") + front_end_s,
        "finish_s": column("finish_s") + front_end_s,
        "prompt_tokens": served.requests["prompt_tokens"],
        "output_tokens": column("output_tokens"),
        "hit_tokens": column("hit_tokens") + column("loaded_tokens"),
    }
    return Predicted(
        requests=requests,
        itl=found.itl,
        preemptions=int(table["preemptions"].sum()),
        query_tokens=found.cache.query_tokens,
        hit_tokens=found.cache.hit_tokens,
        detail=found.detail,
        sim_cpu_s=found.sim_cpu_s,
    )


def metrics_of(requests: Table) -> dict[str, Floats]:
    """Seconds by name, ``METRICS``. NaN: an answer of one token has no TPOT."""
    return {"ttft": ttft_s(requests), "tpot": tpot_s(requests), "e2e": e2e_s(requests)}
