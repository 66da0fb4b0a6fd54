"""What requests ask of a cluster, as the arithmetic of maximum rates needs it: their lengths, and what caches save."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from kvsim.plan.fitting import fitting_rows
from kvsim.plan.plan import Plan
from kvsim.record.result import SystemResult, Table
from kvsim.workload.workload import Floats, Ints, Workload

SAMPLE_REQUESTS = 50_000
"""Requests of a workload that the arithmetic looks at, evenly spread: enough to know their means within 1%."""


@dataclass(frozen=True, eq=False)
class CacheFacts:
    """What a run measured of its caches, per request; tokens."""

    prompt_tokens: Floats
    hit_tokens: Floats
    """Found in the cache of the instance that computed the prompt, or loaded into it."""
    sent_tokens: Floats
    """KV that a decode instance lacked."""
    shared: SharedPrompts | None = None
    """What requests on one instance shared; ``None``: as if they had met by chance."""


def cache_facts(table: Table, rows: npt.NDArray[np.bool_], plan: Plan) -> CacheFacts:
    """What the completed requests ``rows`` of a run found in caches."""
    return CacheFacts(
        table["prompt_tokens"][rows],
        table["hit_tokens"][rows] + table["loaded_tokens"][rows],
        table["transferred_bytes"][rows] / plan.kv_bytes_per_token,
    )


@dataclass(frozen=True, eq=False)
class SharedPrompts:
    """The parts of prompts that several requests can hold at once, each part kept only once by an instance.

    Weighted by the time a request decodes: of the requests in an instance at some moment, a share ``use[c]`` holds on
    average ``tokens[c]`` tokens of chain ``c``, and ``private_tokens`` is what a request holds alone.
    """

    use: Floats
    tokens: Floats
    private_tokens: float

    def held_tokens(self, num_seqs: float) -> float:
        """Prompt tokens that ``num_seqs`` requests, drawn independently, hold together.

        ``n private + sum over chains of L (1 - (1 - q)^n)``: a chain is there unless none of the n requests uses it.
        """
        return num_seqs * self.private_tokens + float((self.tokens * (1 - (1 - self.use) ** num_seqs)).sum())

    def for_prompts_of(self, mean_tokens: float) -> SharedPrompts:
        """Shared parts, scaled to prompts of another mean length."""
        scale = mean_tokens / self.held_tokens(1)
        return replace(self, tokens=self.tokens * scale, private_tokens=self.private_tokens * scale)


@dataclass(frozen=True, eq=False)
class Demand:
    """The requests of a workload that can be served; one entry a request, in the order of arrival."""

    prompt_tokens: Floats
    output_tokens: Floats
    hit_tokens: Floats
    sent_tokens: Floats
    returned_tokens: float
    """Mean generated tokens a request that go back to a prefill instance's cache."""
    shared: SharedPrompts

    @property
    def computed_tokens(self) -> Floats:
        """Prompt tokens that a prefill computes; at least the last one."""
        return self.prompt_tokens - self.hit_tokens


def demand_of(workload: Workload, plan: Plan, facts: CacheFacts | None = None, requests: Ints | None = None) -> Demand:
    """The demand of what of ``workload`` every system can serve, or of those ``requests`` that one has served.

    Without ``facts`` as if caches never hit. Raises ``CapacityError`` where no request can be served.

    Facts come from other requests of the same kind: a request takes the hit and sent shares of the one that stands at
    the same quantile of prompt lengths, so that long prompts get what long prompts were found to get.
    """
    rows = _evenly(fitting_rows(workload, plan) if requests is None else np.sort(requests))
    prompts = workload.prompt_tokens[rows].astype(np.float64)
    limit = plan.colocated_settings.max_model_len
    outputs = np.minimum(workload.output_tokens[rows], limit - prompts)
    hit_share, sent_share = _shares(prompts, facts)
    separation = plan.config.pd_separation
    returns = separation.return_generated_kv and workload.info.generated_known
    kept = workload.output_chain[rows] >= 0
    return Demand(
        prompt_tokens=prompts,
        output_tokens=outputs,
        hit_tokens=np.minimum(prompts * hit_share, prompts - 1),
        sent_tokens=prompts * sent_share,
        returned_tokens=float((outputs * kept).mean()) if returns else 0.0,
        shared=_shared_by_chance(workload, rows, outputs, plan.colocated_settings.enable_prefix_caching)
        if facts is None or facts.shared is None
        else facts.shared.for_prompts_of(float((prompts * outputs).sum() / outputs.sum())),
    )


def asked_per_s(workload: Workload, result: SystemResult) -> float:
    """Requests/s as they came, of those that fit; infinite where all come at once.

    In a closed loop that depends on the system. Where sessions keep on coming, whatever becomes of those before, it is
    not less than with answers of the assumed pace.
    """
    rate_per_s = workload.mean_rate_per_s
    if workload.is_closed:
        arrival_s = result.table["arrival_s"]
        span_s = float(np.ptp(arrival_s)) if len(arrival_s) else 0.0
        came_per_s = (len(arrival_s) - 1) / span_s if span_s > 0 else math.inf
        rate_per_s = came_per_s if workload.holds_back else max(came_per_s, rate_per_s)
    return rate_per_s * (1 - result.misfits / max(result.arrived, 1))


def _evenly(rows: Ints) -> Ints:
    """At most ``SAMPLE_REQUESTS`` of ``rows``."""
    return rows[:: max(1, -(-len(rows) // SAMPLE_REQUESTS))]


def _shares(prompts: Floats, facts: CacheFacts | None) -> tuple[Floats, Floats]:
    if facts is None or not len(facts.prompt_tokens):
        return np.zeros(len(prompts)), np.ones(len(prompts))
    order = np.argsort(facts.prompt_tokens, kind="stable")
    rank = np.empty(len(prompts), dtype=np.int64)
    rank[np.argsort(prompts, kind="stable")] = np.arange(len(prompts)) * len(order) // len(prompts)
    like = order[rank]
    return facts.hit_tokens[like] / facts.prompt_tokens[like], facts.sent_tokens[like] / facts.prompt_tokens[like]


def _shared_by_chance(workload: Workload, rows: Ints, outputs: Floats, caching: bool) -> SharedPrompts:
    prompts = workload.prompt_tokens[rows].astype(np.float64)
    weight = outputs / outputs.sum()
    mean_tokens = float((prompts * weight).sum())
    counts = np.diff(workload.piece_offsets)[rows]
    request = np.repeat(np.arange(len(rows)), counts)
    starts = workload.piece_offsets[rows]
    piece = np.arange(len(request)) + np.repeat(starts - (np.cumsum(counts) - counts), counts)
    chain = workload.piece_chain[piece]
    shareable = chain >= 0
    if not caching or not shareable.any():
        return SharedPrompts(np.zeros(0), np.zeros(0), mean_tokens)
    _, index = np.unique(chain[shareable], return_inverse=True)
    piece_weight = weight[request[shareable]]
    use = np.bincount(index, weights=piece_weight)
    held = np.bincount(index, weights=piece_weight * workload.piece_tokens[piece[shareable]])
    return SharedPrompts(np.minimum(use, 1.0), held / use, mean_tokens - float(held.sum()))
