"""An explanation of a step: the time it is charged, in the parts that its step times have, beside what limits each.

Parts add up to what the simulator charges. A roofline's time of the weights is split by bytes where reading them is
what it charges, by parameters where computing is. Tables have a time for each operator. A formula that was fitted to
whole steps has fewer parts than there are operators: those are its members, with their limits alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from typing import Literal

from kvsim.spec import InstanceSpec
from kvsim.spec.operator_weights import EXPERTS, KEPT_FIRST, LM_HEAD
from kvsim.steptime import work
from kvsim.steptime.adapters import ADAPTERS, adapter_s, adapter_work
from kvsim.steptime.allreduce import allreduce
from kvsim.steptime.assemble import Shape, dense_parts, head_parts
from kvsim.steptime.batch import Batch
from kvsim.steptime.curves.affine import Line
from kvsim.steptime.curves.base import StepTime
from kvsim.steptime.curves.coefficients import Knots
from kvsim.steptime.curves.lockstep import LockstepStepTime
from kvsim.steptime.curves.tables import TableStepTime
from kvsim.steptime.operators import Floats, Operators
from kvsim.steptime.roofline import Efficiencies
from kvsim.steptime.shared_experts import Exchange
from kvsim.steptime.work import (
    KERNEL_START_S,
    Work,
    allreduces_of_step,
    expert_starts_s,
    experts_work,
    weights_of,
    works_of,
)

Known = Literal["measured", "scaled", "modelled"]
HOST, SEQUENCES, LAYERS, FIXED, STRAGGLERS = "host", "sequences", "layers", "fixed", "stragglers"
HOST_PARTS = (HOST, SEQUENCES)
PASSES = "passes"
SLOW = 2.0
"""An operator that takes so many times its limit, a call no longer than ``SHORT_CALL_S``, is bound by latency."""
SHORT_CALL_S = 20e-6


@dataclass(frozen=True)
class Part:
    """A part of a step's time, or an operator in one."""

    name: str
    time_s: float | None
    """``None``: in the time of the part that it is a member of."""
    known: Known
    work: Work | None = None
    """``None``: nothing that a data sheet limits."""
    members: tuple[Part, ...] = ()
    overhead_s: float = 0.0
    """What it takes beyond its limit by kvsim's own arithmetic: latencies of links and kernels, the host."""

    @property
    def limit_s(self) -> float:
        return (self.work.limit_s if self.work is not None else 0.0) + sum(one.limit_s for one in self.members)

    @property
    def num_bytes(self) -> float:
        return (self.work.num_bytes if self.work is not None else 0.0) + sum(one.num_bytes for one in self.members)

    @property
    def flops(self) -> float:
        return (self.work.flops if self.work is not None else 0.0) + sum(one.flops for one in self.members)

    @property
    def link_bytes(self) -> float:
        return (self.work.link_bytes if self.work is not None else 0.0) + sum(one.link_bytes for one in self.members)

    @property
    def intensity(self) -> float | None:
        """FLOPs a byte of the GPU's memory."""
        return self.flops / self.num_bytes if self.num_bytes and self.flops else None

    @property
    def reached(self) -> float | None:
        """Share of the limit that is reached."""
        return self.limit_s / self.time_s if self.time_s and self.limit_s else None

    @property
    def bound(self) -> str:
        """``memory``, ``compute``, ``link``, ``latency`` or ``host``; of a part with members what most of their limits
        is."""
        if self.name in HOST_PARTS:
            return HOST
        if self.members:
            by_bound: dict[str, float] = {}
            for one in self.members:
                if one.work is not None:
                    by_bound[one.work.bound] = by_bound.get(one.work.bound, 0.0) + one.limit_s
            return max(by_bound, key=lambda name: by_bound[name], default="latency")
        if self.work is None:
            return "latency" if self.name == STRAGGLERS else "unknown"
        if self.time_s is not None and SLOW * self.limit_s < self.time_s < SHORT_CALL_S * self.work.calls:
            return "latency"
        return self.work.bound


@dataclass(frozen=True)
class Reason:
    """Why a step takes longer than its operators' limits."""

    name: str
    """``host``, ``allreduce``, ``exchange``, ``stragglers``, ``starts`` of kernels, ``kernels`` below their limits, or
    ``fixed``: the part of a formula that has the output projection, sampling and launches of attention."""
    time_s: float


@dataclass(frozen=True)
class Explanation:
    """One step, explained."""

    batch: Batch
    time_s: float
    """What the simulator charges."""
    parts: tuple[Part, ...]

    @property
    def limit_s(self) -> float:
        """One operator after the other, each at its limit."""
        return sum(part.limit_s for part in self.parts)

    @property
    def has_operators(self) -> bool:
        """Whether each operator has a time of its own."""
        return not any(part.members for part in self.parts)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """What adds up to the time charged beyond the limit; the largest first, none of nothing."""
        found: dict[str, float] = {}
        for part in self.parts:
            for name, time_s in _beyond(part):
                found[name] = found.get(name, 0.0) + time_s
        found["kernels"] = self.time_s - self.limit_s - sum(found.values())
        reasons = (Reason(name, time_s) for name, time_s in found.items() if time_s > 0)
        return tuple(sorted(reasons, key=lambda reason: -reason.time_s))


def _beyond(part: Part) -> Iterator[tuple[str, float]]:
    """What a part takes beyond its limit, by reason; what is left is its kernels'."""
    left_s = max(0.0, (part.time_s or 0.0) - part.limit_s)
    if part.name in (*HOST_PARTS, work.ALLREDUCE, work.EXCHANGE, STRAGGLERS, FIXED):
        yield (HOST if part.name in HOST_PARTS else part.name), left_s
        return
    for one in part.members or (part,):
        own_s = min(left_s, one.overhead_s)
        left_s -= own_s
        yield (one.name if one.name in (HOST, work.ALLREDUCE, work.EXCHANGE) else "starts"), own_s


def explain_roofline(
    step_time: StepTime, spec: InstanceSpec, batch: Batch, padded_tokens: int, efficiencies: Efficiencies
) -> Explanation:
    """A step of ``roofline(spec, efficiencies)``: every operator that it charges for.

    ``padded_tokens``: that its dense operators run on.
    """
    times, works = _shares(step_time, batch, padded_tokens), works_of(spec, batch) | _adapters(spec, padded_tokens)
    shares = _dense_shares(spec, padded_tokens, efficiencies)
    adapted_s = adapter_s(spec, float(padded_tokens), efficiencies)
    dense = {name: (times.dense_s - adapted_s) * share for name, share in shares.items()} | {ADAPTERS: adapted_s}
    charged = {
        **dense,
        work.ATTENTION_PREFILL: times.prefill_s,
        work.ATTENTION_DECODE: times.decode_s,
        work.ALLREDUCE: times.comm_s,
        STRAGGLERS: times.straggler_s,
        HOST: times.const_s,
        SEQUENCES: times.seqs_s,
    }
    return _explained(batch, times.total_s, charged, works, "modelled")


def explain_formula(
    step_time: StepTime,
    spec: InstanceSpec,
    batch: Batch,
    padded_tokens: int,
    known: Known,
    efficiencies: Efficiencies,
) -> Explanation:
    """A step of a formula that was fitted to whole steps: its own parts, each with the operators in it."""
    times = _shares(step_time, batch, padded_tokens)
    works = _together(works_of(spec, batch)) | _adapters(spec, padded_tokens)
    overheads = _overheads(spec, batch, works, efficiencies)
    at_sequences = {LM_HEAD, work.SAMPLER} if step_time.coefficients.dense_knots else set()
    attention = {work.ATTENTION_PREFILL, work.ATTENTION_DECODE}
    apart = {work.ALLREDUCE} if times.comm_s else set()

    def member(name: str) -> Part:
        return Part(name, None, "modelled", works.get(name), overhead_s=overheads.get(name, 0.0))

    inner = [name for name in (*works, HOST) if name not in at_sequences | attention | apart]
    in_fixed = tuple(member(name) for name in works if name in at_sequences)
    found = [
        Part(LAYERS, times.dense_s, known, members=tuple(member(name) for name in inner)),
        Part(FIXED, times.const_s + times.seqs_s, known, members=in_fixed) if in_fixed else None,
        *(
            Part(name, time_s, known, works.get(name), overhead_s=overheads.get(name, 0.0))
            for name, time_s in (
                (work.ATTENTION_PREFILL, times.prefill_s),
                (work.ATTENTION_DECODE, times.decode_s),
                (work.ALLREDUCE, times.comm_s),
                (HOST, 0.0 if in_fixed else times.const_s),
                (SEQUENCES, 0.0 if in_fixed else times.seqs_s),
            )
        ),
        Part(STRAGGLERS, times.straggler_s, "modelled"),
    ]
    parts = tuple(part for part in found if part is not None and (part.time_s or part.members))
    return Explanation(batch, times.total_s, parts)


def explain_tables(
    step_time: TableStepTime, spec: InstanceSpec, batch: Batch, padded_tokens: int, operators: Operators, shape: Shape
) -> Explanation:
    """A step of tables that were assembled of ``operators``: a time for each of them."""
    works, total_s, launch_s = works_of(spec, batch), batch.seconds(step_time), step_time.tables.launch_s
    tokens, dense = dense_parts(operators, shape)
    seqs, head = head_parts(operators, shape)
    raw = {name: _at(tokens, rows, padded_tokens) for name, rows in dense.items()}
    raw |= {name: _at(seqs, rows, batch.seqs) for name, rows in head.items()}
    # Configured factors hold for all of a step; the last segments of sums go on otherwise than sums of last segments.
    dense_s = step_time.mixed_s(batch.tokens, batch.seqs, 0, 0, 0, 0.0) - launch_s
    scale = dense_s / sum(raw.values())
    prefill_s = batch.chunk_work(step_time) + launch_s if batch.chunks else 0.0
    straggler_s = total_s - batch.seconds(step_time, 0) if batch.decodes else 0.0
    charged = {name: time_s * scale for name, time_s in raw.items()}
    charged |= {
        work.ATTENTION_PREFILL: prefill_s,
        work.ATTENTION_DECODE: total_s - straggler_s - prefill_s - dense_s if batch.decodes else 0.0,
        STRAGGLERS: straggler_s,
    }
    found = _explained(batch, total_s, charged, works, "measured", KERNEL_START_S)
    modelled = {HOST, SEQUENCES, STRAGGLERS, *({work.ALLREDUCE} - set(operators.dense))}
    if batch.chunks and not _has_mixed(operators):
        modelled.add(work.ATTENTION_DECODE)
    parts = (replace(part, known="modelled") if part.name in modelled else part for part in found.parts)
    return replace(found, parts=tuple(parts))


def with_shared(
    own: Explanation,
    together: LockstepStepTime,
    exchange: Exchange,
    spec: InstanceSpec,
    fullest: float,
    padded_tokens: int,
    known: Known,
) -> Explanation:
    """A step that each engine of a group runs: its own part, and what all compute together, on the GPU that has
    ``fullest`` times the mean of the experts' tokens."""
    engines = together.engines
    experts_s = together.shared.experts_s(engines * padded_tokens)
    exchange_s = together.shared.exchange_s(engines * padded_tokens, padded_tokens, padded_tokens)
    experts, moved = experts_work(spec, own.batch, fullest), exchange.tokens_moved(own.batch.tokens, engines)
    links = Work(
        2 * experts.calls, link_bytes=moved * exchange.link_bytes_per_token, link_s=moved * exchange.limit_s_per_token
    )
    parts = [replace(part, members=tuple(each for each in part.members if each.name != EXPERTS)) for part in own.parts]
    parts += [
        Part(EXPERTS, experts_s, known, experts, overhead_s=experts.calls * KERNEL_START_S),
        Part(work.EXCHANGE, exchange_s, "modelled", links),
    ]
    return Explanation(own.batch, own.time_s + experts_s + exchange_s, tuple(parts))


def _adapters(spec: InstanceSpec, padded_tokens: int) -> dict[str, Work]:
    return {ADAPTERS: adapter_work(spec, float(padded_tokens))} if spec.adapters is not None else {}


def _has_mixed(operators: Operators) -> bool:
    """Whether steps that decode and prefill were measured."""
    rows = operators.attention
    return bool(((rows[:, 0] > 0) & (rows[:, 2] > 0)).any())


def _at(places: Floats, values: Floats, place: float) -> float:
    knots: Knots = tuple(zip(places.tolist(), values.tolist(), strict=True))
    return Line(knots).at(place)


def _explained(
    batch: Batch,
    total_s: float,
    charged: Mapping[str, float],
    works: Mapping[str, Work],
    known: Known,
    start_s: float = 0.0,
) -> Explanation:
    """``start_s``: of each call of a kernel, in what is charged."""
    parts = []
    for name, time_s in charged.items():
        own = works.get(name)
        if time_s:
            overhead_s = start_s * own.calls if own is not None else 0.0
            parts.append(Part(name, time_s, known, own, overhead_s=overhead_s))
    return Explanation(batch, total_s, tuple(parts))


def _dense_shares(spec: InstanceSpec, tokens: int, efficiencies: Efficiencies) -> dict[str, float]:
    """Shares of the roofline's time of the weights, by operator: what each reads of them, or computes with them.

    Routed experts are one matter, all else another, as the roofline has it.
    """
    model, gpu, degree = spec.model, spec.gpu, spec.tensor_parallel
    bytes_per_s = gpu.hbm_bytes_per_s * efficiencies.weight_reading
    types = ("bf16", spec.weight_dtype, model.expert_dtype(spec.weight_dtype))
    wide, narrow, of_experts = (gpu.peak_flops(dtype) * efficiencies.compute * degree for dtype in types)
    weights = weights_of(spec)
    read_s = {name: own.num_bytes / degree / bytes_per_s for name, own in weights.items()}
    computed_s = {
        name: 2 * own.params * tokens / (wide if name in KEPT_FIRST else narrow) for name, own in weights.items()
    }
    computed_s[EXPERTS] = 2 * weights[EXPERTS].params * tokens / of_experts
    if model.is_moe:
        everybody = tokens * spec.engines_sharing_experts
        touched = model.active_experts(everybody, spec.redundant_experts) / model.num_experts
        read_s[EXPERTS] = spec.expert_bytes_per_gpu * touched / bytes_per_s
        computed_s[EXPERTS] *= model.experts_per_token / model.num_experts
    found: dict[str, float] = {}
    for names in ([name for name in weights if name != EXPERTS], [EXPERTS]):
        times = max(read_s, computed_s, key=lambda times: sum(times[name] for name in names))
        found |= {name: times[name] for name in names}
    whole_s = sum(found.values())
    return {name: time_s / whole_s for name, time_s in found.items() if time_s}


def _overheads(
    spec: InstanceSpec, batch: Batch, works: Mapping[str, Work], efficiencies: Efficiencies
) -> dict[str, float]:
    """What operators take beyond their limits: kernels to start, links by their latency and achieved share, the
    host."""
    found = {name: own.calls * KERNEL_START_S for name, own in works.items()}
    if EXPERTS in works:
        found[EXPERTS] = max(found[EXPERTS], expert_starts_s(spec))
    if work.ALLREDUCE in works:
        one = allreduce(spec.gpu, spec.model.hidden_size, spec.tensor_parallel, efficiencies.links)
        all_s = allreduces_of_step(spec) * one.seconds(float(batch.tokens))
        found[work.ALLREDUCE] = max(0.0, all_s - works[work.ALLREDUCE].limit_s)
    return found | {HOST: efficiencies.step_overhead_s}


def _together(works: Mapping[str, Work]) -> dict[str, Work]:
    """Memory-bound passes as one operator."""
    found = {name: own for name, own in works.items() if name not in work.PASSES}
    passes = [own for name, own in works.items() if name in work.PASSES]
    return found | {PASSES: functools.reduce(_both, passes)}


def _both(one: Work, other: Work) -> Work:
    """One after the other, where both are bound by the same."""
    return Work(*(mine + yours for mine, yours in zip(astuple(one), astuple(other), strict=True)))


@dataclass(frozen=True)
class _Shares:
    """A formula's step, by what it is charged for: differences between steps that lack one thing each."""

    total_s: float
    dense_s: float
    seqs_s: float
    comm_s: float
    const_s: float
    prefill_s: float
    decode_s: float
    straggler_s: float


def _shares(step_time: StepTime, batch: Batch, padded_tokens: int) -> _Shares:
    total_s, tokens, seqs = batch.seconds(step_time), batch.tokens, batch.seqs
    coefficients = step_time.coefficients
    comm_s, const_s = coefficients.comm0_s + coefficients.comm1_s_per_token * padded_tokens, coefficients.const_s
    alone_s = step_time.mixed_s(tokens, 0, 0, 0, 0, 0.0)
    bare_s = step_time.mixed_s(tokens, seqs, 0, 0, 0, 0.0)
    prefills_s = step_time.mixed_s(tokens, seqs, 0, 0, 0, batch.chunk_work(step_time))
    even_s = batch.seconds(step_time, 0) if batch.decodes else total_s
    return _Shares(
        total_s=total_s,
        dense_s=alone_s - comm_s - const_s,
        seqs_s=bare_s - alone_s,
        comm_s=comm_s,
        const_s=const_s,
        prefill_s=prefills_s - bare_s,
        decode_s=even_s - prefills_s,
        straggler_s=total_s - even_s,
    )
