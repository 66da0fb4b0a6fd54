"""What must hold between keys, once every single one is in range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from kvsim.config.autoscale_checks import scaling
from kvsim.config.cost_checks import watts
from kvsim.config.derived import block_size, explicit_kv_bytes_per_token, kv_size_key
from kvsim.config.fleet_checks import events
from kvsim.config.kinds_checks import kinds
from kvsim.config.layer import Origins
from kvsim.config.pipeline_checks import pipeline
from kvsim.config.schema import ChatTrace, Config, PdTrace
from kvsim.config.tree import Tree, dump, get
from kvsim.errors import ConfigError
from kvsim.spec.tier_kinds import DRAM, EIC, SSD, TIER_NAMES, TIERS

Finding = tuple[str, tuple[str, ...]]
"""A sentence that names the numbers, and the keys it is about."""
Mode = Literal["single", "cluster", "pd", "predict", "instance", "traffic"]
"""What a configuration is for: the three modes, one deployment of unified instances, one instance without tiers or
racks, or synthetic traffic alone."""
UNPLACED = ("single", "predict", "instance", "traffic")
"""Modes in which it does not matter where in a cluster an instance stands."""
EXPERIMENTS: Mapping[Mode, tuple[str, str]] = {
    "single": ("trace", "experiments"),
    "cluster": ("cluster_trace", "cluster_experiments"),
    "pd": ("pd_trace", "pd_experiments"),
}
"""The sections of each mode's own traffic, and of how much of it a run takes."""
TIER_LISTS: Mapping[Mode, str] = {
    "single": "cache.tiers",
    "cluster": "cluster.tiers",
    "pd": "pd_separation.tiers",
    "predict": "pd_separation.tiers",
}


def check(config: Config, origins: Origins, mode: Mode | None) -> None:
    """Raises ``ConfigError`` for the first contradiction between keys that ``mode`` looks at; ``None``: any mode."""
    for rule in (
        _engine,
        _speculation,
        _adapters,
        _experts,
        _placement,
        _coefficients,
        _ranges,
        _warmup,
        _block_bytes,
        _tiers,
        _admission,
        _pipeline,
        kinds,
        watts,
        events,
        scaling,
    ):
        for sentence, keys in rule(config, origins, mode):
            raise ConfigError(f"{origins.blamed(*keys)[0]}: {sentence}")


def tiers_in_use(tree: Tree, mode: Mode | None) -> bool:
    """Whether a run of that mode puts any memory below its GPUs."""
    return any(get(tree, key) for key in _tier_lists(mode))


def _tier_lists(mode: Mode | None) -> list[str]:
    return [key for name, key in TIER_LISTS.items() if mode in (name, None)]


def _engine(config: Config, origins: Origins, mode: Mode | None) -> Iterator[Finding]:
    seats, budget = config.engine.max_num_seqs, config.engine.max_num_batched_tokens
    keys = ("engine.max_num_batched_tokens", "engine.max_num_seqs")
    if budget < seats and mode != "traffic":
        low, high = f"{keys[0]} = {budget}", f"{keys[1]} = {seats}"
        order = f"{low} is below {high}" if origins.blamed(*keys)[1] == keys[0] else f"{high} exceeds {low}"
        yield f"{order}: a step must hold one token of every sequence", keys
    page = block_size(config)
    if config.engine.scheduler == "sglang" and budget < page and mode != "traffic":
        yield (
            f"{keys[0]} = {budget} is below the {page} tokens of a page: SGLang cuts prompts at whole pages",
            (keys[0], "engine.block_size", "engine.scheduler"),
        )
    length, tunes = config.model.max_model_len, config.engine.tune_colocated_budget and mode in ("pd", None)
    if config.engine.enable_chunked_prefill or mode == "traffic":
        return
    budgets = {keys[0]: budget} | ({"engine.colocated_budgets": min(config.engine.colocated_budgets)} if tunes else {})
    for key, tokens in budgets.items():
        if tokens < length:
            yield (
                f"engine.enable_chunked_prefill = false needs steps that hold a whole prompt: {key} = {tokens} is "
                f"below model.max_model_len = {length}",
                ("engine.enable_chunked_prefill", key, "model.max_model_len"),
            )


def _speculation(config: Config, origins: Origins, mode: Mode | None) -> Iterator[Finding]:
    """What vLLM asks of speculative decoding, and what decides how often drafts are accepted."""
    given, key = config.engine.speculative, "engine.speculative"
    if given.method is None or mode == "traffic":
        return
    num_tokens, shares = given.num_speculative_tokens, given.acceptance
    if len(shares) > 1 and len(shares) != num_tokens:
        yield (
            f"{key}.acceptance has {len(shares)} shares beside {key}.num_speculative_tokens = {num_tokens}: must be "
            "one for each draft, or a single one",
            (f"{key}.acceptance", f"{key}.num_speculative_tokens"),
        )
    if (given.method == "draft_model") != (given.model is not None):
        what = "is missing" if given.model is None else f"= {given.model!r:.60}"
        rule = "must name the draft model" if given.model is None else "must be null unless the method is draft_model"
        yield f"{key}.model {what}: {rule} ({key}.method = {given.method})", (f"{key}.model", f"{key}.method")
    if given.method == "ngram" and config.engine.async_scheduling:
        yield (
            "engine.async_scheduling = true: must be false with engine.speculative.method = ngram, as in vLLM",
            ("engine.async_scheduling", f"{key}.method"),
        )
    needed = num_tokens + 1 + (given.method == "draft_model")
    if config.engine.max_num_batched_tokens <= needed:
        yield (
            f"engine.max_num_batched_tokens = {config.engine.max_num_batched_tokens}: must be above {needed}, what one "
            f"sequence with {num_tokens} drafts takes of a step",
            ("engine.max_num_batched_tokens", f"{key}.num_speculative_tokens"),
        )


def _adapters(config: Config, origins: Origins, mode: Mode | None) -> Iterator[Finding]:
    """What vLLM asks of copies in host memory."""
    engine = config.engine
    if engine.enable_lora and engine.max_cpu_loras is not None and engine.max_cpu_loras < engine.max_loras:
        yield (
            f"engine.max_cpu_loras = {engine.max_cpu_loras}: must be engine.max_loras = {engine.max_loras} or more",
            ("engine.max_cpu_loras", "engine.max_loras"),
        )
    own = ("affinity", "least_loaded", "two_choices", "round_robin")
    if engine.enable_lora and config.routing.lora_affinity and config.routing.prefill not in own and mode != "traffic":
        yield (
            f"routing.lora_affinity = true: beside routing.prefill = {config.routing.prefill} it is not modelled; "
            f"routing.prefill must be {' or '.join(own)}",
            ("routing.lora_affinity", "routing.prefill"),
        )


def _experts(config: Config, origins: Origins, mode: Mode | None) -> Iterator[Finding]:
    """What vLLM asks of rebalanced experts, and where it matters which experts tokens go to."""
    engine, load, key = config.engine, config.engine.expert_load, "engine.expert_load"
    if mode == "traffic":
        return
    if engine.enable_eplb and not engine.enable_expert_parallel:
        yield (
            "engine.enable_eplb = true needs engine.enable_expert_parallel = true: slices of experts are all alike",
            ("engine.enable_eplb", "engine.enable_expert_parallel"),
        )
    if engine.num_redundant_experts and not engine.enable_eplb:
        yield (
            f"engine.num_redundant_experts = {engine.num_redundant_experts}: must be 0 without engine.enable_eplb",
            ("engine.num_redundant_experts", "engine.enable_eplb"),
        )
    are_whole = engine.enable_expert_parallel and engine.data_parallel_size > 1 and engine.share_experts
    if load.distribution != "uniform" and not are_whole:
        yield (
            f"{key}.distribution = {load.distribution}: must be uniform unless data-parallel engines share experts "
            "that are whole (engine.data_parallel_size above 1, enable_expert_parallel and share_experts true)",
            (f"{key}.distribution", "engine.data_parallel_size", "engine.enable_expert_parallel"),
        )
    if (load.distribution == "measured") != bool(load.shares):
        what = (
            "must be the tokens of each expert" if not load.shares else "must be [] unless the distribution is measured"
        )
        keys = (f"{key}.shares", f"{key}.distribution")
        yield f"{key}.shares: {what} ({key}.distribution = {load.distribution})", keys
    elif load.shares and not any(load.shares):
        yield f"{key}.shares: all are 0; must have one above 0", (f"{key}.shares",)


def _pipeline(config: Config, origins: Origins, mode: Mode | None) -> Iterator[Finding]:
    """What a pipeline of stages stands beside."""
    tree: dict[str, Any] = dump(config)
    tiers = {key: tuple(get(tree, key)) for key in _tier_lists(mode)} if mode is not None else {}
    return pipeline(config, mode, tiers)


def _placement(config: Config, origins: Origins, mode: Mode | None) -> Iterator[Finding]:
    """Racks and hosts are of clusters: instances of a single node have a host each."""
    if mode in UNPLACED:
        return
    separation = config.pd_separation
    own, stages = config.engine.tensor_parallel_size, config.engine.pipeline_parallel_size
    degrees = {"engine.tensor_parallel_size": own}
    if stages > 1:
        degrees["engine.pipeline_parallel_size"] = own * stages
    if mode != "cluster":
        degrees["pd_separation.prefill_tensor_parallel_size"] = separation.prefill_tensor_parallel_size or 1
        degrees["pd_separation.decode_tensor_parallel_size"] = separation.decode_tensor_parallel_size or 1
    for key, degree in degrees.items():
        yield from _placed(config, origins, key, degree)


def _placed(config: Config, origins: Origins, key: str, degree: int) -> Iterator[Finding]:
    """``degree``: GPUs of an instance whose last factor is ``key``."""
    named = f"{key} = {degree}"
    if key == "engine.pipeline_parallel_size":
        named = f"{key} = {config.engine.pipeline_parallel_size}, which makes {degree} GPUs,"
    host, rack = config.cluster.network.gpus_per_host, config.cluster.simulate_gpus_per_rack
    host_key, rack_key = "cluster.network.gpus_per_host", "cluster.simulate_gpus_per_rack"
    if rack % degree:
        stays = "an instance stays within its rack"
        if origins.blamed(key, rack_key)[1] == key:
            fitting = ", ".join(str(size) for size in _divisors(rack))
            yield f"{named} does not divide the {rack} GPUs of a rack: {stays}; allowed: {fitting}", (key,)
        yield f"{rack_key} = {rack} is no multiple of {named.removesuffix(',')}: {stays}", (rack_key, key)
    if host % degree and degree % host:
        first, second = named.removesuffix(","), f"{host_key} = {host}"
        if origins.blamed(key, host_key)[1] == host_key:
            first, second = second, first
        yield f"{first} and {second} do not divide: one must be a multiple of the other", (key, host_key)


def _divisors(number: int) -> list[int]:
    """Divisors up to the largest instance that anybody builds."""
    return [size for size in range(1, min(number, 64) + 1) if not number % size]


def _coefficients(config: Config, origins: Origins, mode: Mode | None) -> Iterator[Finding]:
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


def _ranges(config: Config, origins: Origins, mode: Mode | None) -> Iterator[Finding]:
    chats: dict[str, ChatTrace | PdTrace] = {
        "trace": config.trace,
        "cluster_trace": config.cluster_trace,
        "pd_trace": config.pd_trace,
    }
    used = {"pd_trace"} if mode == "traffic" else {EXPERIMENTS[name][0] for name in EXPERIMENTS if mode in (name, None)}
    pairs = [
        (f"{name}.prompt_tokens_min", chat.prompt_tokens_min, f"{name}.prompt_tokens_max", chat.prompt_tokens_max)
        for name, chat in chats.items()
        if name in used
    ]
    agent = config.agent_trace
    if mode in ("traffic", None):
        least, most = "agent_trace.tool_result_min_tokens", "agent_trace.tool_result_max_tokens"
        pairs.append(("agent_trace.turns_min", agent.turns_min, "agent_trace.turns_max", agent.turns_max))
        pairs.append((least, agent.tool_result_min_tokens, most, agent.tool_result_max_tokens))
    for low_key, low, high_key, high in pairs:
        if low is None and high is None:
            continue
        if low is None or high is None:
            given, missing = (high_key, low_key) if low is None else (low_key, high_key)
            yield f"{given} is given without {missing}: give both or neither", (given,)
        elif low > high and origins.blamed(low_key, high_key)[1] == low_key:
            yield f"{low_key} = {low} exceeds {high_key} = {high}", (low_key, high_key)
        elif low > high:
            yield f"{high_key} = {high} is below {low_key} = {low}", (low_key, high_key)


def _warmup(config: Config, origins: Origins, mode: Mode | None) -> Iterator[Finding]:
    experiments = {
        "experiments": config.experiments,
        "cluster_experiments": config.cluster_experiments,
        "pd_experiments": config.pd_experiments,
    }
    used = {EXPERIMENTS[name][1] for name in EXPERIMENTS if mode in (name, None)}
    for name, experiment in experiments.items():
        warmup, requests = experiment.warmup_requests, experiment.num_requests
        if name in used and warmup is not None and requests is not None and warmup >= requests:
            yield (
                f"{name}.warmup_requests = {warmup} leaves nothing of {name}.num_requests = {requests} to measure",
                (f"{name}.warmup_requests", f"{name}.num_requests"),
            )


def _tiers(config: Config, origins: Origins, mode: Mode | None) -> Iterator[Finding]:
    cache, eic = config.cache, config.cluster.eic
    capacity_gb = {
        DRAM: config.hardware.dram.capacity_gb,
        EIC: eic.nodes_per_rack * eic.capacity_per_node_gb,
        SSD: config.hardware.ssd.capacity_gb,
    }
    empty = {kind.name: kind.capacity_key for kind in TIERS if not capacity_gb[kind]}
    tree: dict[str, Any] = dump(config)
    for key in _tier_lists(mode):
        tiers = get(tree, key)
        if tiers != [tier for tier in TIER_NAMES if tier in tiers]:
            yield f"{key} = [{', '.join(tiers)}]: the nearest stands first, each once: {', '.join(TIER_NAMES)}", (key,)
        for tier in tiers:
            if tier in empty:
                yield f"{empty[tier]}: {tier} holds nothing; take it out of {key} instead", (empty[tier],)
    if not tiers_in_use(tree, mode):
        return
    if cache.chunk_tokens % block_size(config):
        yield (
            f"cache.chunk_tokens = {cache.chunk_tokens} is no multiple of the {block_size(config)} tokens of a block",
            ("cache.chunk_tokens", "engine.block_size"),
        )
    if not cache.inclusive and cache.write_policy == "write_through":
        yield (
            "cache.inclusive = false needs cache.write_policy = 'write_back': writing through fills every tier",
            ("cache.inclusive", "cache.write_policy"),
        )
    if cache.connector == "offloading" and cache.write_policy == "write_back":
        yield (
            "cache.connector = 'offloading' needs cache.write_policy = 'write_through': it writes what is computed",
            ("cache.connector", "cache.write_policy"),
        )
    if cache.connector == "offloading" and cache.load_at == "arrival":
        yield (
            "cache.connector = 'offloading' needs cache.load_at = 'scheduling': a request that may be admitted asks",
            ("cache.connector", "cache.load_at"),
        )
    if not cache.write_generated and cache.write_policy == "write_back":
        yield (
            "cache.write_generated = false needs cache.write_policy = 'write_through': what is evicted is written, "
            "whosever it was",
            ("cache.write_generated", "cache.write_policy"),
        )


def _admission(config: Config, origins: Origins, mode: Mode | None) -> Iterator[Finding]:
    """``policies.selective_write`` is the seed's spelling of one admission policy."""
    policies = config.policies
    if policies.selective_write and policies.admission not in ("all", "selective_write") and mode != "instance":
        yield (
            f"policies.selective_write = true contradicts policies.admission = {policies.admission}",
            ("policies.selective_write", "policies.admission"),
        )


def _block_bytes(config: Config, origins: Origins, mode: Mode | None) -> Iterator[Finding]:
    """``cache.block_size_bytes`` is a second spelling of tokens a block x bytes a token; alone it gives the latter."""
    given, per_token = config.cache.block_size_bytes, explicit_kv_bytes_per_token(config)
    if given is not None and per_token is not None and given != per_token * block_size(config):
        yield (
            f"cache.block_size_bytes = {given} contradicts {block_size(config)} tokens a block x "
            f"{kv_size_key(config)} = {per_token}: that makes {per_token * block_size(config)}",
            ("cache.block_size_bytes", kv_size_key(config)),
        )
