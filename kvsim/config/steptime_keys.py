"""Which keys are of which way to know step times."""

from __future__ import annotations

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
