"""What must hold between keys, once every single one is in range."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kvsim.config.derived import block_size, explicit_kv_bytes_per_token, kv_size_key
from kvsim.config.schema import Config
from kvsim.config.schema_traffic import ChatTrace, PdTrace
from kvsim.errors import ConfigError

Finding = tuple[str, tuple[str, ...]]
"""A sentence that names the numbers, and the keys it is about."""


def check(config: Config, where: Callable[..., str]) -> None:
    """Raises ``ConfigError`` for the first contradiction; ``where(*keys)`` names who last set one of the keys."""
    for rule in (_engine, _placement, _coefficients, _ranges, _warmup, _block_bytes, _tiers, _admission):
        for sentence, keys in rule(config):
            raise ConfigError(f"{where(*keys)}: {sentence}")


def _engine(config: Config) -> Iterator[Finding]:
    engine = config.engine
    if engine.max_num_batched_tokens < engine.max_num_seqs:
        yield (
            f"engine.max_num_batched_tokens = {engine.max_num_batched_tokens} is below "
            f"engine.max_num_seqs = {engine.max_num_seqs}: a step must hold one token of every sequence",
            ("engine.max_num_batched_tokens", "engine.max_num_seqs"),
        )


def _placement(config: Config) -> Iterator[Finding]:
    separation = config.pd_separation
    degrees = {
        "engine.tensor_parallel_size": config.engine.tensor_parallel_size,
        "pd_separation.prefill_tensor_parallel_size": separation.prefill_tensor_parallel_size,
        "pd_separation.decode_tensor_parallel_size": separation.decode_tensor_parallel_size,
    }
    for key, degree in degrees.items():
        if degree is not None:
            yield from _placed(config, key, degree)


def _placed(config: Config, key: str, degree: int) -> Iterator[Finding]:
    host, rack = config.cluster.network.gpus_per_host, config.cluster.simulate_gpus_per_rack
    if rack % degree:
        yield (
            f"cluster.simulate_gpus_per_rack = {rack} is no multiple of {key} = {degree}: "
            "an instance stays within its rack",
            ("cluster.simulate_gpus_per_rack", key),
        )
    if host % degree and degree % host:
        yield (
            f"{key} = {degree} and cluster.network.gpus_per_host = {host} do not divide: "
            "one must be a multiple of the other",
            (key, "cluster.network.gpus_per_host"),
        )


def _coefficients(config: Config) -> Iterator[Finding]:
    if config.steptime.method == "fitted" and config.steptime.coefficients is None:
        yield (
            "steptime.method = 'fitted' needs steptime.coefficients: give --calibration-profile, or method 'roofline'",
            ("steptime.method", "steptime.coefficients"),
        )
    if config.steptime.method == "tables" and config.steptime.operators is None:
        yield (
            "steptime.method = 'tables' needs steptime.operators: give --calibration-profile, or method 'roofline'",
            ("steptime.method", "steptime.operators"),
        )


def _ranges(config: Config) -> Iterator[Finding]:
    chats: dict[str, ChatTrace | PdTrace] = {
        "trace": config.trace,
        "cluster_trace": config.cluster_trace,
        "pd_trace": config.pd_trace,
    }
    pairs = [
        (f"{name}.prompt_tokens_min", chat.prompt_tokens_min, f"{name}.prompt_tokens_max", chat.prompt_tokens_max)
        for name, chat in chats.items()
    ]
    agent = config.agent_trace
    pairs.append(("agent_trace.turns_min", agent.turns_min, "agent_trace.turns_max", agent.turns_max))
    results = (agent.tool_result_min_tokens, agent.tool_result_max_tokens)
    pairs.append(("agent_trace.tool_result_min_tokens", results[0], "agent_trace.tool_result_max_tokens", results[1]))
    for low_key, low, high_key, high in pairs:
        if low is None and high is None:
            continue
        if low is None or high is None:
            given, missing = (high_key, low_key) if low is None else (low_key, high_key)
            yield f"{given} is given without {missing}: give both or neither", (given,)
        elif low > high:
            yield f"{low_key} = {low} exceeds {high_key} = {high}", (low_key, high_key)


def _warmup(config: Config) -> Iterator[Finding]:
    experiments = {
        "experiments": config.experiments,
        "cluster_experiments": config.cluster_experiments,
        "pd_experiments": config.pd_experiments,
    }
    for name, experiment in experiments.items():
        warmup, requests = experiment.warmup_requests, experiment.num_requests
        if warmup is not None and requests is not None and warmup >= requests:
            yield (
                f"{name}.warmup_requests = {warmup} leaves nothing of {name}.num_requests = {requests} to measure",
                (f"{name}.warmup_requests", f"{name}.num_requests"),
            )


TIERS = ("dram", "eic", "ssd")
"""From the nearest to the farthest."""


def _tiers(config: Config) -> Iterator[Finding]:
    cache, eic = config.cache, config.cluster.eic
    capacity = {
        "dram": ("hardware.dram.capacity_gb", config.hardware.dram.capacity_gb),
        "eic": ("cluster.eic.capacity_per_node_gb", eic.nodes_per_rack * eic.capacity_per_node_gb),
        "ssd": ("hardware.ssd.capacity_gb", config.hardware.ssd.capacity_gb),
    }
    lists = {
        "cache.tiers": cache.tiers,
        "cluster.tiers": config.cluster.tiers,
        "pd_separation.tiers": config.pd_separation.tiers,
    }
    for key, tiers in lists.items():
        if list(tiers) != [tier for tier in TIERS if tier in tiers]:
            yield f"{key} = [{', '.join(tiers)}]: the nearest stands first, each once: {', '.join(TIERS)}", (key,)
        for tier in tiers:
            if not capacity[tier][1]:
                yield f"{capacity[tier][0]}: {tier} holds nothing; take it out of {key} instead", (capacity[tier][0],)
    if cache.chunk_tokens % block_size(config):
        yield (
            f"cache.chunk_tokens = {cache.chunk_tokens} is no multiple of the {block_size(config)} tokens of a block",
            ("cache.chunk_tokens",),
        )
    if not cache.inclusive and cache.write_policy == "write_through":
        yield (
            "cache.inclusive = false needs cache.write_policy = 'write_back': writing through fills every tier",
            ("cache.inclusive", "cache.write_policy"),
        )


def _admission(config: Config) -> Iterator[Finding]:
    """``policies.selective_write`` is the seed's spelling of one admission policy."""
    policies = config.policies
    if policies.selective_write and policies.admission not in ("all", "selective_write"):
        yield (
            f"policies.selective_write = true contradicts policies.admission = {policies.admission}",
            ("policies.selective_write", "policies.admission"),
        )


def _block_bytes(config: Config) -> Iterator[Finding]:
    """``cache.block_size_bytes`` is a second spelling of tokens a block x bytes a token; alone it gives the latter."""
    given, per_token = config.cache.block_size_bytes, explicit_kv_bytes_per_token(config)
    if given is not None and per_token is not None and given != per_token * block_size(config):
        yield (
            f"cache.block_size_bytes = {given} contradicts {block_size(config)} tokens a block x "
            f"{kv_size_key(config)} = {per_token}: that makes {per_token * block_size(config)}",
            ("cache.block_size_bytes", kv_size_key(config)),
        )
