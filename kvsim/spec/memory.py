"""What an engine takes of a GPU's memory before its KV cache, as vLLM's profile run finds it.

KV budget of a GPU = total memory x ``gpu_memory_utilization`` - weights as loaded - the parts below, where the total is
what CUDA reports. With N = ``max_num_batched_tokens``, S = ``max_num_seqs``, V the vocabulary, h the hidden size, I the
width of a dense MLP, k the experts a token goes to, all in 16 bits where nothing else is said:

- runtime: what the CUDA context, cuBLAS and Triton take once vLLM has looked how much is free;
- communication: buffers of all-reduces where the instance has several GPUs. NCCL's own count only up to vLLM 0.11.0:
  later versions look after NCCL has been set up. Since 0.18 GPUs with NVLink print 1.3 GiB more, alike for two and four
  of them on H100, H200 and B200; what has it does not follow from the sources;
- sampler state: counts of generated tokens and a mask of those of the prompt, S x V x (4 + 1/8) bytes, which model
  runner V2 keeps for penalties;
- expert workspace: two buffers of N x k rows, h or the experts' width wide, kept from step to step;
- activations: the larger of what one layer holds, N x (4 h + 3 I / GPUs), and what the sampler holds beside N x h: some
  copies of its S x V logits in float32;
- compilation: what tuning kernels holds beside a layer in model runner V2's profile run. Nothing where compiled code is
  found in a cache, so that the second start of a server has more KV than its first, which is what is assumed here;
- graphs: vLLM's own estimate of what CUDA graphs will take, subtracted since 0.20, on model runner V2 since 0.29;
- stage inputs: in a pipeline, hidden states and residuals that a stage gets from the one before, N x 2 h. The sampler's
  parts are those of the last stage alone.

Sources: vLLM 0.32, ``Worker.determine_available_memory``, ``memory_profiling``, ``PenaltiesState`` and
``profile_cudagraph_memory``; the versions in ``PROFILES`` are those between which printed figures change. The
coefficients there are fitted on a part of the public logs of ``tests/spec/kv_logs.csv``, which says on which;
``docs/memory.md`` has the error on all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from kvsim.spec.gpu import GpuSpec
from kvsim.spec.model import ModelSpec
from kvsim.spec.weight_types import UNQUANTISED_BYTES, WEIGHT_BYTES, is_quantised
from kvsim.units import GB, GIB

LOGIT_BYTES = 4.0
HIDDEN_COPIES, MLP_COPIES = 4, 3
"""What a compiled layer holds at its peak: residual, its normed copy, attention's output and the MLP's input; gate and
up projection together, and their product."""
MXFP4_WIDTH = 256
"""Experts are as wide as a multiple of it where their weights are MXFP4."""
STAYING_EXPERTS_SINCE = (0, 17)
"""Workspaces of unquantised experts are kept from then on; those of quantised ones since ``PROFILES`` says so."""


@dataclass(frozen=True, slots=True)
class MemoryArguments:
    """An engine's arguments that its memory depends on, by vLLM's names."""

    max_num_batched_tokens: int
    max_num_seqs: int
    max_model_len: int
    enforce_eager: bool
    async_scheduling: bool
    vllm_version: tuple[int, ...]
    """Whose profile run it is; empty: a present one."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Coefficients of one age of vLLM's profile run; sizes in GiB a GPU."""

    since: tuple[int, ...]
    logit_copies: float
    """Float32 logits that the sampler holds at its peak."""
    runtime: float
    nvlink: float
    """Communication buffers of instances of several GPUs."""
    pcie: float
    compilation: float = 0.0
    graphs: float = 0.0
    keeps_experts: bool = False
    is_v2: bool = False
    """Model runner V2, which keeps the sampler's state and profiles no sampling beside the logits."""


PROFILES = (
    Profile((0, 29), 0.5, 0.13, 1.85, 0.3, compilation=1.0, graphs=0.2, keeps_experts=True, is_v2=True),
    Profile((0, 26), 0.5, 0.13, 1.85, 0.3, compilation=1.0, keeps_experts=True, is_v2=True),
    Profile((0, 20), 3.72, 0.25, 1.85, 0.3, graphs=0.9, keeps_experts=True),
    Profile((0, 18), 3.72, 0.25, 1.85, 0.3, keeps_experts=True),
    Profile((0, 17), 3.72, 0.13, 0.56, 0.3, keeps_experts=True),
    Profile((0, 11, 1), 9.58, 0.13, 0.56, 0.3, keeps_experts=True),
    Profile((0, 8), 9.58, 0.13, 0.85, 0.15),
)
"""The present one first."""
ROCM_RUNTIME = 1.1
"""GiB that ROCm's runtime takes more."""
EXPERTS_ON_V2_SINCE = (0, 29)
"""Mixtures of experts came to model runner V2 after dense models."""


@dataclass(frozen=True, slots=True)
class NonKvMemory:
    """Bytes of one GPU that neither weights nor KV take, by what takes them."""

    runtime: float
    communication: float
    sampler_state: float
    expert_workspace: float
    activations: float
    compilation: float
    graphs: float
    stage_inputs: float = 0.0

    @property
    def total(self) -> float:
        return float(sum(getattr(self, part.name) for part in fields(self)))

    def in_words(self) -> str:
        """``5.1 GB beside them (2.1 GB of runtime, ...)``: the parts of a tenth of a GB or more."""
        parts = ((part.name.replace("_", " "), getattr(self, part.name)) for part in fields(self))
        named = ", ".join(f"{size / GB:.1f} of {name}" for name, size in parts if size >= 0.05 * GB)
        return f"{self.total / GB:.1f} GB beside them" + (f" ({named})" if named else "")


def profile_of(version: tuple[int, ...], *, is_moe: bool) -> Profile:
    """How that version profiles; versions before the first known count as that, an empty one as the present."""
    if not version:
        return PROFILES[0]
    known = (each for each in PROFILES if not (each.is_v2 and is_moe and version < EXPERTS_ON_V2_SINCE))
    return next((each for each in known if version >= each.since), PROFILES[-1])


def non_kv_memory(
    model: ModelSpec,
    gpu: GpuSpec,
    tensor_parallel: int,
    expert_parallel: int,
    weight_dtype: str,
    own: MemoryArguments,
    *,
    embeds: bool = True,
    samples: bool = True,
) -> NonKvMemory:
    """The parts of one GPU of an instance of ``tensor_parallel``; ``expert_parallel`` GPUs share the routed experts.

    Of a stage of a pipeline: whether it is the first one and ``embeds``, and the last one and ``samples``.
    """
    profile = profile_of(own.vllm_version, is_moe=model.is_moe)
    expert_dtype = model.expert_dtype(weight_dtype)
    experts = _expert_workspace(model, tensor_parallel, expert_parallel, expert_dtype, own)
    stays = profile.keeps_experts and (is_quantised(weight_dtype) or _since(own.vllm_version, STAYING_EXPERTS_SINCE))
    layer = _layer_bytes(model, tensor_parallel, own) + (0.0 if stays else experts)
    logits = min(own.max_num_seqs, own.max_num_batched_tokens) * model.vocab_size * LOGIT_BYTES if samples else 0.0
    copies = profile.logit_copies * (2 if profile.is_v2 and tensor_parallel > 1 else 1)  # gathered beside the own part
    sampling = own.max_num_batched_tokens * model.hidden_size * UNQUANTISED_BYTES + copies * logits
    compiled = layer + (0.0 if own.enforce_eager else profile.compilation * GIB)
    linked = profile.nvlink if gpu.has_nvlink else profile.pcie
    return NonKvMemory(
        runtime=(profile.runtime + (ROCM_RUNTIME if gpu.is_amd else 0.0)) * GIB,
        communication=linked * GIB if tensor_parallel > 1 else 0.0,
        sampler_state=logits * (1 + 1 / 32) if profile.is_v2 else 0.0,
        expert_workspace=experts if stays else 0.0,
        activations=max(layer, sampling),
        compilation=max(compiled, sampling) - max(layer, sampling),
        graphs=0.0 if own.enforce_eager else profile.graphs * GIB,
        stage_inputs=0.0 if embeds else own.max_num_batched_tokens * passed_bytes(model),
    )


def passed_bytes(model: ModelSpec) -> int:
    """Bytes of a token that a stage of a pipeline gets from the one before: hidden states and residual, in 16 bits."""
    return 2 * model.hidden_size * int(UNQUANTISED_BYTES)


def _layer_bytes(model: ModelSpec, tensor_parallel: int, own: MemoryArguments) -> float:
    """A mixture of experts has the dense MLP of its shared experts, or of its first layers."""
    width = model.intermediate_size
    if model.is_moe:
        first = width if model.num_dense_layers else 0
        width = max(first, model.num_shared_experts * model.expert_intermediate_size)
    values = HIDDEN_COPIES * model.hidden_size + MLP_COPIES * width / tensor_parallel
    return own.max_num_batched_tokens * values * UNQUANTISED_BYTES


def _expert_workspace(
    model: ModelSpec, tensor_parallel: int, expert_parallel: int, dtype: str, own: MemoryArguments
) -> float:
    """Inputs and outputs in one buffer, what is between in the other; kernels for mxfp4 have none.

    Where experts are shared with other instances, each GPU has them in their whole width.
    """
    if not model.is_moe or dtype == "mxfp4":
        return 0.0
    whole = expert_parallel > tensor_parallel
    width = model.expert_intermediate_size / (1 if whole else tensor_parallel)
    columns = max(width, model.hidden_size) + max(2 * width, model.hidden_size)
    return own.max_num_batched_tokens * model.experts_per_token * columns * UNQUANTISED_BYTES


def extra_weight_bytes(model: ModelSpec, tensor_parallel: int, weight_dtype: str) -> float:
    """What a GPU holds of the weights beside its even share of ``weight_dtype``.

    Every GPU has the routers and the down projections of latent attention whole; of its up projection there is a 16-bit
    copy for decoding (vLLM's ``MLACommonImpl``). What stands beside a language model, a vision tower, is shared out;
    experts in MXFP4 are padded.
    """
    size, others = WEIGHT_BYTES[weight_dtype], 1 - 1 / tensor_parallel
    beside = model.extra_bytes / tensor_parallel + _padding_bytes(model, tensor_parallel, weight_dtype)
    moe_layers = model.num_layers - model.num_dense_layers
    routers = moe_layers * model.num_experts * model.hidden_size * UNQUANTISED_BYTES * others
    if not model.is_mla:
        return beside + routers
    ranks = model.kv_lora_rank + model.rope_head_dim + model.q_lora_rank
    down = model.num_layers * model.hidden_size * ranks * size * others
    up = model.num_layers * model.kv_lora_rank * 2 * model.num_heads * model.head_dim * UNQUANTISED_BYTES
    return beside + routers + down + up / tensor_parallel


def _padding_bytes(model: ModelSpec, tensor_parallel: int, weight_dtype: str) -> float:
    """What MXFP4 kernels add to a GPU's routed experts: each GPU's part of their width is rounded up. The multiple is
    from gpt-oss-120b's printed weights; gpt-oss-20b's agree."""
    if model.expert_dtype(weight_dtype) != "mxfp4" or not model.expert_intermediate_size:
        return 0.0
    width = model.expert_intermediate_size / tensor_parallel
    padded = -(-width // MXFP4_WIDTH) * MXFP4_WIDTH
    return model.expert_bytes(weight_dtype) / tensor_parallel * (padded / width - 1)


def _since(version: tuple[int, ...], first: tuple[int, ...]) -> bool:
    return not version or version >= first
