"""GPUs, from their vendors' data sheets: dense peaks, without sparsity."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kvsim.errors import ConfigError, nearest
from kvsim.units import GB, GIB, TERA


@dataclass(frozen=True, slots=True)
class GpuSpec:
    """One GPU, from its data sheet."""

    name: str
    memory_bytes: float
    hbm_bytes_per_s: float
    bf16_flops: float
    fp8_flops: float
    """Equal to ``bf16_flops`` where the part has no fp8 units."""
    interconnect_bytes_per_s: float
    """To its neighbours in the host, one direction: NVLink (or its like), else PCIe."""
    num_sms: int
    """Streaming multiprocessors, or compute units."""
    has_nvlink: bool

    def peak_flops(self, weight_dtype: str) -> float:
        """Dense peak at which GEMMs with such weights run; integer weights are dequantised to bf16."""
        return self.fp8_flops if weight_dtype == "fp8" else self.bf16_flops


GPUS = {
    spec.name: spec
    for spec in (
        GpuSpec("a100-40gb-sxm", 40 * GIB, 1555 * GB, 312 * TERA, 312 * TERA, 300 * GB, 108, True),
        GpuSpec("a100-80gb-sxm", 80 * GIB, 2039 * GB, 312 * TERA, 312 * TERA, 300 * GB, 108, True),
        GpuSpec("h100-sxm", 80 * GIB, 3350 * GB, 989 * TERA, 1979 * TERA, 450 * GB, 132, True),
        GpuSpec("h200-sxm", 141 * GB, 4800 * GB, 989 * TERA, 1979 * TERA, 450 * GB, 132, True),
        GpuSpec("b200-sxm", 180 * GB, 8000 * GB, 2250 * TERA, 4500 * TERA, 900 * GB, 148, True),
        GpuSpec("h100-pcie", 80 * GIB, 2000 * GB, 756 * TERA, 1513 * TERA, 64 * GB, 114, False),
        GpuSpec("h20", 96 * GB, 4000 * GB, 148 * TERA, 296 * TERA, 450 * GB, 78, True),
        GpuSpec("gh200", 96 * GB, 4000 * GB, 989 * TERA, 1979 * TERA, 450 * GB, 132, True),
        GpuSpec("l4", 24 * GB, 300 * GB, 121 * TERA, 242 * TERA, 32 * GB, 58, False),
        GpuSpec("a10", 24 * GB, 600 * GB, 125 * TERA, 125 * TERA, 32 * GB, 72, False),
        GpuSpec("a40", 48 * GB, 696 * GB, 150 * TERA, 150 * TERA, 32 * GB, 84, False),
        GpuSpec("rtx-a6000", 48 * GB, 768 * GB, 155 * TERA, 155 * TERA, 32 * GB, 84, False),
        GpuSpec("rtx-5090", 32 * GB, 1792 * GB, 209 * TERA, 419 * TERA, 64 * GB, 170, False),
        GpuSpec("l40s", 48 * GB, 864 * GB, 362 * TERA, 733 * TERA, 32 * GB, 142, False),
        GpuSpec("rtx-4090", 24 * GB, 1008 * GB, 165 * TERA, 330 * TERA, 32 * GB, 128, False),
        GpuSpec("rtx-pro-6000", 96 * GB, 1792 * GB, 503 * TERA, 1007 * TERA, 64 * GB, 188, False),
        GpuSpec("mi300x", 192 * GB, 5300 * GB, 1307 * TERA, 2614 * TERA, 448 * GB, 304, True),
    )
}

_ALIASES = {"a100": "a100-80gb-sxm", "a100sxm": "a100-80gb-sxm", "a100sxm480gb": "a100-80gb-sxm"}
_SPELLINGS = (
    (re.compile("h100(sxm|80gbhbm3|sxm5)?$"), "h100-sxm"),
    (re.compile("h200(sxm)?$"), "h200-sxm"),
    (re.compile("b200(sxm)?$"), "b200-sxm"),
    (re.compile("(rtxpro6000|rtx6000pro)(blackwell)?(serveredition|server)?$"), "rtx-pro-6000"),
    (re.compile("geforcertx4090$"), "rtx-4090"),
    (re.compile("geforcertx5090$"), "rtx-5090"),
    (re.compile("a100sxm4?40gb$"), "a100-40gb-sxm"),
)


def find_gpu(name: str) -> GpuSpec:
    """The known GPU of that name, however spelt (``h100_sxm``, ``NVIDIA H100 80GB HBM3``).

    Raises ``ConfigError`` naming the nearest.
    """
    found = known_gpu(name)
    if found is None:
        raise ConfigError(f"hardware.gpu: unknown GPU '{name}'; {nearest(name, GPUS)}")
    return GPUS[found]


def known_gpu(name: str) -> str | None:
    """kvsim's name of it, if there is one."""
    if name in GPUS:
        return name
    plain = re.sub("[^a-z0-9]", "", name.lower()).removeprefix("nvidia").removeprefix("amdinstinct")
    by_plain = {re.sub("[^a-z0-9]", "", key): key for key in GPUS} | _ALIASES
    if plain in by_plain:
        return by_plain[plain]
    return next((key for pattern, key in _SPELLINGS if pattern.match(plain)), None)
