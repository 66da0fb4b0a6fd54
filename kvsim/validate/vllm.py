"""vLLM's arguments, as recorded with a run, in kvsim's keys; and its defaults where they were left out.

Source of the defaults: vLLM's ``EngineArgs``, ``VllmConfig`` and ``CompilationConfig`` of the versions named here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kvsim.errors import ConfigError
from kvsim.steptime import Coefficients

ASYNC_SINCE = (0, 14)
"""From this version on a step is scheduled while the one before it runs."""
SYNCHRONOUS_S, SYNCHRONOUS_S_PER_SEQ = 0.4e-3, 26e-6
"""Host time a step, and a sequence of it, that older engines add: they schedule once the step before has ended. Chosen
on measured loads of vLLM 0.11 and 0.12 (docs/validation.md)."""
MOST_CAPTURED = 512
SERVER_BATCHED_TOKENS = 8192
SERVER_SEQS = 1024
"""The last two on GPUs of 70 GiB and more."""
DTYPES = {
    "auto": None,
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "fp8": "fp8",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
}


def capture_sizes(max_num_seqs: int) -> list[int]:
    """Batch sizes that CUDA graphs are captured for: 1, 2, 4, then every 8th up to 256, every 16th up to 512."""
    most = min(2 * max_num_seqs, MOST_CAPTURED)
    return [size for size in (1, 2, 4, *range(8, 256, 8), *range(256, MOST_CAPTURED + 1, 16)) if size <= most]


def version_of(text: str) -> tuple[int, ...]:
    """``0.19.0`` as numbers; what follows the numbers is left out."""
    numbers = []
    for part in text.split(".")[:3]:
        digits = "".join(character for character in part if character.isdecimal())
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def checked_version(text: str) -> str:
    """``text`` itself; raises ``ConfigError`` on what is neither empty nor a version."""
    if text and not version_of(text):
        raise ConfigError(f"vLLM's version is {text!r}: must be like 0.11.0, or absent for a present one")
    return text


def is_async(vllm_version: str) -> bool:
    """Whether that version schedules ahead by default; one that is not known counts as a present one."""
    version = version_of(vllm_version)
    return not version or version >= ASYNC_SINCE


def synchronous(coefficients: Coefficients) -> Coefficients:
    """Coefficients of an engine that does not schedule ahead, from those of one that does."""
    return replace(
        coefficients,
        const_s=coefficients.const_s + SYNCHRONOUS_S,
        s_s_per_seq=coefficients.s_s_per_seq + SYNCHRONOUS_S_PER_SEQ,
    )


def engine_sets(engine: dict[str, Any], vllm_version: str, max_model_len: int | None) -> dict[str, Any]:
    """kvsim's keys and values. Raises ``ConfigError`` on values of the wrong kind."""
    max_num_seqs = _count(engine, "max_num_seqs", SERVER_SEQS)
    batched_tokens = _count(engine, "max_num_batched_tokens", SERVER_BATCHED_TOKENS)
    degree = _count(engine, "tensor_parallel_size", 1)
    scheduled_ahead = engine.get("async_scheduling")
    if scheduled_ahead is None:
        scheduled_ahead = is_async(vllm_version)
    eager = bool(engine.get("enforce_eager", False))
    found: dict[str, Any] = {
        "engine.tensor_parallel_size": degree,
        "engine.data_parallel_size": _count(engine, "data_parallel_size", 1),
        "engine.enable_expert_parallel": bool(engine.get("enable_expert_parallel", False)),
        "engine.max_num_seqs": min(max_num_seqs, batched_tokens),
        "engine.max_num_batched_tokens": batched_tokens,
        "engine.gpu_memory_utilization": _share(engine, "gpu_memory_utilization", 0.9),
        "engine.enable_prefix_caching": engine.get("enable_prefix_caching") is not False,
        "engine.async_scheduling": bool(scheduled_ahead),
        "engine.block_size": _count(engine, "block_size", 16),
        "engine.cudagraph_capture_sizes": [] if eager else capture_sizes(max_num_seqs),
    }
    for key, own in (("dtype", "model.weight_dtype"), ("kv_cache_dtype", "model.kv_dtype")):
        dtype = _dtype(engine, key)
        if dtype is not None:
            found[own] = dtype
    length = engine.get("max_model_len") or max_model_len
    if length:
        found["model.max_model_len"] = length
    return found


def _dtype(engine: dict[str, Any], key: str) -> str | None:
    value = engine.get(key)
    if value is not None and (not isinstance(value, str) or value not in DTYPES):
        raise ConfigError(f"meta.json: engine_kwargs.{key} = {value!r}: must be one of {', '.join(DTYPES)}")
    return None if value is None else DTYPES[value]


def _share(engine: dict[str, Any], key: str, default: float) -> float:
    value = engine.get(key)
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1:
        raise ConfigError(f"meta.json: engine_kwargs.{key} = {value!r}: must be a number above 0 and at most 1")
    return float(value)


def _count(engine: dict[str, Any], key: str, default: int) -> int:
    value = engine.get(key)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"meta.json: engine_kwargs.{key} = {value!r}: must be a whole number from 1")
    return value
