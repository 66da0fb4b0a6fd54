"""Keys of step times: the coefficients of a profile, and which keys are of which way to know them."""

from __future__ import annotations

from kvsim.config.section import Knots, NonNegative, Section, Share

SHARES = (
    "steptime.compute_efficiency",
    "steptime.memory_efficiency",
    "steptime.attention_memory_efficiency",
    "steptime.attention_compute_efficiency",
    "steptime.mixed_attention_factor",
    "pd_separation.compute.prefill_tflops",
    "pd_separation.compute.decode_memory_gb_per_s",
    "pd_separation.compute.prefill_batch_efficiency",
)
"""What only step times from data sheets look at."""
NVLINK = ("steptime.allreduce_latency_us", "steptime.allreduce_efficiency")
PCIE = ("steptime.pcie_allreduce_latency_us", "steptime.pcie_allreduce_gb_per_s")
"""What is looked at where GPUs have no NVLink, in place of ``NVLINK``."""
HOST = ("steptime.step_overhead_us", "steptime.sequence_overhead_us")
ROOFLINE = (*SHARES, *NVLINK, *PCIE, *HOST)
"""What fitted coefficients have in them already."""
FOR_METHOD = {"steptime.coefficients": "fitted", "steptime.operators": "tables"}
"""What one method alone looks at."""


def method_of(key: str) -> str | None:
    """The method that looks at ``key``; ``None`` where that does not decide it."""
    return "roofline" if key in ROOFLINE else FOR_METHOD.get(key)


class Coefficients(Section):
    """``steptime.coefficients``: of one whole instance; profiles/README.md has the formula. Terms left out are 0."""

    w0_s: NonNegative
    w1_s_per_token: NonNegative
    p0_s: NonNegative
    p1_s_per_token: NonNegative
    a_s_per_kv_token: NonNegative
    a_mixed_s_per_kv_token: NonNegative
    straggler_s_per_token: NonNegative
    straggler_min_seqs: NonNegative
    b_s_per_token2: NonNegative
    prefill_chunk_floor_tokens: NonNegative
    s_s_per_seq: NonNegative
    comm0_s: NonNegative
    comm1_s_per_token: NonNegative
    const_s: NonNegative
    decode_s_per_seq: NonNegative = 0.0
    decode_mixed_s_per_seq: NonNegative = 0.0
    decode_mixed_s_per_seq_token: NonNegative = 0.0
    straggler_mixed_s_per_token: NonNegative = 0.0
    window_share: Share = 0.0
    window_tokens: NonNegative = 0.0
    dense_knots: Knots = ()
