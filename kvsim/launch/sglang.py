"""SGLang's arguments by vLLM's names, and by names of their own where vLLM has none.

``prefix_cache`` is ``radix``, ``scheduler`` ``sglang`` where that is simulated;
``static_memory_fraction`` the share of a GPU's memory that weights and KV take together.
Source: SGLang's ``ServerArgs`` and scheduler, 0.5.23.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvsim.errors import ConfigError

AS_VLLM = {
    "context_length": "max_model_len",
    "max_running_requests": "max_num_seqs",
    "page_size": "block_size",
    "mem_fraction_static": "static_memory_fraction",
    "dtype": "dtype",
    "quantization": "quantization",
    "kv_cache_dtype": "kv_cache_dtype",
    "disable_cuda_graph": "enforce_eager",
    "disable_decode_cuda_graph": "enforce_eager",
    "cuda_graph_max_bs": "max_cudagraph_capture_size",
    "cuda_graph_max_bs_decode": "max_cudagraph_capture_size",
    "cuda_graph_bs": "cudagraph_capture_sizes",
    "cuda_graph_bs_decode": "cudagraph_capture_sizes",
}
"""Arguments that differ in their names alone."""
POLICIES = {"fcfs": "fcfs", "lpm": "lpm", "dfs-weight": "dfs_weight", "lof": "lof", "priority": "priority"}
METHODS = {"EAGLE": "eagle", "EAGLE3": "eagle3", "NEXTN": "mtp", "STANDALONE": "draft_model"}
"""Algorithms of speculative decoding by vLLM's names of methods."""
_SERVER = "sglang.launch_server"
_FROM_ONE = (
    "page_size",
    "context_length",
    "max_running_requests",
    "max_total_tokens",
    "max_prefill_tokens",
    "cuda_graph_max_bs",
    "cuda_graph_max_bs_decode",
    "tp_size",
    "dp_size",
    "ep_size",
)
MAX_PREFILL_TOKENS = 16_384
"""Prompt tokens of a step where they are not cut into chunks."""


def from_sglang(own: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """vLLM's arguments, and sentences on what SGLang does otherwise than what is simulated.

    Raises ``ConfigError`` where GPUs do not divide among data-parallel engines, and for numbers that start no server.
    """
    _check(own)
    found = {name: own[key] for key, name in AS_VLLM.items() if own.get(key) is not None}
    found |= {"prefix_cache": "radix", "block_size": _page_tokens(own)}
    found |= _parallel(own) | _budget(own)
    if own.get("max_total_tokens") is not None:
        found["num_gpu_blocks_override"] = own["max_total_tokens"] // found["block_size"] + 1
    if own.get("disable_radix_cache"):
        found["enable_prefix_caching"] = False
    found["async_scheduling"] = not own.get("disable_overlap_schedule", False)
    policy = "priority" if own.get("enable_priority_scheduling") else own.get("schedule_policy", "fcfs")
    found["scheduling_policy"] = POLICIES.get(policy, "fcfs")
    found |= _speculation(own)
    # Beside drafts and priorities its scheduler is not simulated: vLLM's rules hold, and steps are shared.
    is_own = "speculative_config" not in found and policy != "priority"
    if is_own:
        found |= {"scheduler": "sglang", "enable_mixed_chunk": own.get("enable_mixed_chunk", False)}
        found["max_prefill_tokens"] = own.get("max_prefill_tokens", MAX_PREFILL_TOKENS)
        found["schedule_conservativeness"] = own.get("schedule_conservativeness", 1.0)
    warnings = []
    if own.get("speculative_algorithm") and "speculative_config" not in found:
        warnings.append(
            f"not modelled: speculative decoding (--speculative-algorithm {own['speculative_algorithm']!s:.40}, but "
            "as a chain of drafts: EAGLE, EAGLE3, NEXTN or STANDALONE with --speculative-num-steps and "
            "--speculative-eagle-topk 1); the prediction is of a server without it"
        )
    if policy not in POLICIES:
        warnings.append(f"not modelled: --schedule-policy {policy}; requests are served in order of arrival")
    if not is_own and not own.get("enable_mixed_chunk", False):
        warnings.append(
            "SGLang computes prompts in steps of their own; beside drafts and priorities prompts and answers share "
            "steps here, as with --enable-mixed-chunk"
        )
    return found, tuple(warnings)


def _page_tokens(own: Mapping[str, Any]) -> int:
    """Tokens of a page: one, where nothing is said."""
    page = own.get("page_size")
    return 1 if page is None else int(page)


def _check(own: Mapping[str, Any]) -> None:
    """Raise ``ConfigError``, by SGLang's name of the flag, for a number that starts no server."""
    for name in _FROM_ONE:
        value = own.get(name)
        if value is not None and value < 1:
            raise ConfigError(f"{_SERVER}: --{name.replace('_', '-')} {value} must be a whole number >= 1")
    share = own.get("mem_fraction_static")
    if share is not None and not 0 < share < 1:
        raise ConfigError(f"{_SERVER}: --mem-fraction-static {share:g} must be a number > 0 and < 1")


def _speculation(own: Mapping[str, Any]) -> dict[str, Any]:
    """As vLLM's configuration where drafts are a chain of known length; SGLang's own defaults draft trees."""
    method = METHODS.get(str(own.get("speculative_algorithm")).upper())
    steps, width = own.get("speculative_num_steps"), own.get("speculative_eagle_topk")
    if method is None or not steps or width != 1 or own.get("speculative_num_draft_tokens", steps + 1) != steps + 1:
        return {}
    asked: dict[str, Any] = {"method": method, "num_speculative_tokens": steps}
    if method == "draft_model":
        asked["model"] = own.get("speculative_draft_model_path")
    return {"speculative_config": asked}


def _parallel(own: Mapping[str, Any]) -> dict[str, Any]:
    """With attention in data parallel the engines share the GPUs of ``tp_size``; else each has as many."""
    tensor, data = own.get("tp_size", 1), own.get("dp_size", 1)
    found: dict[str, Any] = {"tensor_parallel_size": tensor, "data_parallel_size": data}
    if own.get("enable_dp_attention") and data > 1:
        if tensor % data:
            raise ConfigError(f"{_SERVER}: --tp-size {tensor} must be a multiple of --dp-size {data}")
        found |= {"tensor_parallel_size": tensor // data, "enable_expert_parallel": True}
    elif data > 1:
        found["share_experts"] = False
    if own.get("ep_size", 1) > 1:
        found["enable_expert_parallel"] = True
    return found


def _budget(own: Mapping[str, Any]) -> dict[str, Any]:
    chunk = own.get("chunked_prefill_size")
    if chunk is None:
        return {}
    if chunk > 0:
        return {"max_num_batched_tokens": chunk}
    return {
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": own.get("max_prefill_tokens", MAX_PREFILL_TOKENS),
    }
