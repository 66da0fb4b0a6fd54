"""What a pipeline of stages stands beside, and what it does not: vLLM's refusals, and what is not modelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kvsim.config.schema import Config
from kvsim.spec import find_model

KEY = "engine.pipeline_parallel_size"
POLICIES = ("fcfs", "priority")
Finding = tuple[str, tuple[str, ...]]


def pipeline(config: Config, mode: str | None, tier_lists: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    """``tier_lists``: by their keys, the tiers that the mode looks at. Raises ``ConfigError`` for an unknown model."""
    engine, layers = config.engine, config.engine.pipeline_layers
    stages, key = engine.pipeline_parallel_size, "engine.pipeline_layers"
    if layers and len(layers) != stages:
        yield (
            f"{key} = {list(layers)}: must have a number for each of the {KEY} = {stages} stages, as vLLM demands",
            (key, KEY),
        )
    if stages == 1 or mode == "traffic":
        return
    said = f"{KEY} = {stages}"
    if mode == "pd":
        yield f"{said}: beside prefill/decode separation it is not modelled; allowed: 1", (KEY,)
    for tiers, names in tier_lists.items():
        if names:
            yield f"{said}: beside {tiers} = [{', '.join(names)}] it is not modelled; {tiers} must be []", (KEY, tiers)
    given: dict[str, tuple[bool, str]] = {
        "engine.speculative.method": (engine.speculative.method is not None, "null"),
        "cache.prefix_cache": (config.cache.prefix_cache != "paged", "paged"),
        "engine.scheduling_policy": (engine.scheduling_policy not in POLICIES, " or ".join(POLICIES)),
        "engine.batching": (engine.batching != "continuous", "continuous"),
        "engine.enable_lora": (engine.enable_lora, "false"),
    }
    for other, (is_given, allowed) in given.items():
        if is_given:
            yield f"{said}: beside {other} it is not modelled; {other} must be {allowed}", (KEY, other)
    if engine.data_parallel_size > 1 and engine.share_experts and find_model(config.model.name).is_moe:
        yield (
            f"{said}: beside data-parallel engines that share experts (engine.data_parallel_size = "
            f"{engine.data_parallel_size}) it is not modelled; either must be 1",
            (KEY, "engine.data_parallel_size"),
        )
