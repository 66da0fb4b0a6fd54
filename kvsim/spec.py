"""Models, GPUs and their arithmetic: bytes and FLOPs, nothing measured.

Sources: the models' published ``config.json`` and model cards; the GPU vendors' data sheets (dense, without sparsity).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvsim.errors import CapacityError, ConfigError, nearest
from kvsim.units import GB, GIB, TERA

BYTES_PER_VALUE = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A dense decoder-only transformer."""

    name: str
    params: float
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int

    def kv_bytes_per_token(self, kv_dtype: str) -> float:
        """Keys and values of one token over all layers: 2 x layers x kv_heads x head_dim x bytes."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * BYTES_PER_VALUE[kv_dtype]

    def weight_bytes(self, weight_dtype: str) -> float:
        return self.params * BYTES_PER_VALUE[weight_dtype]


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
    """To its neighbours in the host, one direction: NVLink, else PCIe."""

    def peak_flops(self, weight_dtype: str) -> float:
        """Dense peak at which GEMMs with such weights run; integer weights are dequantised to bf16."""
        return self.fp8_flops if weight_dtype == "fp8" else self.bf16_flops


MODELS = {
    spec.name: spec
    for spec in (
        ModelSpec("llama-3.1-8b", 8.03e9, 32, 4096, 32, 8, 128),
        ModelSpec("llama-3.1-70b", 70.55e9, 80, 8192, 64, 8, 128),
        ModelSpec("llama-3.1-405b", 405.85e9, 126, 16384, 128, 8, 128),
        ModelSpec("qwen3-32b", 32.76e9, 64, 5120, 64, 8, 128),
        ModelSpec("mistral-7b", 7.25e9, 32, 4096, 32, 8, 128),
    )
}

GPUS = {
    spec.name: spec
    for spec in (
        GpuSpec("a100-80gb-sxm", 80 * GIB, 2039 * GB, 312 * TERA, 312 * TERA, 300 * GB),
        GpuSpec("h100-sxm", 80 * GIB, 3350 * GB, 989 * TERA, 1979 * TERA, 450 * GB),
        GpuSpec("h200-sxm", 141 * GB, 4800 * GB, 989 * TERA, 1979 * TERA, 450 * GB),
        GpuSpec("b200-sxm", 180 * GB, 8000 * GB, 2250 * TERA, 4500 * TERA, 900 * GB),
        GpuSpec("rtx-pro-6000", 96 * GB, 1792 * GB, 503 * TERA, 1007 * TERA, 64 * GB),
    )
}


def find_model(name: str) -> ModelSpec:
    """The known model of that name. Raises ``ConfigError`` naming the nearest."""
    if name not in MODELS:
        raise ConfigError(f"model.name: unknown model '{name}'; {nearest(name, MODELS)}")
    return MODELS[name]


def find_gpu(name: str) -> GpuSpec:
    """The known GPU of that name. Raises ``ConfigError`` naming the nearest."""
    if name not in GPUS:
        raise ConfigError(f"hardware.gpu: unknown GPU '{name}'; {nearest(name, GPUS)}")
    return GPUS[name]


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """One model replica on ``tensor_parallel`` GPUs: what it holds and how many KV blocks fit beside the weights."""

    model: ModelSpec
    gpu: GpuSpec
    tensor_parallel: int
    weight_dtype: str
    kv_dtype: str
    block_size_tokens: int
    memory_utilisation: float
    non_kv_bytes_per_gpu: float
    kv_bytes_per_token_override: float | None = None
    kv_capacity_bytes_per_gpu: float | None = None
    """KV budget of one GPU; replaces what memory, weights and utilisation leave."""
    num_blocks_override: int | None = None
    tensor_parallel_key: str = "engine.tensor_parallel_size"
    """Where ``tensor_parallel`` is configured, for messages."""

    @property
    def kv_bytes_per_token(self) -> float:
        """Over the whole instance; KV heads are replicated when there are fewer of them than GPUs."""
        if self.kv_bytes_per_token_override is not None:
            return self.kv_bytes_per_token_override
        copies = max(1.0, self.tensor_parallel / self.model.num_kv_heads)
        return self.model.kv_bytes_per_token(self.kv_dtype) * copies

    @property
    def weight_bytes_per_gpu(self) -> float:
        return self.model.weight_bytes(self.weight_dtype) / self.tensor_parallel

    @property
    def derived_kv_bytes_per_gpu(self) -> float:
        """memory x utilisation - weights - activations and graphs; negative when the model does not fit."""
        usable_bytes = self.gpu.memory_bytes * self.memory_utilisation
        return usable_bytes - self.weight_bytes_per_gpu - self.non_kv_bytes_per_gpu

    @property
    def num_blocks(self) -> int:
        """KV blocks of the instance. Raises ``CapacityError``, saying what would fit, when there is room for none."""
        if self.num_blocks_override is not None:
            return self.num_blocks_override
        per_gpu_bytes = self.kv_capacity_bytes_per_gpu
        if per_gpu_bytes is None:
            per_gpu_bytes = self.derived_kv_bytes_per_gpu
        block_bytes = self.kv_bytes_per_token * self.block_size_tokens
        blocks = int(per_gpu_bytes * self.tensor_parallel // block_bytes)
        if blocks < 1:
            raise CapacityError(self._does_not_fit())
        return blocks

    def _does_not_fit(self) -> str:
        usable_gb = self.gpu.memory_bytes * self.memory_utilisation / GB
        return (
            f"{self.model.name} ({self.weight_dtype}) does not fit {self.tensor_parallel} x {self.gpu.name}: "
            f"{self.weight_bytes_per_gpu / GB:.1f} GB of weights + {self.non_kv_bytes_per_gpu / GB:.1f} GB of "
            f"activations leave no KV block in {usable_gb:.1f} GB a GPU; {self._what_would_fit()}"
        )

    def _what_would_fit(self) -> str:
        for degree in (1, 2, 4, 8, 16, 32):
            if replace(self, tensor_parallel=degree, kv_capacity_bytes_per_gpu=None).derived_kv_bytes_per_gpu > GB:
                return f"{self.tensor_parallel_key} {degree} would fit"
        return "no tensor_parallel_size up to 32 would fit: use a smaller weight_dtype or a GPU with more memory"
