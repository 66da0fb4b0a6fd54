"""What LoRA adapters add to a step: every linear layer's input goes through A and B of each request's adapter, too.

By bytes and FLOPs, as a roofline: nothing of it was measured. Each layer has two kernels of its own (vLLM's
``lora_shrink`` and ``lora_expand``), which read the matrices of the adapters that the step has, padded to the largest
rank, and the activations, and do not overlap with anything.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kvsim.spec import InstanceSpec, ModelSpec
from kvsim.spec.adapters import ADAPTER_BYTES, AdaptedLayer, Adapters, adapted_layers
from kvsim.steptime.curves.coefficients import Coefficients
from kvsim.steptime.roofline import Efficiencies
from kvsim.steptime.work import KERNEL_START_S, Work

ADAPTERS = "adapters"
KERNELS = 2
"""Kernels of a layer: shrink and expand; experts have both twice, for gate and up projection and for down."""
PLACES = tuple(float(2**power) for power in range(16))


def adapter_work(spec: InstanceSpec, tokens: float) -> Work:
    """All of a step of ``tokens`` tokens on one GPU, each token of another request than the next, but for the logits'
    activations, which go by sequences.

    Requests have one of m adapters each, drawn evenly: n tokens need m (1 - (1 - 1/m)^n) of them. More than there are
    slots for are in no step, so that m is at most ``max_loras``.
    """
    adapters = spec.adapters
    if adapters is None:
        return Work(0)
    calls, num_bytes, flops = 0, 0.0, 0.0
    for layer in adapted_layers(spec.model, spec.tensor_parallel, spec.expert_parallel):
        kernels, values, times = _of_layer(layer, spec.model, adapters, tokens)
        calls += layer.layers * kernels
        num_bytes += layer.layers * values * adapters.max_lora_rank * ADAPTER_BYTES
        if layer.of_sequences:
            continue
        num_bytes += layer.layers * times * tokens * _moved_bytes(layer)
        flops += layer.layers * 2.0 * times * tokens * (layer.values - layer.looked_up) * adapters.max_lora_rank
    gpu = spec.gpu
    memory_s, compute_s = num_bytes / gpu.hbm_bytes_per_s, flops / gpu.bf16_flops
    return Work(calls, num_bytes, flops, memory_s=memory_s, compute_s=compute_s)


def _of_layer(layer: AdaptedLayer, model: ModelSpec, adapters: Adapters, tokens: float) -> tuple[int, float, float]:
    """Kernels of a layer, what of its values a step reads for each of the rank, how often a token goes through it."""
    used = min(adapters.used, adapters.max_loras)
    if layer.copies == 1:
        return KERNELS, (layer.values - layer.looked_up) * _touched(used, 1.0, tokens), 1.0
    times = model.experts_per_token * layer.copies / model.num_experts
    pairs = _touched(used * layer.copies, times, tokens)
    return 2 * KERNELS, layer.values * pairs, times


def _moved_bytes(layer: AdaptedLayer) -> float:
    """Bytes of a token's activations: A reads inputs, B adds to outputs."""
    return float(layer.inputs + 2 * layer.outputs) * ADAPTER_BYTES


def _touched(choices: int, of_token: float, tokens: float) -> float:
    """Choices, of so many, that tokens make which make ``of_token`` each, evenly."""
    missed: float = max(0.0, 1.0 - of_token / choices) ** tokens
    return choices * (1.0 - missed)


def adapter_s(spec: InstanceSpec, tokens: float, efficiencies: Efficiencies) -> float:
    """Seconds that adapters add to a step of so many tokens; none without."""
    found = adapter_work(spec, tokens)
    work_s = max(found.memory_s / efficiencies.weight_reading, found.compute_s / efficiencies.compute)
    return found.calls * KERNEL_START_S + work_s


def sequence_s(spec: InstanceSpec, efficiencies: Efficiencies) -> float:
    """Seconds that adapters add to a step for each sequence: to its logits."""
    layers = adapted_layers(spec.model, spec.tensor_parallel, spec.expert_parallel)
    num_bytes = sum(_moved_bytes(layer) for layer in layers if layer.of_sequences)
    return num_bytes / (spec.gpu.hbm_bytes_per_s * efficiencies.weight_reading)


def with_adapters(coefficients: Coefficients, spec: InstanceSpec, efficiencies: Efficiencies) -> Coefficients:
    """Step times of the instance with its adapters, whose times without are ``coefficients``."""
    if spec.adapters is None:
        return coefficients
    places = np.array(sorted({*PLACES, *(tokens for tokens, _ in coefficients.dense_knots), *_bends(coefficients)}))
    bare_s = coefficients.dense_s(places) - coefficients.dense_s_beside_work(places)
    added_s = [adapter_s(spec, tokens, efficiencies) for tokens in places.tolist()]
    knots = zip(places.tolist(), (bare_s + np.array(added_s)).tolist(), strict=True)
    return replace(
        coefficients,
        w0_s=0.0,
        w1_s_per_token=0.0,
        p0_s=0.0,
        p1_s_per_token=0.0,
        dense_knots=tuple(knots),
        s_s_per_seq=coefficients.s_s_per_seq + sequence_s(spec, efficiencies),
    )


def _bends(coefficients: Coefficients) -> tuple[float, ...]:
    """Where the two lines cross."""
    rising = coefficients.p1_s_per_token - coefficients.w1_s_per_token
    if coefficients.dense_knots or rising <= 0:
        return ()
    crossing = (coefficients.w0_s - coefficients.p0_s) / rising
    return (crossing,) if crossing > 0 else ()
