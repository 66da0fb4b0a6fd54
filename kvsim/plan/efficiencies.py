"""The configured shares of the data sheet that the roofline takes for achieved."""

from __future__ import annotations

from kvsim.config import Config
from kvsim.spec import InstanceSpec
from kvsim.steptime import Efficiencies
from kvsim.steptime.allreduce import AllReduceLinks
from kvsim.units import GB, MICRO, TERA


def efficiencies_of(config: Config, spec: InstanceSpec) -> Efficiencies:
    """The configured shares; an achieved TFLOPS or GB/s of the seed's keys is turned into one."""
    steptime, compute = config.steptime, config.pd_separation.compute
    compute_share = steptime.compute_efficiency
    if compute.prefill_tflops is not None:
        compute_share = compute.prefill_tflops * TERA / spec.gpu.peak_flops(spec.weight_dtype)
    if compute.prefill_batch_efficiency is not None:
        compute_share *= compute.prefill_batch_efficiency
    memory_share = steptime.memory_efficiency
    if compute.decode_memory_gb_per_s is not None:
        memory_share = compute.decode_memory_gb_per_s * GB / spec.gpu.hbm_bytes_per_s
    return Efficiencies(
        compute=compute_share,
        weight_reading=memory_share,
        kv_reading=steptime.attention_memory_efficiency,
        attention_compute=steptime.attention_compute_efficiency,
        mixed_attention_factor=steptime.mixed_attention_factor,
        links=links_of(config),
        step_overhead_s=steptime.step_overhead_us * MICRO,
        sequence_overhead_s=steptime.sequence_overhead_us * MICRO,
    )


def links_of(config: Config) -> AllReduceLinks:
    """What an instance's all-reduces run over."""
    steptime = config.steptime
    return AllReduceLinks(
        nvlink_latency_s=steptime.allreduce_latency_us * MICRO,
        nvlink_share=steptime.allreduce_efficiency,
        pcie_latency_s=steptime.pcie_allreduce_latency_us * MICRO,
        pcie_bytes_per_s=steptime.pcie_allreduce_gb_per_s * GB,
    )
