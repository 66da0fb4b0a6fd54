"""What Modal asks for a second of a machine, as of :data:`kvsim.spec.prices.AS_OF`, and which GPUs it has."""

from __future__ import annotations

from dataclasses import dataclass

from kvsim.errors import ConfigError, nearest
from kvsim.spec.prices import USD_PER_S

CORE_USD_PER_S = 0.0000131
"""A physical core, which is two virtual ones."""
GIB_USD_PER_S = 0.00000222
REGION_FACTOR = 2.5
"""On everything, where a region is asked for. Modal's guide has had tables of 1.25 and 2.5, and of 1.5 and 1.75 by the
region's width: the largest of them."""


@dataclass(frozen=True, slots=True)
class CloudGpu:
    """A GPU as Modal rents it."""

    name: str
    asked: str
    """As Modal's ``gpu`` argument has it: this GPU and no better one in its place."""
    usd_per_s: float
    says: str
    """A pattern of the name that ``nvidia-smi`` prints."""
    memory_gib: int
    most: int
    """GPUs in a container."""
    kvsim: str | None
    """As kvsim's own flags have it; ``None``: unknown to it."""
    has_bf16: bool = True


GPUS = {
    gpu.name: gpu
    for gpu in (
        CloudGpu("t4", "T4", 0.000164, r"\bT4\b", 16, 8, None, has_bf16=False),
        CloudGpu("l4", "L4", USD_PER_S["l4"], r"\bL4\b", 24, 8, "l4"),
        CloudGpu("a10", "A10", USD_PER_S["a10"], r"\bA10G?\b", 24, 4, "a10"),
        CloudGpu("l40s", "L40S", USD_PER_S["l40s"], "L40S", 48, 8, "l40s"),
        CloudGpu("a100-40", "A100-40GB", USD_PER_S["a100-40gb-sxm"], "A100.*40GB", 40, 8, "a100-40gb-sxm"),
        CloudGpu("a100-80", "A100-80GB", USD_PER_S["a100-80gb-sxm"], "A100.*80GB", 80, 8, "a100-80gb-sxm"),
        CloudGpu("h100", "H100!", USD_PER_S["h100-sxm"], "H100", 80, 8, "h100-sxm"),
        CloudGpu("h200", "H200", USD_PER_S["h200-sxm"], "H200", 141, 8, "h200-sxm"),
        CloudGpu("b200", "B200", USD_PER_S["b200-sxm"], "B200", 180, 8, "b200-sxm"),
    )
}
"""From the cheapest on. Modal may give an H200 for an H100 at the same price, unless it is asked for with an ``!``."""


def gpu_of(name: str) -> CloudGpu:
    """Raises ``ConfigError`` with the nearest name."""
    found = GPUS.get(name.lower().removesuffix("gb"))
    if found is None:
        raise ConfigError(f"--gpu {name}: Modal has no such GPU; {nearest(name.lower(), GPUS)}")
    return found


@dataclass(frozen=True, slots=True)
class Machine:
    """A container: its cores and memory are limits, which what runs in it cannot go beyond."""

    cores: float
    memory_gib: int
    gpu: CloudGpu | None = None
    gpus: int = 0
    region: str | None = None
    """``None``: wherever there is one."""

    def __post_init__(self) -> None:
        if self.gpu is not None and not 1 <= self.gpus <= self.gpu.most:
            raise ConfigError(f"--gpus {self.gpus}: Modal puts 1 to {self.gpu.most} of {self.gpu.asked} in a container")

    @property
    def usd_per_s(self) -> float:
        """What all of it costs, used or not."""
        gpus = 0.0 if self.gpu is None else self.gpu.usd_per_s * self.gpus
        usd = gpus + self.cores * CORE_USD_PER_S + self.memory_gib * GIB_USD_PER_S
        return usd * (1.0 if self.region is None else REGION_FACTOR)

    @property
    def words(self) -> str:
        """For a reader."""
        gpus = "no GPU" if self.gpu is None else f"{self.gpus} x {self.gpu.asked.rstrip('!')}"
        where = "" if self.region is None else f", in {self.region}"
        return f"{gpus}, {self.cores:g} cores, {self.memory_gib} GiB{where}"
