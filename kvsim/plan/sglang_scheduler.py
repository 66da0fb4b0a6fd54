"""Where SGLang's own scheduler is simulated, and what stands in its way elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from kvsim.config import Config
from kvsim.plan.engine_settings import SglangSettings
from kvsim.policy.scheduling import DFS_WEIGHT, FCFS, LOF, LPM

POLICIES = (FCFS, LPM, DFS_WEIGHT, LOF)
"""Orders that it knows here."""


def sglang_settings(config: Config, role: str) -> SglangSettings | None:
    """What the instances of a role ask of SGLang's scheduler; ``None``: they have vLLM's."""
    if role != "colocated" or config.engine.scheduler != "sglang" or obstacles(config):
        return None
    given = config.engine.sglang
    return SglangSettings(
        enable_mixed_chunk=given.enable_mixed_chunk,
        max_prefill_tokens=given.max_prefill_tokens,
        schedule_conservativeness=given.schedule_conservativeness,
        ignore_eos=given.ignore_eos,
    )


def obstacles(config: Config) -> list[str]:
    """Settings beside which SGLang's scheduler is not simulated."""
    engine = config.engine
    found = {
        f"cache.prefix_cache: {config.cache.prefix_cache}": config.cache.prefix_cache != "radix",
        f"engine.scheduling_policy: {engine.scheduling_policy}": engine.scheduling_policy not in POLICIES,
        f"engine.speculative.method: {engine.speculative.method}": engine.speculative.method is not None,
        "engine.enable_lora": engine.enable_lora,
        "engine.batching: static": engine.batching == "static",
    }
    return [name for name, stands in found.items() if stands]


def left_to_vllm(config: Config, tiers: Sequence[str], *, is_pd: bool) -> list[str]:
    """Sentences on what is scheduled otherwise than asked for."""
    engine = config.engine
    is_asked = engine.scheduler == "sglang"
    found = obstacles(config) + (["memory below the GPUs"] if tiers else []) if is_asked else []
    sentences = []
    if found:
        sentences.append(
            f"engine.scheduler = sglang is not modelled beside {', '.join(found)}: vLLM's rules hold, with prompts and "
            "answers in the same steps"
        )
    elif is_asked and is_pd:
        sentences.append("engine.scheduler = sglang holds for unified instances; PD's schedule by vLLM's rules")
    if is_asked and not found and not engine.sglang.enable_mixed_chunk:
        sentences.append(
            "engine.scheduler = sglang: maximum rates are reckoned as if prompts and answers shared steps, as they do "
            "with engine.sglang.enable_mixed_chunk alone"
        )
    if engine.scheduling_policy == LOF and (found or not is_asked):
        sentences.append("engine.scheduling_policy = lof is of SGLang's scheduler alone: requests are served in order")
    return sentences
