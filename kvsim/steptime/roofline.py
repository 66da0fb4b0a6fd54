"""Step-time coefficients from a model and a GPU: bytes over bandwidth and FLOPs over peak, with stated efficiencies."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kvsim.spec import InstanceSpec, ModelSpec
from kvsim.steptime.allreduce import AllReduce, AllReduceLinks, allreduce
from kvsim.steptime.curves.coefficients import Coefficients, Knots
from kvsim.steptime.work import attention_flops_of_pair

PREFILL_CHUNK_FLOOR_TOKENS = 256
"""Below this a prefill attention kernel gets no cheaper: its tiles are not filled."""
_EVERY_TOKENS = 16
"""Up to here a mixture of experts has a knot at every number of tokens, then at ``_APART`` times the one before."""
_APART = 1.12
_UNTOUCHED = 1e-4
"""Share of experts below which all are as good as touched."""


@dataclass(frozen=True, slots=True)
class Efficiencies:
    """Shares of the data sheet's peaks that real kernels reach, and the host's overheads."""

    compute: float
    weight_reading: float
    kv_reading: float
    attention_compute: float
    mixed_attention_factor: float
    links: AllReduceLinks
    step_overhead_s: float
    sequence_overhead_s: float


def roofline(instance: InstanceSpec, efficiencies: Efficiencies) -> Coefficients:
    """Coefficients of one instance.

    A decode step reads the weights once (P bytes over the bandwidth of all its GPUs) and each sequence's KV; a prompt
    token costs 2 P FLOPs, and attention 4 x layers x heads x head_dim FLOPs for each earlier token it looks at, in 16
    bits whatever the type of KV (prompts of 2,048 to 16,384 tokens over fp8 KV took vLLM 0.19's kernels 0.93 to 1.14
    times as long as over bf16 KV on H100, H200 and B200: AIConfigurator's tables); in layers with a window those are no
    more than that. Of a mixture of experts a token is multiplied with its own experts, in their own type, and a step
    reads those that its tokens touch: the dense time has knots then.
    """
    model, gpu, degree = instance.model, instance.gpu, instance.tensor_parallel
    hbm_bytes_per_s = degree * gpu.hbm_bytes_per_s
    weight_s, others_token_s, expert_token_s = _weight_times(instance, efficiencies)
    attention_flops = model.attention_layers * model.num_heads * attention_flops_of_pair(model)
    attention_flops_per_s = degree * gpu.bf16_flops * efficiencies.attention_compute
    kv_s = instance.kv_bytes_per_token / (hbm_bytes_per_s * efficiencies.kv_reading)
    comm = _communication(instance, efficiencies.links)
    return Coefficients(
        w0_s=weight_s,
        w1_s_per_token=0.0,
        p0_s=0.0,
        p1_s_per_token=others_token_s + expert_token_s,
        a_s_per_kv_token=kv_s,
        a_mixed_s_per_kv_token=kv_s * efficiencies.mixed_attention_factor,
        straggler_s_per_token=0.0,
        straggler_min_seqs=0.0,
        b_s_per_token2=attention_flops / attention_flops_per_s,
        prefill_chunk_floor_tokens=PREFILL_CHUNK_FLOOR_TOKENS,
        s_s_per_seq=efficiencies.sequence_overhead_s,
        comm0_s=comm.latency_s,
        comm1_s_per_token=comm.s_per_token,
        const_s=efficiencies.step_overhead_s,
        window_share=model.window_share,
        window_tokens=float(model.sliding_window_tokens or 0),
        dense_knots=_expert_knots(_parts_of(instance, weight_s, others_token_s, expert_token_s))
        if model.is_moe
        else (),
    )


def _communication(instance: InstanceSpec, links: AllReduceLinks) -> AllReduce:
    """All-reduces of a whole step: tensor parallelism adds two all-reduces a layer.

    Data-parallel engines that share experts gather the tokens of all before a layer's experts and scatter the sums
    behind, which moves what an all-reduce over all their GPUs would; each is taken to run as many tokens as the others.
    """
    model, gpu, degree = instance.model, instance.gpu, instance.tensor_parallel
    exchanges = model.num_layers - model.num_dense_layers if instance.shares_experts else 0
    latency_s = s_per_token = 0.0
    if degree > 1:
        one, count = allreduce(gpu, model.hidden_size, degree, links), 2 * model.num_layers - exchanges
        latency_s, s_per_token = count * one.latency_s, count * one.s_per_token
    if exchanges:
        one = allreduce(gpu, model.hidden_size, instance.expert_parallel, links)
        latency_s += exchanges * one.latency_s
        s_per_token += exchanges * one.s_per_token * instance.engines_sharing_experts
    return AllReduce(latency_s, s_per_token)


@dataclass(frozen=True, slots=True)
class ExpertParts:
    """Times of a mixture of experts by the tokens of a step: of the experts, and of all else.

    They are read by kernels of their own, one after the other: where all else is computed, experts may still be read.
    T tokens, those of the engines that share its experts among them, touch E (1 - (1 - k/E)^T) experts. Computing is
    linear and reading bends towards it, so that they cross once.
    """

    model: ModelSpec
    engines: int
    redundant: int
    read_experts_s: float
    """Seconds in which all of the experts are read; likewise the next three of a token and of all else."""
    expert_token_s: float
    read_others_s: float
    other_token_s: float

    def experts_s(self, tokens: float) -> float:
        return max(self.reading_s(tokens), self.expert_token_s * tokens)

    def others_s(self, tokens: float) -> float:
        return max(self.read_others_s, self.other_token_s * tokens)

    def reading_s(self, tokens: float) -> float:
        touched = self.model.active_experts(tokens * self.engines, self.redundant)
        return self.read_experts_s * touched / self.model.num_experts

    @property
    def crossing(self) -> float:
        """Tokens from which on experts are computed rather than read."""
        low, high = 0.0, self.read_experts_s * (1 + self.redundant / self.model.num_experts) / self.expert_token_s
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.reading_s(middle) > self.expert_token_s * middle else (low, middle)
        return high

    @property
    def bends(self) -> set[float]:
        return {max(self.crossing, 1.0), max(self.read_others_s / self.other_token_s, 1.0)}

    @property
    def last_bend(self) -> float:
        return max(self.bends)


def expert_parts(instance: InstanceSpec, efficiencies: Efficiencies) -> ExpertParts:
    """Times of one instance of a mixture of experts."""
    return _parts_of(instance, *_weight_times(instance, efficiencies))


def _weight_times(instance: InstanceSpec, efficiencies: Efficiencies) -> tuple[float, float, float]:
    """Seconds in which all weights are read, in which a token is multiplied with those that it meets but for experts,
    and with its experts: these in their own type."""
    model, gpu, degree = instance.model, instance.gpu, instance.tensor_parallel
    flops_per_s = degree * gpu.peak_flops(instance.weight_dtype) * efficiencies.compute
    expert_flops_per_s = degree * gpu.peak_flops(model.expert_dtype(instance.weight_dtype)) * efficiencies.compute
    hbm_bytes_per_s = degree * gpu.hbm_bytes_per_s
    weight_s = degree * instance.weight_bytes_per_gpu / (hbm_bytes_per_s * efficiencies.weight_reading)
    others_token_s = 2 * (model.active_params - model.active_expert_params) / flops_per_s
    return weight_s, others_token_s, 2 * model.active_expert_params * instance.expert_excess / expert_flops_per_s


def _parts_of(instance: InstanceSpec, weight_s: float, others_token_s: float, expert_token_s: float) -> ExpertParts:
    model = instance.model
    expert_s = weight_s * instance.expert_bytes_per_gpu / instance.weight_bytes_per_gpu
    engines, redundant = instance.engines_sharing_experts, instance.redundant_experts
    return ExpertParts(model, engines, redundant, expert_s, expert_token_s, weight_s - expert_s, others_token_s)


def expert_places(most: float) -> list[float]:
    """Numbers of tokens between which the experts that they touch are as good as linear, up to ``most``."""
    places = [float(tokens) for tokens in range(1, _EVERY_TOKENS + 1)]
    while places[-1] < most:
        places.append(places[-1] * _APART)
    return [place for place in places if place < most]


def _expert_knots(parts: ExpertParts) -> Knots:
    """Reading all weights takes as long as the roofline says; the last of the knots are where times are linear."""
    model, bends, last = parts.model, parts.bends, parts.last_bend
    touched_share = min(model.experts_per_token / model.num_experts, 0.999)
    all_touched = math.log(_UNTOUCHED) / math.log1p(-touched_share)
    places = [float(tokens) for tokens in range(1, _EVERY_TOKENS + 1)]
    while places[-1] < min(parts.crossing, all_touched):
        places.append(places[-1] * _APART)
    places = sorted({*(tokens for tokens in places if tokens < last), *bends, 2 * last})
    return tuple((tokens, parts.others_s(tokens) + parts.experts_s(tokens)) for tokens in places)
