"""Times of a mixture's experts out of AIConfigurator's ``moe_perf`` table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kvsim.errors import ConfigError
from kvsim.spec import InstanceSpec
from kvsim.steptime.operators import Floats
from kvsim.units import MILLI
from kvsim.validate.calibrate.measured_kernels import columns

if TYPE_CHECKING:
    import polars as pl

EXPERTS = "moe_perf"
KINDS = {
    "bf16": ("bfloat16",),
    "fp8": ("fp8", "fp8_block"),
    "int4": ("int4_wo",),
    "int4_g32": ("int4_wo",),
    "mxfp4": ("w4a16_mxfp4",),
    "nvfp4": ("nvfp4",),
}
"""Kernels that weights of a type may run in, as the table spells them; the fastest counts."""
LEFT_OUT = "vllm_marlin_int4_moe"
"""Name of a kernel in tables of vLLM 0.18 and 0.19 whose times are left out: with all experts touched it reads them at
13% of an H100's bandwidth, in 4.8 times the time that the same experts took in vLLM 0.14's table, and computes in twice
that; SGLang's table of the same Marlin kernels agrees with the latter within 11% from 48 tokens on."""
EVEN, POWER_LAW = "balanced", "power_law_1.01"
"""How tokens were spread over experts; of the power laws the mildest that was measured."""
BETWEEN = (3.0, 5.0, 6.0, 10.0, 12.0, 20.0, 24.0, 40.0)
"""Numbers of tokens that are added to the measured ones: the experts that they touch bend between those."""


def expert_rows(frame: pl.DataFrame, spec: InstanceSpec) -> Floats:
    """Rows of (tokens, experts that they touch, seconds) of one layer's experts on one GPU of the instance.

    Routing, alignment of blocks and both products are in them. Where they were measured with tokens dealt out evenly, T
    tokens touch min(E, T k) of the E experts. Routers choose by the tokens, as if at random: T tokens touch
    E (1 - (1 - k/E)^T) in the mean, and take what that many experts take, and what T tokens take beyond those that
    touch all. Where they were measured by a power law alone, that is taken as it is. Raises ``ConfigError`` where no
    such experts were measured.
    """
    model = spec.model
    rows, is_even = _measured(frame, spec)
    if not is_even:
        return np.column_stack((rows[:, 0], [model.active_experts(tokens) for tokens in rows[:, 0]], rows[:, 1]))
    covering = model.num_experts / model.experts_per_token
    found = []
    for tokens in np.unique((*rows[:, 0], *BETWEEN)).tolist():
        touched = model.active_experts(tokens)
        time_s = float(np.interp(touched / model.experts_per_token, rows[:, 0], rows[:, 1]))
        if tokens > covering:
            more, all_s = np.interp((tokens, covering), rows[:, 0], rows[:, 1]).tolist()
            time_s += max(0.0, more - all_s)
        found.append((tokens, touched, time_s))
    return np.array(found)


def _measured(frame: pl.DataFrame, spec: InstanceSpec) -> tuple[Floats, bool]:
    """Rows of (tokens, seconds), tokens ascending, and whether those were dealt out evenly."""
    import polars as pl

    model = spec.model
    dtype = model.expert_dtype(spec.weight_dtype)
    if spec.expert_parallel > 1:
        raise ConfigError(f"{EXPERTS}.parquet: experts that GPUs share out are not taken from tables")
    wanted = {
        "hidden_size": model.hidden_size,
        "inter_size": model.expert_intermediate_size,
        "topk": model.experts_per_token,
        "num_experts": model.num_experts,
        "moe_tp_size": spec.tensor_parallel,
        "moe_ep_size": 1,
    }
    columns(frame, EXPERTS, [*wanted, "num_tokens", "latency"])
    own = frame.filter(pl.col("moe_dtype").is_in(KINDS.get(dtype, ())))
    own = own.filter(*(pl.col(key) == value for key, value in wanted.items()))
    if "kernel_source" in frame.columns:
        own = own.filter(pl.col("kernel_source") != LEFT_OUT)
    routed = next((name for name in (EVEN, POWER_LAW) if name in own["distribution"]), None)
    if routed is None:
        shape = f"{model.num_experts} experts of {model.hidden_size} x {model.expert_intermediate_size}"
        split = f"{model.experts_per_token} a token, over {spec.tensor_parallel} GPUs"
        kinds = " or ".join(KINDS.get(dtype, (dtype,)))
        raise ConfigError(f"{EXPERTS}.parquet: no {shape} in {kinds}, {split}")
    fastest = (
        own.filter(pl.col("distribution") == routed)
        .group_by("num_tokens")
        .agg(pl.col("latency").min())
        .sort("num_tokens")
    )
    rows = columns(fastest, EXPERTS, ["num_tokens", "latency"])
    rows[:, 1] *= MILLI
    return rows, routed == EVEN
