"""What a vLLM server takes where an argument is not given: by version, GPU and model.

Source: vLLM's ``EngineArgs``, ``VllmConfig``, ``CacheConfig`` and attention backends, from 0.8.5 to 0.32.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvsim.errors import ConfigError
from kvsim.spec import GpuSpec, ModelSpec
from kvsim.units import GIB

ASYNC_SINCE = (0, 14)
"""From this version on a step is scheduled while the one before it runs."""
ASYNC_STAGES_SINCE = (0, 15)
"""From this version on in a pipeline, too; 0.14 switches it off there."""
MEMORY_SHARE_SINCE = (0, 20)
"""From this version on a server takes 0.92 of the memory, before 0.9."""
LARGEST_SINCE = (0, 28)
"""From this version on GPUs of 160 GiB and more have budgets of their own, and Blackwell graphs up to 1,024 tokens."""
BACKENDS_DECIDE_SINCE = (0, 19)
"""From this version on the block size is one that the attention backend takes; before, MLA had one by GPU."""
SERVER_BATCHED_TOKENS = 8192
SERVER_SEQS = 1024
"""The last two on GPUs of 70 GiB and more, A100 excepted, and where the GPU is not known."""
LARGEST_BATCHED_TOKENS = 16_384
SMALL_BATCHED_TOKENS = 2048
SMALL_SEQS = 256
EXPERTS_BATCHED_TOKENS = 256
"""With ``BATCHED_EXPERTS`` between data-parallel engines."""
BATCHED_EXPERTS = ("deepep_low_latency", "nixl_ep")
GRAPHLESS_EXPERTS = ("deepep_high_throughput", "moonep")
"""Between data-parallel engines there are no CUDA graphs with them."""
GATHERING_SINCE = (0, 11)
"""From this version on tokens are gathered and sums scattered between engines that share experts; before, they were
broadcast and summed everywhere."""
NAIVE_UNTIL = (0, 16)
"""From this version on ``naive`` and ``pplx`` are gone, and gathering stands in for them."""
OFTEN_IN_STEP_SINCE = (0, 27)
"""From this version on engines that step together ask every 16 steps whether all are idle, before every 32."""
MOST_CAPTURED = 512
MOST_CAPTURED_BLACKWELL = 1024
INTERACTIVE_CAPTURED = 32
"""Up to here every size is captured where a server is to be quick rather than busy."""
BLOCK_SIZE = 16
BLOCK_SIZES = {
    "CUTLASS_MLA": 128,
    "FLASHINFER_MLA": 32,
    "FLASHMLA": 64,
    "FLASHMLA_SPARSE": 64,
    "FLASH_ATTN_MLA_SPARSE": 64,
    "HPC_ATTN": 64,
    "ROCM_AITER_UNIFIED_ATTN": 64,
}
"""Block sizes of the attention backends that do not take ``BLOCK_SIZE``, or prefer another."""
ANY_BLOCKS = ("ROCM_AITER_MLA", "ROCM_AITER_TRITON_MLA")
"""Attention backends that take blocks of any size."""
FIRST, LATEST = (0, 1), (0, 32)
"""The first version that there was, and the latest whose rules are known."""
_VERSION = re.compile(r"v?\d+(\.\d+){1,3}([.-]?(a|b|rc|post|dev)\d*)*(\+[\w.-]+)?")
_CAPABILITIES = (
    (re.compile("gb?[23]00|b[23]00"), 10),
    (re.compile("rtx-(50|pro-)"), 12),
    (re.compile("g?h(100|200|20)"), 9),
    (re.compile("l4|l40|rtx-(40|6000-ada)"), 8),
    (re.compile("mi[23]"), 0),
)


def checked_version(text: str, where: str = "vLLM's version") -> str:
    """``text`` itself; raises ``ConfigError``, naming ``where``, on what is neither empty nor can be a version."""
    if text and not is_version(text):
        first = ".".join(map(str, FIRST))
        raise ConfigError(f"{where} = {text!r:.60}: must be like 0.32.0, from {first} on, or absent for a present one")
    return text


def is_version(text: str) -> bool:
    """Whether vLLM can have such a version."""
    return _VERSION.fullmatch(text) is not None and version_of(text) >= FIRST


def version_of(text: str) -> tuple[int, ...]:
    """``0.19.0`` as numbers; what follows the numbers is left out."""
    numbers = []
    for part in text.split(".")[:3]:
        digits = "".join(character for character in part if character.isdecimal())
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def is_since(vllm_version: str, since: tuple[int, ...]) -> bool:
    """Whether it is that version or a later one; one that is not known counts as a present one."""
    version = version_of(vllm_version)
    return not version or version >= since


def is_async(vllm_version: str, stages: int = 1) -> bool:
    """Whether that version schedules ahead by default, in a pipeline of so many stages."""
    return is_since(vllm_version, ASYNC_SINCE if stages == 1 else ASYNC_STAGES_SINCE)


def memory_share(vllm_version: str) -> float:
    """Share of a GPU's memory that a server takes."""
    return 0.92 if is_since(vllm_version, MEMORY_SHARE_SINCE) else 0.9


def batch_of(gpu: GpuSpec, vllm_version: str) -> tuple[int, int]:
    """Tokens of a step and sequences of an OpenAI server on that GPU."""
    if gpu.memory_bytes >= 160 * GIB and is_since(vllm_version, LARGEST_SINCE):
        return LARGEST_BATCHED_TOKENS, SERVER_SEQS
    if gpu.memory_bytes >= 70 * GIB and "a100" not in gpu.name:
        return SERVER_BATCHED_TOKENS, SERVER_SEQS
    return SMALL_BATCHED_TOKENS, SMALL_SEQS


def capability_of(gpu: GpuSpec) -> int:
    """The major part of a GPU's compute capability; 0: not Nvidia's."""
    return next((major for pattern, major in _CAPABILITIES if pattern.match(gpu.name)), 8)


def block_size_of(model: ModelSpec, gpu: GpuSpec, vllm_version: str, kv_dtype: str) -> int:
    """Tokens a block for the attention backend that is chosen by default.

    Latent attention: on Hopper FlashAttention's takes any, but no quantised KV, for which FlashMLA is taken; on data
    centre Blackwell FlashInfer's; elsewhere Triton's.
    """
    major = capability_of(gpu)
    if not model.is_mla or major not in (9, 10):
        return BLOCK_SIZE
    if not is_since(vllm_version, BACKENDS_DECIDE_SINCE):
        return BLOCK_SIZES["FLASHMLA"]
    if major == 10:
        return BLOCK_SIZES["FLASHINFER_MLA"]
    return BLOCK_SIZE if kv_dtype in ("bf16", "fp16") else BLOCK_SIZES["FLASHMLA"]


def block_multiple(model: ModelSpec, gpu: GpuSpec, backend: str = "") -> int:
    """What a block size must be a multiple of; ``backend``: the one that is asked for, empty: any that there is."""
    name = backend.upper()
    if name in ANY_BLOCKS or (not name and model.is_mla and gpu.is_amd):
        return 1
    return BLOCK_SIZE if name == "ROCM_AITER_UNIFIED_ATTN" else BLOCK_SIZES.get(name, BLOCK_SIZE)


def capture_sizes(max_num_seqs: int, most: int | None = None) -> list[int]:
    """Batch sizes that CUDA graphs are captured for: 1, 2, 4, then every 8th up to 256, every 16th up to the ``most``.

    ``most``: twice the sequences, 512 at most, where it is not given.
    """
    if most is None:
        most = min(2 * max_num_seqs, MOST_CAPTURED)
    return [size for size in (1, 2, 4, *range(8, 256, 8), *range(256, most + 1, 16)) if size <= most]


def server_capture_sizes(
    max_num_seqs: int,
    batched_tokens: int,
    most: int | None,
    gpu: GpuSpec,
    vllm_version: str,
    is_interactive: bool,
    query_tokens: int = 1,
) -> list[int]:
    """Sizes that a server on ``gpu`` captures graphs for: those of ``capture_sizes``, and a batch of all its sequences.

    ``most``: the largest, where it is given. ``query_tokens``: of a decoding sequence, its drafts among them; graphs
    are captured for batches of whole sequences, too.
    """
    is_large = capability_of(gpu) == 10 and is_since(vllm_version, LARGEST_SINCE)
    ceiling = MOST_CAPTURED_BLACKWELL if is_large else MOST_CAPTURED
    largest = min(2 * max_num_seqs * query_tokens, ceiling) if most is None else most
    largest = min(largest, batched_tokens)
    sizes = set(capture_sizes(max_num_seqs, largest))
    if is_interactive:
        sizes |= set(range(1, min(largest, INTERACTIVE_CAPTURED) + 1))
    if batched_tokens <= largest:
        sizes.add(batched_tokens)
    if most is None and query_tokens > 1:
        counts = [*capture_sizes(max_num_seqs, min(max_num_seqs, ceiling)), min(max_num_seqs, ceiling)]
        sizes |= {count * query_tokens for count in counts if count * query_tokens <= largest}
    elif most is None and max_num_seqs <= largest:
        sizes.add(max_num_seqs)
    return sorted(sizes)


def given_capture_sizes(sizes: Sequence[int], batched_tokens: int) -> list[int]:
    """Sizes that a user asks for; no step is larger than its budget."""
    return sorted({size for size in sizes if size <= batched_tokens})


def all2all_backend(given: str | None, vllm_version: str) -> str:
    """What carries tokens to other engines' experts in that version where ``given``, or nothing, is asked for."""
    version = version_of(vllm_version)
    if given is None:
        return "naive" if version and version < GATHERING_SINCE else "allgather_reducescatter"
    is_gone = given in ("naive", "pplx") and not (version and version < NAIVE_UNTIL)
    return "allgather_reducescatter" if is_gone else given


def dp_sync_interval(vllm_version: str) -> int:
    """Steps after which data-parallel engines ask whether all of them are idle."""
    version = version_of(vllm_version)
    return 32 if version and version < OFTEN_IN_STEP_SINCE else 16
