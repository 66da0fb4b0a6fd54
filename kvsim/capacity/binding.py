"""What limits a saturated unified instance: what twice as much of each resource would let it serve, by arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from kvsim.capacity.demand import Demand
from kvsim.capacity.maximum_rates import colocated_requests_per_s
from kvsim.plan.efficiencies import efficiencies_of
from kvsim.plan.plan import Plan
from kvsim.steptime import AffineStepTime, Coefficients, roofline
from kvsim.workload.workload import Floats

TWICE = 2.0
WORTH = 0.03
"""A gain below this share is none: arithmetic is not nearer to the truth."""

RESOURCES = ("compute", "memory bandwidth", "interconnect", "host", "KV blocks", "seats", "token budget")
"""The GPUs' matrix units; reading weights and KV; all-reduces; the host's time a step; ``num_gpu_blocks``;
``max_num_seqs``; ``max_num_batched_tokens``."""


@dataclass(frozen=True, kw_only=True)
class Binding:
    """How many times as many requests an instance would serve with twice as much of one resource, at the same hits."""

    gains: Mapping[str, float]
    """By resource."""
    binds: str | None
    """The resource whose gain is the largest; ``None``: no single one gains anything worth a word."""

    def sentence(self) -> str:
        """What binds, and what else would help."""
        if self.binds is None:
            return "Nothing binds alone: twice as much of any one resource would serve hardly more."
        worth = sorted(((gain, name) for name, gain in self.gains.items() if gain > 1 + WORTH), reverse=True)
        others = ", ".join(f"{name} {gain:.2f}" for gain, name in worth[1:])
        verb, many = ("bind", "many") if self.binds.endswith("s") else ("binds", "much")
        said = f"{self.binds} {verb}: twice as {many} would serve {worth[0][0]:.2f} times the requests"
        said += f" (others: {others})" if others else "; twice as much of anything else hardly more"
        return f"{said[0].upper()}{said[1:]}."


def binding_of(plan: Plan, demand: Demand) -> Binding:
    """The gains of a saturated instance of ``plan`` that serves ``demand``."""
    now = colocated_requests_per_s(plan, demand)
    gains = {name: colocated_requests_per_s(_relaxed(plan, name), demand) / now for name in RESOURCES}
    best = max(RESOURCES, key=gains.__getitem__)
    return Binding(gains=gains, binds=best if gains[best] > 1 + WORTH else None)


def _relaxed(plan: Plan, resource: str) -> Plan:
    settings = plan.colocated_settings
    if resource == "KV blocks":
        return plan.with_settings("colocated", num_blocks=int(settings.num_blocks * TWICE))
    if resource == "seats":
        return plan.with_settings("colocated", max_num_seqs=int(settings.max_num_seqs * TWICE))
    if resource == "token budget":
        return plan.with_settings("colocated", max_num_batched_tokens=int(settings.max_num_batched_tokens * TWICE))
    faster = _FASTER[resource](plan.step_time.coefficients, _Parts(plan))
    return plan.with_instances(step_time=AffineStepTime(faster))


class _Parts:
    """What the data sheet says of the parts of a step's dense time, which measured times do not tell apart."""

    def __init__(self, plan: Plan) -> None:
        self._roofline = roofline(plan.spec, efficiencies_of(plan.config, plan.spec))

    def compute_s(self, tokens: Floats) -> Floats:
        found: Floats = self._roofline.p0_s + self._roofline.p1_s_per_token * tokens
        return found

    def both_s(self, tokens: Floats) -> Floats:
        """The larger of computing and of reading weights."""
        found: Floats = self._roofline.dense_s(tokens) - self.comm_s(tokens) - self._roofline.const_s
        return found

    def comm_s(self, tokens: Floats) -> Floats:
        found: Floats = self._roofline.comm0_s + self._roofline.comm1_s_per_token * tokens
        return found


def _places(c: Coefficients) -> Floats:
    """Where a step's dense time is looked at: at its knots, else at powers of the fourth root of two."""
    if c.dense_knots:
        return np.array([place for place, _ in c.dense_knots])
    return np.unique(np.round(2.0 ** np.arange(0.0, 17.0, 0.25)))


def _with_dense(c: Coefficients, change: Callable[[Floats, Floats], Floats]) -> Coefficients:
    """``change(tokens, seconds)`` of the dense time, constants left out."""
    places = _places(c)
    seconds = change(places, c.dense_s(places) - c.const_s)
    knots = tuple(zip(places.tolist(), seconds.tolist(), strict=True))
    return replace(c, w0_s=0.0, w1_s_per_token=0.0, p0_s=0.0, p1_s_per_token=0.0, comm0_s=0.0, comm1_s_per_token=0.0,
                   dense_knots=knots)  # fmt: skip


def _compute(c: Coefficients, parts: _Parts) -> Coefficients:
    """Where computing takes longer than reading weights, until that takes as long."""

    def change(tokens: Floats, seconds: Floats) -> Floats:
        return seconds - _freed(seconds, parts.comm_s(tokens), _computing(parts, tokens))

    return replace(_with_dense(c, change), b_s_per_token2=c.b_s_per_token2 / TWICE)


def _memory(c: Coefficients, parts: _Parts) -> Coefficients:
    """Where reading weights takes longer than computing, until that takes as long; and reading KV."""

    def change(tokens: Floats, seconds: Floats) -> Floats:
        return seconds - _freed(seconds, parts.comm_s(tokens), 1 - _computing(parts, tokens))

    return replace(
        _with_dense(c, change),
        a_s_per_kv_token=c.a_s_per_kv_token / TWICE,
        a_mixed_s_per_kv_token=c.a_mixed_s_per_kv_token / TWICE,
        straggler_s_per_token=c.straggler_s_per_token / TWICE,
        straggler_mixed_s_per_token=c.straggler_mixed_s_per_token / TWICE,
    )


def _computing(parts: _Parts, tokens: Floats) -> Floats:
    """1 where the matrices are what a step of so many tokens waits for, 0 where the weights are."""
    found: Floats = (parts.compute_s(tokens) >= parts.both_s(tokens) * (1 - 1e-9)).astype(np.float64)
    return found


def _freed(seconds: Floats, comm_s: Floats, share: Floats) -> Floats:
    found: Floats = share * np.maximum(seconds - comm_s, 0.0) * (1 - 1 / TWICE)
    return found


def _interconnect(c: Coefficients, parts: _Parts) -> Coefficients:
    def change(tokens: Floats, seconds: Floats) -> Floats:
        found: Floats = seconds - np.minimum(parts.comm_s(tokens), seconds) * (1 - 1 / TWICE)
        return found

    return _with_dense(c, change)


def _host(c: Coefficients, parts: _Parts) -> Coefficients:
    return replace(c, const_s=c.const_s / TWICE, s_s_per_seq=c.s_s_per_seq / TWICE)


_FASTER = {"compute": _compute, "memory bandwidth": _memory, "interconnect": _interconnect, "host": _host}
