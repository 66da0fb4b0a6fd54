"""One model replica on its GPUs: what it holds, and how many KV blocks fit beside the weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvsim.errors import CapacityError
from kvsim.spec.gpu import GpuSpec
from kvsim.spec.model import BYTES_PER_VALUE, ModelSpec
from kvsim.units import GB


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
    expert_parallel: int = 1
    """GPUs, of all data-parallel engines, that share the routed experts; 1: each instance holds them all."""

    @property
    def kv_bytes_per_token(self) -> float:
        """Over the whole instance; KV heads are replicated when there are fewer of them than GPUs, a latent always."""
        if self.kv_bytes_per_token_override is not None:
            return self.kv_bytes_per_token_override
        heads = 1 if self.model.is_mla else self.model.num_kv_heads
        copies = max(1.0, self.tensor_parallel / heads)
        return self.model.kv_bytes_per_token(self.kv_dtype) * copies

    @property
    def kv_value_bytes(self) -> float:
        return BYTES_PER_VALUE[self.kv_dtype]

    @property
    def weight_bytes_per_gpu(self) -> float:
        """Routed experts are split over ``expert_parallel`` GPUs where those are more, the rest over the instance's."""
        rest = (self.model.params - self.model.expert_params) / self.tensor_parallel
        return self.expert_bytes_per_gpu + rest * BYTES_PER_VALUE[self.weight_dtype]

    @property
    def expert_bytes_per_gpu(self) -> float:
        """Of those, the routed experts."""
        experts = self.model.expert_params / max(self.tensor_parallel, self.expert_parallel)
        return experts * BYTES_PER_VALUE[self.weight_dtype]

    @property
    def shares_experts(self) -> bool:
        """Whether it holds a part of the routed experts, other data-parallel engines the rest."""
        return self.model.is_moe and self.expert_parallel > self.tensor_parallel

    @property
    def engines_sharing_experts(self) -> int:
        return self.expert_parallel // self.tensor_parallel if self.shares_experts else 1

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
