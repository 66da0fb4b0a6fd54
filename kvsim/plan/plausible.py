"""Step times that cannot be right: faster than the part's data sheet allows, or of the wrong unit."""

from __future__ import annotations

from kvsim.spec import InstanceSpec
from kvsim.steptime import StepTime
from kvsim.units import GB, TERA

MOST_STEP_S = 10.0
MARGIN = 1.1
"""Clocks boost, and data sheets round."""


def implausible(steps: StepTime, spec: InstanceSpec) -> str | None:
    """A sentence on what cannot be, or ``None``.

    Of one token, a step reads the weights that it needs once; of 2,048 tokens, it multiplies each with them.
    """
    one_s, many_s = steps.decode_alone_s(64), steps.prefill_alone_s(2048, 0)
    if max(one_s, many_s) > MOST_STEP_S:
        tokens = 2048 if many_s >= one_s else 1
        return f"a step of {tokens} tokens takes {max(one_s, many_s):,.1f} s: are the times in microseconds?"
    gpu, needed_bytes = spec.gpu, _bytes_of_a_token(spec)
    bytes_per_s = needed_bytes / one_s
    if bytes_per_s > MARGIN * gpu.hbm_bytes_per_s:
        return (
            f"a step of one token reads {needed_bytes / GB:.1f} GB of weights at "
            f"{bytes_per_s / GB:,.0f} GB/s, above the {gpu.hbm_bytes_per_s / GB:,.0f} GB/s of a {gpu.name}: are times, "
            "shapes and degree those of this instance?"
        )
    flops = 2 * spec.model.active_params / spec.tensor_parallel * 2048 / many_s
    peak = max(gpu.peak_flops(dtype) for dtype in (spec.weight_dtype, spec.model.expert_dtype(spec.weight_dtype)))
    if flops > MARGIN * peak:
        return (
            f"a step of 2,048 tokens runs at {flops / TERA:,.0f} TFLOPS a GPU, above the {peak / TERA:,.0f} of a "
            f"{gpu.name}: are times, shapes and degree those of this instance?"
        )
    return None


def _bytes_of_a_token(spec: InstanceSpec) -> float:
    """Weights on each GPU that one token is multiplied with: its own share of the routed experts, and all the rest."""
    model = spec.model
    unused = 1 - model.experts_per_token / model.num_experts if model.is_moe else 0.0
    return spec.weight_bytes_per_gpu - spec.expert_bytes_per_gpu * unused
