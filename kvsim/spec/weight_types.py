"""Types that weights are stored in: how large they are, and in which the matrix units compute with them.

Sources: AWQ and GPTQ with their usual groups of 128; OCP Microscaling Formats 1.0 for mxfp4; NVIDIA's description of
nvfp4; which kernels vLLM 0.32 has for what, ``vllm/model_executor/kernels/linear`` and
``vllm/model_executor/layers/fused_moe/oracle``.
"""

from __future__ import annotations

WEIGHT_BYTES = {
    "bf16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "int8_wo": 1.0,
    "int4": 0.5 + 2.5 / 128,  # a 16-bit scale and a 4-bit zero for each 128
    "int4_g32": 0.5 + 2 / 32,
    "mxfp4": 0.5 + 1 / 32,  # a byte of scale for each 32
    "nvfp4": 0.5 + 1 / 16,  # a byte of scale for each 16, and one value a matrix
}
"""Bytes of one weight with its share of the scales; those of fp8 and int8, a value for each row, are too few to count.
``int8_wo`` and both ``int4``: weights alone, activations in 16 bits."""
UNQUANTISED_BYTES = 2.0
"""Bytes of a weight that is left as it was: 16 bits."""
UNQUANTISED = ("bf16", "fp16")
FP8_SINCE, FP4_SINCE = (8, 9), (10, 0)
"""CUDA's compute capabilities that have such matrix units."""


def is_quantised(dtype: str) -> bool:
    return dtype not in UNQUANTISED


def computed_in(dtype: str, capability: tuple[int, int]) -> str:
    """In which of ``bf16``, ``fp8``, ``int8`` and ``fp4`` a GPU multiplies with such weights, as vLLM has it.

    Weight-only types are brought to 16 bits, and so is what a GPU has no units for (Marlin). Of mxfp4 vLLM takes
    kernels with 16-bit activations by default, on Blackwell too. (0, 0), a GPU that is not NVIDIA's, has all but fp4.
    """
    if dtype == "int8":
        return "int8"
    if dtype == "fp8":
        return "fp8" if capability == (0, 0) or capability >= FP8_SINCE else "bf16"
    return "fp4" if dtype == "nvfp4" and capability >= FP4_SINCE else "bf16"
