"""GPUs, from their vendors' data sheets: dense peaks, without sparsity."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from kvsim.errors import ConfigError, nearest
from kvsim.spec.weight_types import computed_in
from kvsim.units import GB, GIB, MIB, TERA


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
    capability: tuple[int, int] = (0, 0)
    """CUDA's compute capability; (0, 0): not NVIDIA's."""
    usable_memory_bytes: float = 0.0
    """What the driver leaves to processes, as ``cudaMemGetInfo`` and PyTorch's ``total_memory`` say it; vLLM's
    ``gpu_memory_utilization`` is a share of that."""
    cache_bytes: float = 0.0
    """The last-level cache."""
    fp4_flops: float = 0.0
    """0: it has no units for fp4."""
    int8_flops: float = 0.0
    """0: twice those of bf16, as data sheets have it."""

    @property
    def is_amd(self) -> bool:
        return self.name.startswith("mi")

    @property
    def total_memory_bytes(self) -> float:
        """What an engine takes its share of; 1% less than the data sheet's where it is not known."""
        return self.usable_memory_bytes or 0.99 * self.memory_bytes

    def with_peak(self, flops: float) -> GpuSpec:
        """A GPU like this, of that peak in every type."""
        return replace(self, bf16_flops=flops, fp8_flops=flops, fp4_flops=flops, int8_flops=flops)

    def unit_of(self, weight_dtype: str) -> str:
        """The type in which GEMMs with such weights run: ``bf16``, ``fp8``, ``int8`` or ``fp4``."""
        unit = computed_in(weight_dtype, self.capability)
        return "fp8" if unit == "fp4" and not self.fp4_flops else unit

    def peak_flops(self, weight_dtype: str) -> float:
        """Dense peak at which GEMMs with such weights run."""
        unit = self.unit_of(weight_dtype)
        if unit == "fp4":
            return self.fp4_flops
        if unit == "int8":
            return self.int8_flops or 2 * self.bf16_flops
        return self.fp8_flops if unit == "fp8" else self.bf16_flops


def _gpu(
    name: str,
    memory_bytes: float,
    *,
    usable_gib: float,
    gb_per_s: float,
    tflops: tuple[float, ...],
    link_gb_per_s: float,
    sms: int,
    cache_mb: float,
    nvlink: bool = False,
    capability: tuple[int, int],
) -> GpuSpec:
    """``tflops``: of bf16, of fp8, and where there are units for it of fp4."""
    bf16, fp8, fp4 = (peak * TERA for peak in (*tflops, 0)[:3])
    return GpuSpec(
        name,
        memory_bytes,
        gb_per_s * GB,
        bf16,
        fp8,
        link_gb_per_s * GB,
        sms,
        nvlink,
        capability,
        usable_gib * GIB,
        cache_mb * MIB,
        fp4,
    )


GPUS = {
    spec.name: spec
    for spec in (
        _gpu("a100-40gb-sxm", 40 * GIB, usable_gib=39.49, gb_per_s=1555, tflops=(312, 312), link_gb_per_s=300,
             sms=108, cache_mb=40, nvlink=True, capability=(8, 0)),
        _gpu("a100-40gb-pcie", 40 * GIB, usable_gib=39.39, gb_per_s=1555, tflops=(312, 312), link_gb_per_s=32,
             sms=108, cache_mb=40, capability=(8, 0)),
        _gpu("a100-80gb-sxm", 80 * GIB, usable_gib=79.25, gb_per_s=2039, tflops=(312, 312), link_gb_per_s=300,
             sms=108, cache_mb=40, nvlink=True, capability=(8, 0)),
        _gpu("a100-80gb-pcie", 80 * GIB, usable_gib=79.25, gb_per_s=1935, tflops=(312, 312), link_gb_per_s=32,
             sms=108, cache_mb=40, capability=(8, 0)),
        _gpu("h100-sxm", 80 * GIB, usable_gib=79.19, gb_per_s=3350, tflops=(989, 1979), link_gb_per_s=450,
             sms=132, cache_mb=50, nvlink=True, capability=(9, 0)),
        _gpu("h100-pcie", 80 * GIB, usable_gib=79.19, gb_per_s=2000, tflops=(756, 1513), link_gb_per_s=64,
             sms=114, cache_mb=50, capability=(9, 0)),
        _gpu("h100-nvl", 94 * GIB, usable_gib=93.1, gb_per_s=3900, tflops=(835, 1671), link_gb_per_s=300,
             sms=132, cache_mb=50, nvlink=True, capability=(9, 0)),
        _gpu("h200-sxm", 141 * GB, usable_gib=139.8, gb_per_s=4800, tflops=(989, 1979), link_gb_per_s=450,
             sms=132, cache_mb=50, nvlink=True, capability=(9, 0)),
        _gpu("h20", 96 * GB, usable_gib=95.1, gb_per_s=4000, tflops=(148, 296), link_gb_per_s=450,
             sms=78, cache_mb=60, nvlink=True, capability=(9, 0)),
        _gpu("gh200", 96 * GB, usable_gib=94.5, gb_per_s=4000, tflops=(989, 1979), link_gb_per_s=450,
             sms=132, cache_mb=50, nvlink=True, capability=(9, 0)),
        _gpu("b200-sxm", 180 * GB, usable_gib=178.35, gb_per_s=8000, tflops=(2250, 4500, 9000), link_gb_per_s=900,
             sms=148, cache_mb=126, nvlink=True, capability=(10, 0)),
        _gpu("gb200", 186 * GIB, usable_gib=184.31, gb_per_s=8000, tflops=(2500, 5000, 10000), link_gb_per_s=900,
             sms=152, cache_mb=126, nvlink=True, capability=(10, 0)),
        _gpu("l4", 24 * GB, usable_gib=22.03, gb_per_s=300, tflops=(121, 242), link_gb_per_s=32,
             sms=58, cache_mb=48, capability=(8, 9)),
        _gpu("a10", 24 * GB, usable_gib=22.06, gb_per_s=600, tflops=(125, 125), link_gb_per_s=32,
             sms=72, cache_mb=6, capability=(8, 6)),
        _gpu("a10g", 24 * GB, usable_gib=22.06, gb_per_s=600, tflops=(70, 70), link_gb_per_s=32,
             sms=80, cache_mb=6, capability=(8, 6)),
        _gpu("a40", 48 * GB, usable_gib=44.34, gb_per_s=696, tflops=(150, 150), link_gb_per_s=32,
             sms=84, cache_mb=6, capability=(8, 6)),
        _gpu("rtx-a6000", 48 * GB, usable_gib=47.53, gb_per_s=768, tflops=(155, 155), link_gb_per_s=32,
             sms=84, cache_mb=6, capability=(8, 6)),
        _gpu("l40s", 48 * GB, usable_gib=44.4, gb_per_s=864, tflops=(362, 733), link_gb_per_s=32,
             sms=142, cache_mb=96, capability=(8, 9)),
        _gpu("rtx-4090", 24 * GB, usable_gib=23.52, gb_per_s=1008, tflops=(165, 330), link_gb_per_s=32,
             sms=128, cache_mb=72, capability=(8, 9)),
        _gpu("rtx-5090", 32 * GB, usable_gib=31.36, gb_per_s=1792, tflops=(209, 419, 1676), link_gb_per_s=64,
             sms=170, cache_mb=96, capability=(12, 0)),
        _gpu("rtx-pro-6000", 96 * GB, usable_gib=94.97, gb_per_s=1792, tflops=(503, 1007, 2015), link_gb_per_s=64,
             sms=188, cache_mb=128, capability=(12, 0)),
        _gpu("mi300x", 192 * GB, usable_gib=191.98, gb_per_s=5300, tflops=(1307, 2614), link_gb_per_s=448,
             sms=304, cache_mb=256, nvlink=True, capability=(0, 0)),
        _gpu("mi325x", 256 * GIB, usable_gib=255.98, gb_per_s=6000, tflops=(1307, 2614), link_gb_per_s=448,
             sms=304, cache_mb=256, nvlink=True, capability=(0, 0)),
    )
}  # fmt: skip
"""By the data sheets of NVIDIA and AMD; usable memory as PyTorch printed it of whole GPUs (``docs/models.md``)."""

_MAKERS = re.compile("nvidia|amd|instinct|tesla|geforce|oam")
_SPELLINGS = {
    "a100-40gb-sxm": "a100(sxm4?)?40gb(sxm4?)?",
    "a100-40gb-pcie": "a100(pcie40gb|40gbpcie)",
    "a100-80gb-sxm": "a100((sxm4?)?80gb|80gbsxm4?|sxm4?)?",
    "a100-80gb-pcie": "a100(pcie80gb|80gbpcie)",
    "h100-sxm": "h100(sxm5?|hbm3)?(80gb)?(hbm3|sxm5?)?",
    "h100-pcie": "h100(80gb)?pcie(80gb)?",
    "h100-nvl": "h100(94gb)?nvl(94gb)?",
    "h200-sxm": "h200(sxm5?)?(141gb)?(sxm5?)?",
    "h20": "h20(sxm5?)?(96gb)?",
    "gh200": "gh200(96gb|480gb)?",
    "b200-sxm": "b200(sxm6?)?(180gb)?",
    "gb200": "gb200(nvl72|nvl4)?",
    "l4": "l4(24gb)?",
    "a10": "a10(24gb)?(pcie)?",
    "a10g": "a10g(24gb)?",
    "l40s": "l40s(48gb)?(pcie)?",
    "a40": "a40(48gb)?(pcie)?",
    "rtx-a6000": "(rtx)?a6000",
    "rtx-4090": "(rtx)?4090",
    "rtx-5090": "(rtx)?5090",
    "rtx-pro-6000": "(rtxpro6000|rtx6000pro|pro6000)(blackwell)?((server|workstation)(edition)?)?",
    "mi300x": "mi300x(192gb)?",
    "mi325x": "mi325x(256gb)?",
}
"""What people and drivers write, without its maker and but for letters and digits."""


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
    plain = _MAKERS.sub("", re.sub("[^a-z0-9]", "", name.lower()))
    return next(
        (key for key, spelling in _SPELLINGS.items() if re.fullmatch(spelling.replace("gb", "gb?"), plain)), None
    )
