"""What data-parallel engines that share experts compute together: from one engine that holds them all, by arithmetic.

A GPU of n holds an n-th of the experts and gets an n-th of the tokens that all engines have. With T tokens in all, as
many of its experts are touched, in proportion, as on an engine with T tokens and all experts, and it computes an n-th
of what that one would. So it takes an n-th of its experts' time, but for starting the kernels. On the fullest GPU it is
as if all engines had had that many more tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kvsim.spec import InstanceSpec, ModelSpec
from kvsim.steptime.allreduce import ACTIVATION_BYTES, allreduce
from kvsim.steptime.assemble import Shape, experts_s
from kvsim.steptime.curves.coefficients import Coefficients, Knots, extended
from kvsim.steptime.curves.lockstep import SharedLayers
from kvsim.steptime.operators import Floats, Operators
from kvsim.steptime.roofline import Efficiencies, ExpertParts, expert_parts, expert_places
from kvsim.steptime.work import KERNEL_START_S, expert_starts_s, remaining_allreduces

LEAST_OF_LAYERS = 0.5
"""Share of a measured time that is left where modelled all-reduces are taken out of it."""
GATHERED = ("allgather_reducescatter", "naive")
"""Backends that give all tokens to every GPU."""
BY_EXPERT = ("deepep_low_latency", "pplx", "mori_low_latency", "nixl_ep")
"""Backends that send a token once to each of its experts; all others once to each GPU that has any of them."""


@dataclass(frozen=True)
class ExchangeLinks:
    """What tokens travel over between the GPUs of a group."""

    collective_s: float
    """Seconds of one collective with next to nothing to move."""
    link_bytes_per_s: float
    """From a GPU to those of its host, achieved, one direction."""
    nic_bytes_per_s: float
    """From a GPU to other hosts, achieved, one direction."""
    rated_nic_bytes_per_s: float
    """What the NIC is sold as."""
    gpus_per_host: int


@dataclass(frozen=True)
class Exchange:
    """Times of all the exchanges of a step; the members are those of ``SharedLayers``."""

    latency_s: float
    s_per_token: float
    gathers: bool
    own_share: float = 1.0
    received_share: float = 0.0
    link_bytes_per_token: float = 0.0
    """Bytes over a GPU's link, each direction, for a token that it has to send or get."""
    limit_s_per_token: float = 0.0
    """Seconds for such a token where links and NICs reach what they are sold as."""

    def tokens_moved(self, tokens: float, engines: int) -> float:
        """Tokens that a GPU has to send or get in a step of ``tokens`` on each of the engines."""
        return tokens * (engines - self.own_share if self.gathers else max(1.0, self.received_share * engines))

    def around(self, experts: Knots) -> SharedLayers:
        """With the experts between going there and back."""
        return SharedLayers(
            experts,
            self.latency_s,
            self.s_per_token,
            gathers=self.gathers,
            own_share=self.own_share,
            received_share=self.received_share,
        )


def exchange_of(spec: InstanceSpec, backend: str, links: ExchangeLinks, fullest: float = 1.0) -> Exchange:
    """All layers' exchanges: two collectives a layer, tokens there in their activations' type and sums back in 16 bits.

    Experts that are split in slices are gathered for whatever the backend. Source of what each moves:
    vLLM's ``AgRsAll2AllManager`` and the prepare/finalize classes of its backends.
    """
    model, degree, gpus = spec.model, spec.tensor_parallel, spec.expert_parallel
    layers = model.num_layers - model.num_dense_layers
    there, back = model.hidden_size * _dispatched_bytes(spec), float(model.hidden_size * ACTIVATION_BYTES)
    hosts, latency_s = -(-gpus // links.gpus_per_host), 2 * layers * links.collective_s
    gathers = backend in GATHERED or spec.slices_experts
    if gathers:
        # A sum of all tokens on all GPUs, in place of each GPU's own, is twice the bytes.
        moved = there + back * (2 if backend == "naive" and not spec.slices_experts else 1)
        near, far = 1.0, (1 - 1 / hosts) / min(gpus, links.gpus_per_host)
    else:
        # The GPUs of an engine each send their part of its tokens; an even share of all is what each GPU gets.
        moved = (there + back) / degree
        near, far = _copies(model, backend, gpus, hosts)
    near_bytes, far_bytes = layers * moved * near, layers * moved * far
    return Exchange(
        latency_s,
        max(near_bytes / links.link_bytes_per_s, far_bytes / links.nic_bytes_per_s),
        gathers,
        own_share=1.0 if spec.slices_experts or not gathers else 1 / degree,
        received_share=0.0 if gathers else fullest / spec.engines_sharing_experts,
        link_bytes_per_token=near_bytes,
        limit_s_per_token=max(near_bytes / spec.gpu.interconnect_bytes_per_s, far_bytes / links.rated_nic_bytes_per_s),
    )


def _dispatched_bytes(spec: InstanceSpec) -> float:
    """Bytes of one value on its way to the experts: weights in fp8 are multiplied with activations in fp8."""
    return 1.0 if (spec.model.expert_weight_dtype or spec.weight_dtype) == "fp8" else float(ACTIVATION_BYTES)


def _copies(model: ModelSpec, backend: str, gpus: int, hosts: int) -> tuple[float, float]:
    """How often a token is sent to other GPUs, and to other hosts, where its experts are any of all."""
    experts = model.experts_per_token
    if backend in BY_EXPERT:
        return experts * (1 - 1 / gpus), experts * (1 - 1 / hosts)

    def reached(places: int) -> float:
        return (places - 1) * (1 - (1 - 1 / places) ** experts)

    return reached(gpus), reached(hosts)


def formula_parts(
    alone: Coefficients, spec: InstanceSpec, efficiencies: Efficiencies, exchange: Exchange, fullest: float
) -> tuple[Coefficients, SharedLayers]:
    """An engine's own part, and what the group computes, from a formula of an engine that holds all experts.

    What of its dense time is the experts' is as the roofline has it.
    """
    parts = expert_parts(replace(spec, expert_parallel=1, redundant_experts=0), efficiencies)
    tokens = _places(alone, parts)
    whole_s = extended(tokens, alone.dense_knots) if alone.dense_knots else _lines(alone, tokens)
    theirs_s = np.array([parts.experts_s(place) for place in tokens])
    others_s = np.array([parts.others_s(place) for place in tokens])
    # Of more tokens all else takes no less.
    rest_s = np.minimum(np.maximum.accumulate(whole_s * others_s / (theirs_s + others_s)), whole_s)
    own_s = rest_s - _allreduces_s(alone, spec, efficiencies, tokens, rest_s)
    more = _read_more(spec, efficiencies, tokens) / theirs_s
    experts_s = _split((whole_s - rest_s) * more, spec)
    # A modelled formula has its all-reduces apart.
    kept = 1 - _saved(spec) / (2 * spec.model.num_layers)
    own = replace(
        alone,
        dense_knots=_knots(tokens, own_s),
        comm0_s=alone.comm0_s * kept,
        comm1_s_per_token=alone.comm1_s_per_token * kept,
    )
    return own, exchange.around(_knots(tokens / _crowding(spec, fullest), experts_s))


def _crowding(spec: InstanceSpec, fullest: float) -> float:
    """Times as many tokens for each of its experts as in the mean, on the GPU that gets ``fullest`` times the mean."""
    return max(1.0, fullest / spec.expert_excess)


def _places(alone: Coefficients, parts: ExpertParts) -> Floats:
    """From one token on: what was measured of less is what parts of a token come to."""
    measured = [place for place, _ in alone.dense_knots if place >= 1]
    most = max([2 * parts.last_bend, *measured])
    return np.array(sorted({*expert_places(most), *measured, *parts.bends, most}))


def _lines(alone: Coefficients, tokens: Floats) -> Floats:
    found: Floats = np.maximum(alone.w0_s + alone.w1_s_per_token * tokens, alone.p0_s + alone.p1_s_per_token * tokens)
    return found


def _saved(spec: InstanceSpec) -> float:
    """All-reduces of a step that exchanges stand in for."""
    layers = spec.model.num_layers - spec.model.num_dense_layers
    return layers * (1 - remaining_allreduces(spec)) if spec.tensor_parallel > 1 else 0.0


def _allreduces_s(
    alone: Coefficients, spec: InstanceSpec, efficiencies: Efficiencies, tokens: Floats, rest_s: Floats
) -> Floats:
    """Seconds of the all-reduces that fall away, where they are in the measured times by tokens."""
    if not _saved(spec) or alone.comm0_s or alone.comm1_s_per_token:
        return np.zeros(len(tokens))
    one = allreduce(spec.gpu, spec.model.hidden_size, spec.tensor_parallel, efficiencies.links)
    found: Floats = np.minimum(_saved(spec) * one.seconds(tokens), (1 - LEAST_OF_LAYERS) * rest_s)
    return found


def _read_more(spec: InstanceSpec, efficiencies: Efficiencies, tokens: Floats) -> Floats:
    """The roofline's seconds of the experts, those of redundant ones among them, on one engine that holds them all."""
    parts = expert_parts(replace(spec, expert_parallel=1), efficiencies)
    return np.array([parts.experts_s(place) for place in tokens])


def _split(time_s: Floats, spec: InstanceSpec) -> Floats:
    """Over the GPUs of all engines: each has its part to do, those with one more expert a larger one, and starts as
    many kernels."""
    layers = spec.model.num_layers - spec.model.num_dense_layers
    starts_s = np.minimum(time_s, max(layers * KERNEL_START_S, expert_starts_s(spec)))
    found: Floats = starts_s + (time_s - starts_s) * spec.expert_excess / spec.engines_sharing_experts
    return found


def table_parts(
    operators: Operators, shape: Shape, spec: InstanceSpec, exchange: Exchange, fullest: float
) -> SharedLayers:
    """What the group computes, from the experts' own table: of the GPU's part of them, or of them all where they are
    split in slices."""
    gpus = 1.0 if spec.slices_experts else 1 / spec.expert_share
    most = max(float(operators.moe[:, 0].max()) * gpus, 2.0)
    tokens = np.array(sorted({*expert_places(most), *(operators.moe[:, 0] * gpus), most}))
    layers = shape.num_layers - shape.num_dense_layers
    time_s = layers * experts_s(operators.moe, shape, tokens, gpus)
    if spec.slices_experts:
        time_s = _split(time_s, spec)
    return exchange.around(_knots(tokens / _crowding(spec, fullest), time_s))


def alike(own: Coefficients, shared: SharedLayers, engines: int) -> Coefficients:
    """The formula that comes nearest to steps that every engine of a group runs."""
    tokens = np.array(sorted({place for place, _ in own.dense_knots} | {x / engines for x, _ in shared.experts}))
    experts_s = extended(tokens * engines, shared.experts)
    exchange_s = np.array([shared.exchange_s(engines * place, place, place) for place in tokens.tolist()])
    return replace(own, dense_knots=_knots(tokens, extended(tokens, own.dense_knots) + experts_s + exchange_s))


def _knots(tokens: Floats, time_s: Floats) -> Knots:
    return tuple(zip(tokens.tolist(), time_s.tolist(), strict=True))
