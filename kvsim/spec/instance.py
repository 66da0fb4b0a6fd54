"""One model replica on its GPUs: what it holds, and how many KV blocks fit beside the weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvsim.errors import CapacityError
from kvsim.spec.adapters import Adapters, adapter_buffer_bytes
from kvsim.spec.drafter import DrafterSpec
from kvsim.spec.gpu import GpuSpec
from kvsim.spec.kv_groups import KvGroups, kv_groups
from kvsim.spec.memory import MemoryArguments, NonKvMemory, extra_weight_bytes, non_kv_memory
from kvsim.spec.model import BYTES_PER_VALUE, ModelSpec
from kvsim.spec.stages import Stage, stage_weight_bytes, stages_of
from kvsim.units import GB

SHORT_STEP_TOKENS = 2048
"""Tokens of a step that take little memory: the least that vLLM has by default."""


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """One model replica on ``num_gpus`` GPUs: what it holds and how many KV blocks fit beside the weights.

    In a pipeline what is said of a GPU's memory holds for the stage that has room for the fewest blocks, as the weights
    and times of ``tensor_parallel`` GPUs are those of a stage that has all layers.
    """

    model: ModelSpec
    gpu: GpuSpec
    tensor_parallel: int
    weight_dtype: str
    kv_dtype: str
    block_size_tokens: int
    memory_utilisation: float
    non_kv_bytes_per_gpu: float | None = None
    """What neither weights nor KV take; None: by the rule of ``kvsim/spec/memory.py``, from ``arguments``."""
    arguments: MemoryArguments | None = None
    """What the rule and the figures that vLLM prints need of the engine."""
    kv_bytes_per_token_override: float | None = None
    kv_capacity_bytes_per_gpu: float | None = None
    """KV budget of one GPU; replaces what memory, weights and utilisation leave."""
    num_blocks_override: int | None = None
    is_hybrid: bool = True
    """Whether layers with a window free what lies before it: vLLM's hybrid KV cache manager."""
    tensor_parallel_key: str = "engine.tensor_parallel_size"
    """Where ``tensor_parallel`` is configured, for messages; so are the next three."""
    block_size_key: str = "engine.block_size"
    kv_size_key: str = "model.kv_bytes_per_token"
    kv_capacity_key: str = "hardware.hbm.kv_capacity_gb"
    expert_parallel: int = 1
    """GPUs, of all data-parallel engines, that share the routed experts; 1: each instance holds them all."""
    slices_experts: bool = False
    """Whether each of those GPUs holds a slice of every expert rather than some of them whole."""
    redundant_experts: int = 0
    """Copies of experts in each layer beside the first of each, over all GPUs that share them."""
    drafter: DrafterSpec | None = None
    """What drafts on the same GPUs; ``None``: nothing does."""
    adapters: Adapters | None = None
    """LoRA adapters that there is room for; ``None``: none."""
    pipeline_layers: tuple[int, ...] = ()
    """Layers of each stage of a pipeline, each on ``tensor_parallel`` GPUs of its own; none: one stage has them all."""

    @property
    def num_gpus(self) -> int:
        """GPUs of all stages."""
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def pipeline_parallel(self) -> int:
        return max(len(self.pipeline_layers), 1)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """One that has all layers where there is no pipeline."""
        return stages_of(self.pipeline_layers or (self.model.num_layers,))

    @property
    def tightest(self) -> Stage:
        """The stage that has room for the fewest blocks, and so decides how many there are: vLLM takes the minimum."""
        stages = self.stages
        if len(stages) == 1:
            return stages[0]
        return min(stages, key=lambda stage: self._room_bytes(stage) / stage.layer_share(self.model))

    @property
    def gpus_in_words(self) -> str:
        """``4 x h100-sxm``, ``2 stages of 4 x h100-sxm``."""
        each = f"{self.tensor_parallel} x {self.gpu.name}"
        return f"{self.pipeline_parallel} stages of {each}" if self.pipeline_layers else each

    @property
    def identity(self) -> dict[str, str | int]:
        """What times of its whole steps hold for, as files have it."""
        return {
            "model": self.model.name,
            "gpu": self.gpu.name,
            "tensor_parallel_size": self.tensor_parallel,
            "weight_dtype": self.weight_dtype,
            "kv_dtype": self.kv_dtype,
        }

    @property
    def kv_bytes_per_token(self) -> float:
        """Over the whole instance; KV heads are replicated when there are fewer of them than GPUs, a latent always."""
        if self.kv_bytes_per_token_override is not None:
            return self.kv_bytes_per_token_override
        heads = 1 if self.model.is_mla else self.model.num_kv_heads
        copies = max(1.0, self.tensor_parallel / heads)
        return self.model.kv_bytes_per_token(self.kv_dtype) * copies

    @property
    def cached_bytes_per_token(self) -> float:
        """What a token takes of the KV cache: ``kv_bytes_per_token``, and the drafter's KV."""
        if self.drafter is None:
            return self.kv_bytes_per_token
        return self.kv_bytes_per_token + self.drafter.kv_bytes_per_token(self.kv_dtype, self.tensor_parallel)

    @property
    def kv_value_bytes(self) -> float:
        return BYTES_PER_VALUE[self.kv_dtype]

    @property
    def weight_bytes_per_gpu(self) -> float:
        """Routed experts are split over ``expert_parallel`` GPUs where those are more, the rest over the instance's.
        Redundant ones are not counted."""
        return self.expert_bytes_per_gpu + self.model.other_bytes(self.weight_dtype) / self.tensor_parallel

    @property
    def expert_bytes_per_gpu(self) -> float:
        """Weights of the routed experts on each GPU; where some hold one more, on those."""
        return self.model.expert_bytes(self.weight_dtype) * self.expert_share

    @property
    def expert_share(self) -> float:
        """Share of a layer's routed experts that a GPU holds: whole ones of them, one more on some where they do not
        divide; or a slice of each."""
        gpus = max(self.tensor_parallel, self.expert_parallel)
        # Redundant ones fill up what does not divide.
        if self.slices_experts or self.expert_parallel == 1 or self.redundant_experts or not self.model.is_moe:
            return 1 / gpus
        return -(-self.model.num_experts // gpus) / self.model.num_experts

    @property
    def expert_excess(self) -> float:
        """Experts of the GPUs that hold most, over the mean."""
        return self.expert_share * max(self.tensor_parallel, self.expert_parallel)

    @property
    def shares_experts(self) -> bool:
        """Whether it holds a part of the routed experts, other data-parallel engines the rest."""
        return self.model.is_moe and self.expert_parallel > self.tensor_parallel

    @property
    def engines_sharing_experts(self) -> int:
        return self.expert_parallel // self.tensor_parallel if self.shares_experts else 1

    @property
    def loaded_weight_bytes_per_gpu(self) -> float:
        """What the weights take of a GPU's memory: more than a step reads of them."""
        return self._loaded_bytes(self.tightest)

    def _loaded_bytes(self, stage: Stage) -> float:
        return sum(self._loaded(stage).values())

    def _loaded(self, stage: Stage) -> dict[str, float]:
        """Bytes of a GPU that vLLM counts among the weights, by what takes them."""
        if self.pipeline_layers:
            gpus = max(self.tensor_parallel, self.expert_parallel)
            return {"weights": stage_weight_bytes(self.model, stage, self.tensor_parallel, gpus, self.weight_dtype)}
        found = {
            "weights": self.weight_bytes_per_gpu
            + extra_weight_bytes(self.model, self.tensor_parallel, self.weight_dtype),
            "redundant experts": self._redundant_bytes_per_gpu,
            "LoRA buffers": self.adapter_bytes_per_gpu,
            "drafter": 0.0 if self.drafter is None else self.drafter.weight_bytes_per_gpu,
        }
        return {name: size for name, size in found.items() if size}

    @property
    def _redundant_bytes_per_gpu(self) -> float:
        if not self.redundant_experts:
            return 0.0
        return self.expert_bytes_per_gpu * self.redundant_experts / self.model.num_experts

    @property
    def adapter_bytes_per_gpu(self) -> float:
        """Buffers for LoRA adapters, which vLLM counts among the weights."""
        if self.adapters is None:
            return 0.0
        return adapter_buffer_bytes(self.model, self.tensor_parallel, self.expert_parallel, self.adapters)

    @property
    def non_kv_memory(self) -> NonKvMemory:
        """By the rule, whether or not ``non_kv_bytes_per_gpu`` replaces it."""
        return self._non_kv_memory(self.tightest)

    def _non_kv_memory(self, stage: Stage) -> NonKvMemory:
        degrees = self.tensor_parallel, 1 if self.slices_experts else self.expert_parallel
        ends = {"embeds": stage.is_first, "samples": stage.is_last}
        return non_kv_memory(self.model, self.gpu, *degrees, self.weight_dtype, self._arguments, **ends)

    @property
    def derived_kv_bytes_per_gpu(self) -> float:
        """memory x utilisation - weights - all else; negative when the model does not fit."""
        return self._derived_bytes(self.tightest)

    def _derived_bytes(self, stage: Stage) -> float:
        given = self.non_kv_bytes_per_gpu
        others = self._non_kv_memory(stage).total if given is None else given
        return self._requested_bytes_per_gpu - self._loaded_bytes(stage) - others

    def _room_bytes(self, stage: Stage) -> float:
        """For KV, on all GPUs of a stage."""
        given = self.kv_capacity_bytes_per_gpu
        return (self._derived_bytes(stage) if given is None else given) * self.tensor_parallel

    @property
    def _requested_bytes_per_gpu(self) -> float:
        return self.gpu.total_memory_bytes * self.memory_utilisation

    @property
    def _arguments(self) -> MemoryArguments:
        assert self.arguments is not None, "an instance without arguments has non_kv_bytes_per_gpu, and prints nothing"
        return self.arguments

    @property
    def kv_cache_tokens(self) -> int:
        """``GPU KV cache size`` as vLLM prints it: ``max_concurrency`` requests of ``max_model_len`` tokens."""
        tokens = self._arguments.max_model_len
        return int(self.max_concurrency(tokens) * tokens)

    def max_concurrency(self, max_model_len: int) -> float:
        """``Maximum concurrency for`` that many tokens per request, as vLLM prints it."""
        per_request = self._blocks_per_request(max_model_len)
        return self.pool_blocks / (per_request or -(-max_model_len // self.block_size_tokens))

    def _blocks_per_request(self, tokens: int) -> int | None:
        """Blocks of the pool that a request takes where layers with a window have block tables of their own; ``None``:
        those of its tokens."""
        groups = self.kv_groups
        if groups is None or self.arguments is None:
            return None
        return groups.blocks_per_request(tokens, self.block_size_tokens, self.arguments)

    @property
    def kv_groups(self) -> KvGroups | None:
        """``None`` where all layers keep every token, as all do that have a window no sequence is longer than."""
        found = kv_groups(self.model) if self.is_hybrid and self.arguments is not None else None
        if found is not None and not found.full and found.window_tokens >= self._arguments.max_model_len:
            return None
        return found

    @property
    def pool_blocks(self) -> int:
        """``num_gpu_blocks`` as vLLM counts them: of a group of layers each, where there are such."""
        if self.num_blocks_override is not None:
            return self.num_blocks_override
        return int(self.kv_room_bytes // (self._block_bytes * self._block_share * self._stage_share))

    @property
    def _block_share(self) -> float:
        """Share of the layers that one block is of."""
        groups = self.kv_groups
        return 1.0 if groups is None else groups.layers / self.model.attention_layers

    def kv_cache_bytes(self, kv_tokens: int) -> float:
        """Bytes, on all GPUs, of a cache of so many tokens; where layers are in groups, of what they keep of those."""
        if self.kv_groups is None:
            return kv_tokens * self.cached_bytes_per_token
        return self.pool_blocks * self._block_bytes * self._block_share

    @property
    def _stage_share(self) -> float:
        """Share of a block that stands on the GPUs that decide how many there are."""
        return self.tightest.layer_share(self.model) if self.pipeline_layers else 1.0

    @property
    def num_blocks(self) -> int:
        """KV blocks of the instance, of all layers each. Raises ``CapacityError``, saying what would fit, when there is
        room for none.

        A model whose layers free what lies before a window has as many as hold requests of the longest length that
        there may be: what vLLM prints.
        """
        blocks = self.pool_blocks
        if blocks < 1:
            raise CapacityError(self._no_block_fits() if self.kv_room_bytes > 0 else self._does_not_fit())
        if self.arguments is None or self._blocks_per_request(self.arguments.max_model_len) is None:
            return blocks
        return max(self.kv_cache_tokens // self.block_size_tokens, 1)

    @property
    def kv_room_bytes(self) -> float:
        """On all GPUs of a stage; negative when the model does not fit."""
        return self._room_bytes(self.tightest)

    @property
    def _block_bytes(self) -> float:
        return self.cached_bytes_per_token * self.block_size_tokens

    def _no_block_fits(self) -> str:
        """The blocks are too large rather than the weights."""
        size = f" ({self.kv_size_key})" if self.kv_bytes_per_token_override is not None else ""
        is_given = self.kv_capacity_bytes_per_gpu is not None
        others = [name for name in self._loaded(self.tightest) if name != "weights"]
        loaded = " and ".join([f"the weights of {self.model.name}", *others])
        left = f"{self.kv_capacity_key} leaves" if is_given else f"{loaded} leave"
        of_whole_blocks = self.kv_size_key == "cache.block_size_bytes"  # fewer tokens would be larger ones
        of_token = self.cached_bytes_per_token * self._stage_share
        tokens = 0 if of_whole_blocks else int(self.kv_room_bytes // of_token)
        smaller = f"blocks of up to {tokens:,} tokens would fit" if tokens else ""
        degree = "" if is_given or (tokens and not self._that_fit()) else self._what_would_fit()
        advice = "; ".join(filter(None, (smaller, degree))) or "a larger one is wanted"
        return (
            f"no KV block fits {self._where}: {self.block_size_tokens:,} tokens "
            f"({self.block_size_key}) of {of_token:,.6g} bytes{size} take "
            f"{of_token * self.block_size_tokens / GB:,.3g} GB, where {left} {self.kv_room_bytes / GB:,.3g} GB; "
            f"{advice}"
        )

    def _does_not_fit(self) -> str:
        given = self.non_kv_bytes_per_gpu
        others = self.non_kv_memory.in_words() if given is None else f"{given / GB:.1f} GB beside them"
        loaded = " + ".join(f"{size / GB:.1f} GB of {name}" for name, size in self._loaded(self.tightest).items())
        return (
            f"{self.model.name} ({self.weight_dtype}) does not fit {self._where}: "
            f"{loaded} + {others} leave no KV block in {self._requested_bytes_per_gpu / GB:.1f} GB a GPU; "
            f"{self._what_would_fit()}"
        )

    @property
    def _where(self) -> str:
        """On which GPUs: in a pipeline, of which stage."""
        if not self.pipeline_layers:
            return self.gpus_in_words
        stage = self.tightest
        last = stage.first_layer + stage.layers - 1
        return f"{self.gpus_in_words}: stage {stage.place} has layers {stage.first_layer} to {last}"

    def _what_would_fit(self) -> str:
        found = self._that_fit()
        if found:
            return f"{' or '.join(found)} would fit"
        return "no tensor_parallel_size up to 32 would fit: use a smaller weight_dtype or a GPU with more memory"

    def _that_fit(self) -> list[str]:
        """Settings with which the model would fit, one of them each."""
        found = []
        if self.adapters is not None and (slots := self._slots_that_fit(self.adapters)):
            found.append(f"engine.max_loras {slots}")
        if self.redundant_experts and replace(self, redundant_experts=0)._fits:
            found.append("fewer engine.num_redundant_experts")
        if self.drafter is not None and replace(self, drafter=None)._fits:
            found.append("engine.speculative.method null")
        if self._has_long_steps and self._with_steps_of(SHORT_STEP_TOKENS)._fits:
            found.append("a smaller engine.max_num_batched_tokens")
        degree = next((each for each in (1, 2, 4, 8, 16, 32) if self._with_degree(each)._fits), None)
        return found if degree is None else [*found, f"{self.tensor_parallel_key} {degree}"]

    @property
    def _has_long_steps(self) -> bool:
        return self.non_kv_bytes_per_gpu is None and self._arguments.max_num_batched_tokens > SHORT_STEP_TOKENS

    def _with_steps_of(self, tokens: int) -> InstanceSpec:
        return replace(self, arguments=replace(self._arguments, max_num_batched_tokens=tokens))

    def _with_degree(self, degree: int) -> InstanceSpec:
        """An instance of that degree, with as many engines that share experts."""
        engines = self.expert_parallel // self.tensor_parallel if self.shares_experts else 1
        return replace(self, tensor_parallel=degree, expert_parallel=max(1, engines * degree))

    def _slots_that_fit(self, adapters: Adapters) -> int:
        """The most slots for adapters, of those that there are, that would leave room for KV; 0: none."""
        low, high = 0, adapters.max_loras
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._with_slots(adapters, middle)._fits else (low, middle)
        return low

    def _with_slots(self, adapters: Adapters, slots: int) -> InstanceSpec:
        return replace(self, adapters=replace(adapters, max_loras=slots))

    @property
    def _fits(self) -> bool:
        """With a GB for KV or more, whatever room is given."""
        left_bytes = self.derived_kv_bytes_per_gpu
        return left_bytes > GB and left_bytes * self.tensor_parallel >= self._block_bytes * self._stage_share
