"""What an SGLang server takes where an argument is not given, by vLLM's names of arguments.

Source: SGLang 0.5.23, ``arg_groups/memory_hook.py`` and ``cuda_graph_hook.py``, and its pool of requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.spec import GpuSpec, ModelSpec
from kvsim.units import GIB

MIB = 1024**2
SEQS = 2048
"""The least that a pool of requests holds; it has up to twice as many where the KV cache is large for the context."""
_BY_MEMORY = (
    (20, 2048, 8, 8),
    (35, 4096, 48, 160),
    (60, 4096, 32, 160),
    (160, 8192, 256, 512),
    (float("inf"), 16_384, 512, 512),
)
"""Up to so many GiB: tokens of a chunk, and the largest decode batch captured on fewer than 4 GPUs and on more."""


def with_sglang_defaults(arguments: Fields, gpu: GpuSpec | None, model: ModelSpec | None) -> Fields:
    """``arguments`` with what SGLang puts in place of those that are absent; ``gpu`` absent: those of an H100.

    Raises ``ConfigError`` for what SGLang does not start with: chunks that are no whole pages, no memory left.
    """
    values: Mapping[str, Any] = arguments.values
    degree = values.get("tensor_parallel_size", 1) * values.get("data_parallel_size", 1)
    memory_gib = 80.0 if gpu is None else gpu.memory_bytes / GIB
    chunk, *largest = next(row[1:] for row in _BY_MEMORY if memory_gib < row[0])
    most = min(int(largest[degree >= 4]), values.get("max_num_seqs") or SEQS)
    found: dict[str, Any] = {"max_num_seqs": SEQS, "max_num_batched_tokens": int(chunk)} | dict(values)
    _check_pages(found)
    found["max_num_seqs"] = min(found["max_num_seqs"], found["max_num_batched_tokens"])
    if "cudagraph_capture_sizes" not in found and not found.get("enforce_eager"):
        found["cudagraph_capture_sizes"] = capture_sizes(found.get("max_cudagraph_capture_size") or most)
    found.pop("max_cudagraph_capture_size", None)
    if "static_memory_fraction" not in found and gpu is not None:
        found["static_memory_fraction"] = _static_fraction(gpu, model, found, degree)
    if "static_memory_fraction" in found:
        found["gpu_memory_utilization"] = found["static_memory_fraction"]
    return Fields(arguments.file, found)


def _check_pages(found: Mapping[str, Any]) -> None:
    """SGLang asserts it, where prompts are cut."""
    chunk, page = found["max_num_batched_tokens"], found.get("block_size") or 1
    if found.get("enable_chunked_prefill", True) and chunk % page:
        raise ConfigError(
            f"sglang.launch_server: --chunked-prefill-size {chunk} must be a multiple of --page-size {page}"
        )


def _static_fraction(gpu: GpuSpec, model: ModelSpec | None, found: Mapping[str, Any], degree: int) -> float:
    """Share of the memory for weights and KV: what activations, graphs and more GPUs are reckoned to need is left."""
    chunk = max(found["max_num_batched_tokens"], 2048)
    reserved_mib = 512 + 1.5 * chunk + degree / 8 * 1024
    captured = found.get("cudagraph_capture_sizes")
    if captured:
        of_prompts_mib = 1.5 * 1024 if model is not None and model.is_mla else 8 * len(_prompt_sizes(chunk))
        reserved_mib += 2 * max(captured) + of_prompts_mib
    memory_mib = gpu.memory_bytes / MIB
    if memory_mib > 60 * 1024:
        reserved_mib = max(reserved_mib, 10 * 1024)
    share = float(round((memory_mib - reserved_mib) / memory_mib, 3))
    if share <= 0:
        raise ConfigError(
            f"sglang.launch_server: steps of {chunk:,} prompt tokens leave nothing of {gpu.memory_bytes / GIB:.0f} GiB "
            "for weights and KV; give --mem-fraction-static, or fewer to --chunked-prefill-size or --max-prefill-tokens"
        )
    return share


def capture_sizes(most: int) -> list[int]:
    """Decode batches that CUDA graphs are captured for."""
    grid = (1, 2, 4, 8, 12, *range(16, 257, 8), *range(272, 512, 16), *range(512, most + 1, 32))
    return sorted({size for size in grid if size <= most} | {most})


def _prompt_sizes(most: int) -> list[int]:
    """Tokens of prompts that CUDA graphs are captured for."""
    grid = (
        *range(4, 33, 4),
        *range(48, 257, 16),
        *range(288, 513, 32),
        *range(576, 1025, 64),
        *range(1280, 4097, 256),
        *range(4608, most + 1, 512),
    )
    return [size for size in grid if size <= most]
