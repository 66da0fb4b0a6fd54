"""vLLM's arguments: the words in which an engine is described, read as kvsim's keys or as an engine's settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

from kvsim.config.engine_keys import All2AllBackend
from kvsim.fields import Fields
from kvsim.launch.speculative import MOST_DRAFTS, speculative_keys
from kvsim.plan.engine_settings import SPECULATIVE_METHODS, EngineSettings, Speculation
from kvsim.plan.kv_groups import recorded_kv_groups
from kvsim.plan.scheduler_rules import rules_of
from kvsim.plan.sglang_defaults import with_sglang_defaults
from kvsim.plan.vllm_defaults import (
    BATCHED_EXPERTS,
    BLOCK_SIZE,
    BLOCK_SIZES,
    EXPERTS_BATCHED_TOKENS,
    GRAPHLESS_EXPERTS,
    SERVER_BATCHED_TOKENS,
    SERVER_SEQS,
    batch_of,
    block_size_of,
    capture_sizes,
    dp_sync_interval,
    given_capture_sizes,
    is_async,
    memory_share,
    server_capture_sizes,
)
from kvsim.spec import GpuSpec, ModelSpec
from kvsim.spec.stages import MOST_STAGES
from kvsim.steptime import AffineStepTime, Coefficients

SYNCHRONOUS_S, SYNCHRONOUS_S_PER_SEQ = 0.4e-3, 26e-6
"""Host time a step, and a sequence of it, that older engines add: they schedule once the step before has ended. Chosen
on measured loads of vLLM 0.11 and 0.12 (docs/validation.md)."""
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
KV_DTYPES = DTYPES | {
    "bf16": "bf16",
    "fp8_inc": "fp8",
    "fp8_ds_mla": "fp8",
    "fp8_per_token_head": "fp8_per_token_head",
    "int8_per_token_head": "int8",
}
QUANTISED = {
    "fp8": "fp8", "fp8_per_tensor": "fp8", "fp8_per_block": "fp8", "fp8_per_channel": "fp8", "fbgemm_fp8": "fp8",
    "deepseek_v4_fp8": "fp8", "modelopt": "fp8", "modelopt_fp8": "fp8", "modelopt_mxfp8": "fp8", "mxfp8": "fp8",
    "w8a8_fp8": "fp8", "int8_per_channel_weight_only": "int8_wo", "w8a8_int8": "int8",
    "auto-round-int8": "int8_wo",
    "awq": "int4", "auto_awq": "int4", "awq_marlin": "int4", "gptq": "int4", "auto_gptq": "int4",
    "gptq_marlin": "int4", "moe_wna16": "int4", "bitsandbytes": "int4", "mxfp4": "mxfp4", "gpt_oss_mxfp4": "mxfp4",
    "modelopt_fp4": "nvfp4", "nvfp4_per_token": "nvfp4", "nvfp4_online": "nvfp4",
}  # fmt: skip
"""The methods that tell how large a weight is, by that."""
AS_NAMED = (
    "disable_hybrid_kv_cache_manager",
    "num_gpu_blocks_override",
    "kv_cache_memory_bytes",
    "long_prefill_token_threshold",
    "scheduling_policy",
    "watermark",
    "scheduler_reserve_full_isl",
)
"""Arguments whose values, where they are given, the keys of the same name take."""
OF_SGLANG = {
    "scheduler": "scheduler",
    "enable_mixed_chunk": "sglang.enable_mixed_chunk",
    "max_prefill_tokens": "sglang.max_prefill_tokens",
    "schedule_conservativeness": "sglang.schedule_conservativeness",
}
"""Keys of the arguments that vLLM has none of."""


def engine_keys(
    arguments: Fields,
    vllm_version: str,
    longest_tokens: int | None,
    *,
    gpu: GpuSpec | None = None,
    model: ModelSpec | None = None,
) -> dict[str, Any]:
    """kvsim's keys and values for one engine; vLLM's defaults where an argument is absent.

    SGLang's arguments, which ``kvsim.launch.sglang`` has by vLLM's names, get SGLang's defaults.
    ``longest_tokens``: what the model takes where ``max_model_len`` is not given; ``None``: not known. ``gpu`` and
    ``model``: those that the server's defaults depend on; without, the defaults are those of a server of vLLM 0.19 on
    an H100. Raises ``ConfigError`` on values of the wrong kind, and on those that vLLM refuses beside each other.
    """
    is_sglang = arguments.get("prefix_cache") == "radix"
    if is_sglang:
        arguments = with_sglang_defaults(arguments, gpu, model)
    length = _length(arguments) or longest_tokens
    tokens, seqs = _batch(arguments, vllm_version, length, gpu)
    speculation = speculative_keys(arguments)
    stages = arguments.whole("pipeline_parallel_size", 1, most=MOST_STAGES)
    drafts = speculation.get("engine.speculative.num_speculative_tokens", 0)
    # Drafts that the host looks up, and drafters that wait for it, are scheduled between steps.
    is_sync = bool(speculation) and (
        speculation["engine.speculative.method"] == "ngram"
        or bool(arguments.get("speculative_config.disable_padded_drafter_batch"))
    )
    found: dict[str, Any] = {
        "engine.tensor_parallel_size": arguments.whole("tensor_parallel_size", 1),
        "engine.data_parallel_size": arguments.whole("data_parallel_size", 1),
        "engine.enable_expert_parallel": arguments.flag("enable_expert_parallel", False),
        "engine.max_num_seqs": min(seqs, arguments.whole("max_num_active_seqs", seqs)),
        "engine.max_num_batched_tokens": min(tokens, arguments.whole("max_num_scheduled_tokens", tokens)),
        "engine.gpu_memory_utilization": _memory_share(arguments, 0.9 if gpu is None else memory_share(vllm_version)),
        "engine.enable_prefix_caching": arguments.flag("enable_prefix_caching", True),
        "engine.enable_chunked_prefill": arguments.flag("enable_chunked_prefill", True),
        "engine.async_scheduling": arguments.flag("async_scheduling", is_async(vllm_version, stages) and not is_sync),
        "engine.enforce_eager": arguments.flag("enforce_eager", False),
        "engine.cudagraph_capture_sizes": []
        if _is_graphless(arguments, model)
        else _captured(arguments, vllm_version, tokens, seqs, gpu, 1 + drafts),
    }
    found |= speculation | _group_keys(arguments, vllm_version)
    if stages > 1:
        found["engine.pipeline_parallel_size"] = stages
    if arguments.flag("enable_lora", False):
        found |= {
            "engine.enable_lora": True,
            "engine.max_loras": arguments.whole("max_loras", 1),
            "engine.max_lora_rank": arguments.whole("max_lora_rank", 16),
        }
        if arguments.get("max_cpu_loras") is not None:
            found["engine.max_cpu_loras"] = arguments.whole("max_cpu_loras")
    if vllm_version:
        found["engine.vllm_version"] = vllm_version
    given = {key: arguments.get(key) for key in AS_NAMED}
    found |= {f"engine.{key}": value for key, value in given.items() if value is not None}
    found |= _dtypes(arguments)
    kv_dtype = found.get("model.kv_dtype", "bf16")
    found["engine.block_size"] = _block_size(arguments, vllm_version, gpu, model, kv_dtype)
    if length:
        found["model.max_model_len"] = length
    if is_sglang:
        found["cache.prefix_cache"] = "radix"
        found |= {f"engine.{key}": arguments.get(name) for name, key in OF_SGLANG.items() if name in arguments.values}
    if arguments.get("static_memory_fraction") is not None:
        found["engine.non_kv_gb_per_gpu"] = 0.0
    return found


def _group_keys(arguments: Fields, vllm_version: str) -> dict[str, Any]:
    """What decides how data-parallel engines share experts, where it is another than kvsim's own default."""
    found: dict[str, Any] = {}
    if arguments.get("all2all_backend") is not None:
        found["engine.all2all_backend"] = arguments.choice("all2all_backend", get_args(All2AllBackend), "")
    interval = dp_sync_interval(vllm_version)
    if arguments.get("dp_sync_interval") is not None or interval != dp_sync_interval(""):
        found["engine.dp_sync_interval"] = arguments.whole("dp_sync_interval", interval)
    if arguments.flag("enable_eplb", False):
        found["engine.enable_eplb"] = True
    for key in ("num_redundant_experts", "eplb_config.num_redundant_experts"):
        if arguments.get(key) is not None:
            found["engine.num_redundant_experts"] = arguments.whole(key, least=0)
    if not arguments.flag("share_experts", True):
        found["engine.share_experts"] = False
    return found


def _length(arguments: Fields) -> int | None:
    """``None`` where the model's own is to be taken, which vLLM writes as -1."""
    value = arguments.get("max_model_len")
    if value is None or value == -1:
        return None
    return arguments.whole("max_model_len")


def _batch(arguments: Fields, vllm_version: str, length: int | None, gpu: GpuSpec | None) -> tuple[int, int]:
    """Tokens and sequences of a step; the default of either gives way to the other."""
    tokens, seqs = (SERVER_BATCHED_TOKENS, SERVER_SEQS) if gpu is None else batch_of(gpu, vllm_version)
    if _batches_experts(arguments):
        tokens = EXPERTS_BATCHED_TOKENS
    if arguments.get("performance_mode") == "throughput":
        tokens, seqs = 2 * tokens, 2 * seqs
    seqs = arguments.whole("max_num_seqs", seqs)
    is_chunked = arguments.flag("enable_chunked_prefill", True)
    if length and not is_chunked:
        tokens = max(tokens, length)
    if length and gpu is not None:
        tokens = min(tokens, seqs * length)
    tokens = arguments.whole("max_num_batched_tokens", tokens)
    if length and not is_chunked and arguments.get("prefix_cache") == "radix":
        # SGLang takes whole prompts up to its limit, and one alone that is longer.
        tokens = max(tokens, length)
    if length and not is_chunked and tokens < length:
        raise arguments.error(
            "max_num_batched_tokens", f"must be at least max_model_len, {length:,}, without chunked prefill"
        )
    if gpu is not None and tokens < seqs and arguments.get("max_num_seqs") is not None:
        raise arguments.error("max_num_seqs", f"must be at most max_num_batched_tokens, {tokens:,}")
    return tokens, min(seqs, tokens)


def _batches_experts(arguments: Fields) -> bool:
    is_shared = arguments.flag("enable_expert_parallel", False) and arguments.whole("data_parallel_size", 1) > 1
    return is_shared and arguments.get("all2all_backend") in BATCHED_EXPERTS


def _is_graphless(arguments: Fields, model: ModelSpec | None) -> bool:
    """Whether what carries tokens between data-parallel engines cannot be captured."""
    is_shared = arguments.whole("data_parallel_size", 1) > 1 and (model is None or model.is_moe)
    return is_shared and arguments.get("all2all_backend") in GRAPHLESS_EXPERTS


def _memory_share(arguments: Fields, default: float) -> float:
    key = "gpu_memory_utilization"
    if arguments.get(key) is None:
        return default
    allowed = "must be a number above 0 and at most 1"
    return arguments.number(key, most=1.0, least=5e-324, allowed=allowed)


def _dtypes(arguments: Fields) -> dict[str, str]:
    """Types of weights and KV; a quantisation says more of the weights than a type does."""
    found = {}
    for key, known, own in (
        ("dtype", DTYPES, "model.weight_dtype"),
        ("quantization", QUANTISED, "model.weight_dtype"),
        ("kv_cache_dtype", KV_DTYPES, "model.kv_dtype"),
    ):
        if arguments.get(key) is not None:
            dtype = known[arguments.choice(key, known, "")]
            if dtype is not None:
                found[own] = dtype
    return found


def _block_size(
    arguments: Fields, vllm_version: str, gpu: GpuSpec | None, model: ModelSpec | None, kv_dtype: str
) -> int:
    backend = arguments.get("attention_backend")
    if isinstance(backend, str) and backend.upper() in BLOCK_SIZES:
        default = BLOCK_SIZES[backend.upper()]
    elif gpu is None or model is None or isinstance(backend, str):
        default = BLOCK_SIZE
    else:
        default = block_size_of(model, gpu, vllm_version, kv_dtype)
    return arguments.whole("block_size", default)


def _captured(
    arguments: Fields, vllm_version: str, tokens: int, seqs: int, gpu: GpuSpec | None, query_tokens: int
) -> list[int]:
    """Sizes that CUDA graphs are captured for; none without graphs. ``query_tokens``: of a decoding sequence."""
    mode = arguments.get("compilation_config.cudagraph_mode")
    level = arguments.choice("optimization_level", ("0", "1", "2", "3"), "2")
    is_off = level == "0" if mode is None else str(mode).upper() in ("NONE", "0")
    sizes, most = _sizes(arguments), _either(arguments, "max_cudagraph_capture_size")
    if is_off or arguments.flag("enforce_eager", False):
        return []
    largest = None if most is None else arguments.whole(most)
    if sizes is not None:
        found = given_capture_sizes(sizes, tokens)
        if most is not None and largest != max(found, default=0):
            raise arguments.error(most, f"must be the largest size that is captured, {max(found, default=0)}")
        return found
    if gpu is None:
        return capture_sizes(arguments.whole("max_num_seqs", SERVER_SEQS), largest)
    is_interactive = arguments.get("performance_mode") == "interactivity"
    return server_capture_sizes(seqs, tokens, largest, gpu, vllm_version, is_interactive, query_tokens)


def _sizes(arguments: Fields) -> list[int] | None:
    """The sizes that are asked for."""
    key = _either(arguments, "cudagraph_capture_sizes")
    if key is None:
        return None
    sizes = arguments.get(key)
    is_whole = isinstance(sizes, list) and all(type(size) is int and size > 0 for size in sizes)
    if not sizes or not is_whole:
        raise arguments.error(key, "must be whole numbers from 1")
    return list(sizes)


def _either(arguments: Fields, key: str) -> str | None:
    """Where the argument stands, by itself or in ``compilation_config``; ``None``: nowhere."""
    places = [place for place in (key, f"compilation_config.{key}") if arguments.get(place) is not None]
    if len(places) > 1:
        raise arguments.error(key, f"stands in compilation_config, too ({arguments.get(places[1])!r:.60}): give one")
    return places[0] if places else None


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
        speculation=_recorded_speculation(recorded.within("speculative_config")),
        kv_groups=recorded_kv_groups(recorded),
        max_loras=recorded.whole("max_loras", 0, least=0, most=MOST),
        rules=rules_of(recorded.text("vllm_version") or ""),
        pipeline_parallel=recorded.whole("pipeline_parallel_size", 1, most=MOST_STAGES),
    )


def _recorded_speculation(recorded: Fields) -> Speculation | None:
    """How often drafts are accepted stands with the requests."""
    if recorded.values is None:
        return None
    num_tokens = recorded.whole("num_speculative_tokens", most=MOST_DRAFTS)
    return Speculation(recorded.choice("method", SPECULATIVE_METHODS, "ngram"), num_tokens, (0.0,) * num_tokens)


def step_time_of_version(coefficients: Coefficients, vllm_version: str, capture_sizes: Sequence[int]) -> AffineStepTime:
    """Step times of that version, from the coefficients of an engine that schedules ahead."""
    if not is_async(vllm_version):
        coefficients = replace(
            coefficients,
            const_s=coefficients.const_s + SYNCHRONOUS_S,
            s_s_per_seq=coefficients.s_s_per_seq + SYNCHRONOUS_S_PER_SEQ,
        )
    return AffineStepTime(coefficients, tuple(sorted(capture_sizes)))
