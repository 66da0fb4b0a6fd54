"""vLLM's arguments: the words in which an engine is described, read as kvsim's keys or as an engine's settings.

Source of the defaults: vLLM's ``EngineArgs``, ``VllmConfig`` and ``CompilationConfig`` of the versions named here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.plan.engine_settings import EngineSettings
from kvsim.steptime import AffineStepTime, Coefficients

ASYNC_SINCE = (0, 14)
"""From this version on a step is scheduled while the one before it runs."""
SYNCHRONOUS_S, SYNCHRONOUS_S_PER_SEQ = 0.4e-3, 26e-6
"""Host time a step, and a sequence of it, that older engines add: they schedule once the step before has ended. Chosen
on measured loads of vLLM 0.11 and 0.12 (docs/validation.md)."""
MOST_CAPTURED = 512
SERVER_BATCHED_TOKENS = 8192
SERVER_SEQS = 1024
"""The last two on GPUs of 70 GiB and more."""
MOST = 1_000_000_000
"""No count of a scheduler is larger."""
DTYPES = {
    "auto": None,
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "fp8": "fp8",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
}
AS_NAMED = ("num_gpu_blocks_override", "long_prefill_token_threshold", "scheduling_policy")
"""Arguments whose values, where they are given, the keys of the same name take."""


def engine_keys(arguments: Fields, vllm_version: str, longest_tokens: int | None) -> dict[str, Any]:
    """kvsim's keys and values for one engine; vLLM's defaults where an argument is absent.

    ``longest_tokens``: what the model takes where ``max_model_len`` is not given; ``None``: not known. Raises
    ``ConfigError`` on values of the wrong kind.
    """
    max_num_seqs = arguments.whole("max_num_seqs", SERVER_SEQS)
    batched_tokens = arguments.whole("max_num_batched_tokens", SERVER_BATCHED_TOKENS)
    found: dict[str, Any] = {
        "engine.tensor_parallel_size": arguments.whole("tensor_parallel_size", 1),
        "engine.data_parallel_size": arguments.whole("data_parallel_size", 1),
        "engine.enable_expert_parallel": arguments.flag("enable_expert_parallel", False),
        "engine.max_num_seqs": min(max_num_seqs, batched_tokens),
        "engine.max_num_batched_tokens": batched_tokens,
        "engine.gpu_memory_utilization": _memory_share(arguments),
        "engine.enable_prefix_caching": arguments.flag("enable_prefix_caching", True),
        "engine.async_scheduling": arguments.flag("async_scheduling", is_async(vllm_version)),
        "engine.block_size": arguments.whole("block_size", 16),
        "engine.cudagraph_capture_sizes": (
            [] if arguments.flag("enforce_eager", False) else capture_sizes(max_num_seqs)
        ),
    }
    given = {key: arguments.get(key) for key in AS_NAMED}
    found |= {f"engine.{key}": value for key, value in given.items() if value is not None}
    for key, own in (("dtype", "model.weight_dtype"), ("kv_cache_dtype", "model.kv_dtype")):
        dtype = DTYPES[arguments.choice(key, DTYPES, "auto")]
        if dtype is not None:
            found[own] = dtype
    length = arguments.get("max_model_len") or longest_tokens
    if length:
        found["model.max_model_len"] = length
    return found


def _memory_share(arguments: Fields) -> float:
    key = "gpu_memory_utilization"
    if arguments.get(key) is None:
        return 0.9
    allowed = "must be a number above 0 and at most 1"
    return arguments.number(key, most=1.0, least=5e-324, allowed=allowed)


def scheduler_settings(recorded: Fields) -> EngineSettings:
    """The settings of a recorded scheduler, whose ``num_blocks`` counts the null block, which holds nothing.

    Raises ``ConfigError`` on values that are missing or of the wrong kind.
    """
    return EngineSettings(
        num_blocks=recorded.whole("num_blocks", least=2, most=MOST) - 1,
        block_size=recorded.whole("block_size", most=1_000_000),
        max_num_batched_tokens=recorded.whole("max_num_batched_tokens", most=MOST),
        max_num_seqs=recorded.whole("max_num_seqs", most=MOST),
        max_model_len=recorded.whole("max_model_len", most=MOST),
        enable_prefix_caching=recorded.flag("enable_prefix_caching", True),
        enable_chunked_prefill=recorded.flag("enable_chunked_prefill", True),
        long_prefill_token_threshold=recorded.whole("long_prefill_token_threshold", 0, least=0, most=MOST),
        watermark=0.0 if recorded.get("watermark") is None else recorded.number("watermark", most=1 - 1e-9),
        scheduler_reserve_full_isl=recorded.flag("scheduler_reserve_full_isl", True),
        scheduling_policy=recorded.choice("policy", ("fcfs", "priority"), "fcfs"),
        async_scheduling=recorded.flag("async_scheduling", False),
    )


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


def step_time_of_version(coefficients: Coefficients, vllm_version: str, capture_sizes: Sequence[int]) -> AffineStepTime:
    """Step times of that version, from the coefficients of an engine that schedules ahead."""
    if not is_async(vllm_version):
        coefficients = replace(
            coefficients,
            const_s=coefficients.const_s + SYNCHRONOUS_S,
            s_s_per_seq=coefficients.s_s_per_seq + SYNCHRONOUS_S_PER_SEQ,
        )
    return AffineStepTime(coefficients, tuple(sorted(capture_sizes)))
