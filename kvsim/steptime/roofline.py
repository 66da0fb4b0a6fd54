"""Step-time coefficients from a model and a GPU: bytes over bandwidth and FLOPs over peak, with stated efficiencies."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kvsim.spec import InstanceSpec
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
    token costs 2 P FLOPs, and attention 4 x layers x heads x head_dim FLOPs for each earlier token it looks at, in the
    type of KV (measured attention takes as long beside fp8 weights as beside bf16 ones); in layers with a window those
    are no more than that. Of a mixture of experts a token is multiplied with its own experts, and a step reads those
    that its tokens touch: the dense time has knots then.
    """
    model, gpu, degree = instance.model, instance.gpu, instance.tensor_parallel
    flops = degree * gpu.peak_flops(instance.weight_dtype)
    hbm_bytes_per_s = degree * gpu.hbm_bytes_per_s
    weight_s = degree * instance.weight_bytes_per_gpu / (hbm_bytes_per_s * efficiencies.weight_reading)
    token_s = 2 * model.active_params / (flops * efficiencies.compute)
    attention_flops = model.attention_layers * model.num_heads * attention_flops_of_pair(model)
    attention_flops_per_s = degree * gpu.peak_flops(instance.kv_dtype) * efficiencies.attention_compute
    kv_s = instance.kv_bytes_per_token / (hbm_bytes_per_s * efficiencies.kv_reading)
    comm = _communication(instance, efficiencies.links)
    return Coefficients(
        w0_s=weight_s,
        w1_s_per_token=0.0,
        p0_s=0.0,
        p1_s_per_token=token_s,
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
        dense_knots=_expert_knots(instance, weight_s, token_s) if model.is_moe else (),
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


def _expert_knots(instance: InstanceSpec, weight_s: float, token_s: float) -> Knots:
    """Times of a mixture of experts by the tokens of a step: max(reading, computing) of the experts, and of all else.

    They are read by kernels of their own, one after the other: where all else is computed, experts may still be read.
    Reading all weights takes ``weight_s``; T tokens, those of the engines that share its experts among them, touch
    E (1 - (1 - k/E)^T) experts. Computing is linear and reading bends towards it, so that they cross once.
    """
    model = instance.model
    expert_s = weight_s * instance.expert_bytes_per_gpu / instance.weight_bytes_per_gpu
    own_experts = model.expert_params * model.experts_per_token / model.num_experts
    expert_token_s = token_s * own_experts / model.active_params
    others_s, others_token_s = weight_s - expert_s, token_s - expert_token_s

    def reading_s(tokens: float) -> float:
        return expert_s * model.active_experts(tokens * instance.engines_sharing_experts) / model.num_experts

    def whole_s(tokens: float) -> float:
        return max(others_s, others_token_s * tokens) + max(reading_s(tokens), expert_token_s * tokens)

    low, high = 0.0, expert_s / expert_token_s
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if reading_s(middle) > expert_token_s * middle else (low, middle)
    bends = {max(high, 1.0), max(others_s / others_token_s, 1.0)}
    places = [float(tokens) for tokens in range(1, _EVERY_TOKENS + 1)]
    touched_share = min(model.experts_per_token / model.num_experts, 0.999)
    all_touched = math.log(_UNTOUCHED) / math.log1p(-touched_share)
    while places[-1] < min(high, all_touched):
        places.append(places[-1] * _APART)
    places = sorted({*(tokens for tokens in places if tokens < max(bends)), *bends, 2 * max(bends)})
    return tuple((tokens, whole_s(tokens)) for tokens in places)
