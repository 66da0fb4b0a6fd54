"""Step-time coefficients from a model and a GPU: bytes over bandwidth and FLOPs over peak, with stated efficiencies."""

from __future__ import annotations

from dataclasses import dataclass

from kvsim.spec import InstanceSpec
from kvsim.steptime.coefficients import Coefficients

PREFILL_CHUNK_FLOOR_TOKENS = 256
"""Below this a prefill attention kernel gets no cheaper: its tiles are not filled."""


@dataclass(frozen=True, slots=True)
class Efficiencies:
    """Shares of the data sheet's peaks that real kernels reach, and the host's overheads."""

    compute: float
    weight_reading: float
    kv_reading: float
    attention_compute: float
    mixed_attention_factor: float
    allreduce_latency_s: float
    allreduce_bandwidth: float
    step_overhead_s: float
    sequence_overhead_s: float


def roofline(instance: InstanceSpec, efficiencies: Efficiencies) -> Coefficients:
    """Coefficients of one instance.

    A decode step reads the weights once (P bytes over the bandwidth of all its GPUs) and each sequence's KV; a prompt
    token costs 2 P FLOPs, and attention 4 x layers x heads x head_dim FLOPs for each earlier token it looks at. Tensor
    parallelism adds two all-reduces a layer, each moving 2 (n - 1) / n of the activations per GPU.
    """
    model, gpu, degree = instance.model, instance.gpu, instance.tensor_parallel
    flops = degree * gpu.peak_flops(instance.weight_dtype)
    hbm_bytes_per_s = degree * gpu.hbm_bytes_per_s
    weight_s = degree * instance.weight_bytes_per_gpu / (hbm_bytes_per_s * efficiencies.weight_reading)
    attention_flops = 4 * model.num_layers * model.num_heads * model.head_dim
    kv_s = instance.kv_bytes_per_token / (hbm_bytes_per_s * efficiencies.kv_reading)
    allreduces = 2 * model.num_layers if degree > 1 else 0
    moved_bytes = 2 * model.hidden_size * 2 * (degree - 1) / degree
    return Coefficients(
        w0_s=weight_s,
        w1_s_per_token=0.0,
        p0_s=0.0,
        p1_s_per_token=2 * model.active_params / (flops * efficiencies.compute),
        a_s_per_kv_token=kv_s,
        a_mixed_s_per_kv_token=kv_s * efficiencies.mixed_attention_factor,
        straggler_s_per_token=0.0,
        straggler_min_seqs=0.0,
        b_s_per_token2=attention_flops / (flops * efficiencies.attention_compute),
        prefill_chunk_floor_tokens=PREFILL_CHUNK_FLOOR_TOKENS,
        s_s_per_seq=efficiencies.sequence_overhead_s,
        comm0_s=allreduces * efficiencies.allreduce_latency_s,
        comm1_s_per_token=allreduces
        * moved_bytes
        / (gpu.interconnect_bytes_per_s * efficiencies.allreduce_bandwidth),
        const_s=efficiencies.step_overhead_s,
    )
