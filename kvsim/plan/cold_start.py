"""How long an instance takes to come: a node, its image, its weights, and what its engine does before it serves."""

from __future__ import annotations

from dataclasses import dataclass

from kvsim.config.autoscale_keys import Coming
from kvsim.plan.instance import Instance
from kvsim.spec.stages import stage_weight_bytes
from kvsim.units import GB


@dataclass(frozen=True)
class ColdStart:
    """Seconds, one part after the other."""

    node_s: float
    image_s: float
    weights_s: float
    """From a disk or over a network, into the memory of the host."""
    to_gpu_s: float
    """Over PCIe, all GPUs at a time."""
    warmup_s: float
    weight_bytes: float
    """What all its GPUs load together."""

    @property
    def total_s(self) -> float:
        return self.node_s + self.image_s + self.weights_s + self.to_gpu_s + self.warmup_s


def cold_start_of(instance: Instance, keys: Coming) -> ColdStart:
    """The cold start of such an instance. Weights are those that its GPUs hold, what several of them hold counted for
    each, as each reads its own.
    """
    weight_bytes = _weight_bytes(instance)
    return ColdStart(
        node_s=keys.node_s,
        image_s=0.0 if keys.image_cached else keys.image_gb / keys.registry_gb_per_s,
        weights_s=weight_bytes / (keys.weights_gb_per_s * GB),
        to_gpu_s=weight_bytes / instance.degree / (keys.pcie_gb_per_s * GB),
        warmup_s=keys.warmup_s,
        weight_bytes=weight_bytes,
    )


def _weight_bytes(instance: Instance) -> float:
    spec = instance.spec
    if not spec.pipeline_layers:
        return (spec.loaded_weight_bytes_per_gpu - spec.adapter_bytes_per_gpu) * spec.num_gpus
    gpus = max(spec.tensor_parallel, spec.expert_parallel)
    each = (
        stage_weight_bytes(spec.model, stage, spec.tensor_parallel, gpus, spec.weight_dtype) for stage in spec.stages
    )
    return sum(each) * spec.tensor_parallel
