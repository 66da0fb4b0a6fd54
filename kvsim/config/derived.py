"""What follows from the configuration, asked in one place: which of two keys wins, in the units of the inside.

A prefill/decode run takes the more specific key (``pd_separation``, then ``cluster``) where it is not null.
"""

from __future__ import annotations

from kvsim.config.kinds import canonical, gpu_of_role, roles_differ
from kvsim.config.schema import Config
from kvsim.errors import ConfigError
from kvsim.units import GB, MICRO, MILLI


def params_billions(config: Config) -> float | None:
    """Parameters in 1e9 that replace the known model's; None: as known."""
    return _first(config.pd_separation.compute.model_params_b, config.model.params_billions)


def block_size(config: Config) -> int:
    """Tokens a KV block."""
    tokens = config.pd_separation.compute.tokens_per_block
    return config.engine.block_size if tokens is None else tokens


def block_size_key(config: Config) -> str:
    """The key that ``block_size`` reads."""
    own = config.pd_separation.compute.tokens_per_block is not None
    return "pd_separation.compute.tokens_per_block" if own else "engine.block_size"


def kv_bytes_per_token_override(config: Config) -> float | None:
    """Bytes of KV a token over all layers that replace the derived ones, from ``cache.block_size_bytes`` if need be."""
    explicit = explicit_kv_bytes_per_token(config)
    if explicit is None and config.cache.block_size_bytes is not None:
        return config.cache.block_size_bytes / block_size(config)
    return explicit


def explicit_kv_bytes_per_token(config: Config) -> int | None:
    """Bytes of KV a token where a key says so itself."""
    specific = config.pd_separation.compute.kv_bytes_per_token
    return config.model.kv_bytes_per_token if specific is None else specific


def kv_size_key(config: Config) -> str:
    """The key that ``explicit_kv_bytes_per_token`` reads, or in its place ``kv_bytes_per_token_override``."""
    if explicit_kv_bytes_per_token(config) is None and config.cache.block_size_bytes is not None:
        return "cache.block_size_bytes"
    specific = config.pd_separation.compute.kv_bytes_per_token is not None
    return "pd_separation.compute.kv_bytes_per_token" if specific else "model.kv_bytes_per_token"


def kv_capacity_bytes_per_gpu_override(config: Config) -> float | None:
    """KV budget of one GPU that replaces what memory, weights and utilisation leave; None: derived."""
    given = _times(_first(config.cluster.gpu.kv_capacity_gb, config.hardware.hbm.kv_capacity_gb), GB)
    return config.engine.kv_cache_memory_bytes if given is None else given


def kv_capacity_key(config: Config) -> str:
    """The key that ``kv_capacity_bytes_per_gpu_override`` reads first."""
    if config.cluster.gpu.kv_capacity_gb is not None:
        return "cluster.gpu.kv_capacity_gb"
    of_engine = config.hardware.hbm.kv_capacity_gb is None and config.engine.kv_cache_memory_bytes is not None
    return "engine.kv_cache_memory_bytes" if of_engine else "hardware.hbm.kv_capacity_gb"


def hbm_read_bytes_per_s_override(config: Config) -> float | None:
    """HBM read bandwidth of one GPU that replaces the known GPU's; None: as known."""
    return _times(_first(config.cluster.gpu.hbm_read_gb_per_s, config.hardware.hbm.read_gb_per_s), GB)


def nic_bytes_per_s_per_gpu(config: Config) -> float:
    """What one GPU's NIC achieves, one direction."""
    return rated_nic_bytes_per_s_per_gpu(config) * config.pd_separation.transfer.rdma_efficiency


def rated_nic_bytes_per_s_per_gpu(config: Config) -> float:
    """What one GPU's NIC is sold as, one direction."""
    rated = config.pd_separation.transfer.rdma_gb_per_s
    return (config.cluster.network.p2p_rdma_gb_per_s if rated is None else rated) * GB


def nic_latency_s(config: Config) -> float:
    """Set-up time of one RDMA transfer between instances."""
    latency_us = config.pd_separation.transfer.rdma_latency_us
    return (config.cluster.network.p2p_rdma_latency_us if latency_us is None else latency_us) * MICRO


def prefill_token_budget(config: Config) -> int:
    """Tokens a step of a prefill instance may take. Without chunking it holds the longest prompt whole."""
    if not config.pd_separation.chunked_prefill:
        return max(config.model.max_model_len, config.engine.max_num_batched_tokens)
    chunk_tokens = config.pd_separation.chunk_size_tokens
    return config.engine.max_num_batched_tokens if chunk_tokens is None else chunk_tokens


def num_requests(config: Config) -> int | None:
    """Requests of synthetic prefill/decode traffic; None: as many as a steady state takes."""
    specific = config.pd_trace.num_requests
    return config.pd_experiments.num_requests if specific is None else specific


def traffic_seed(config: Config) -> int:
    """Seed of the synthetic prefill/decode traffic."""
    return config.seed if config.pd_trace.seed is None else config.pd_trace.seed


def answer_s_per_token(config: Config) -> float:
    """How long a token of an answer is taken to last where arrivals must be known before anything is simulated."""
    return config.load.assumed_tpot_ms * MILLI


def simulated_gpus(config: Config) -> int:
    return config.cluster.simulate_racks * config.cluster.simulate_gpus_per_rack


def instance_gpus(config: Config) -> int:
    """GPUs of a unified instance, over all its stages."""
    return config.engine.tensor_parallel_size * config.engine.pipeline_parallel_size


def gpus_in_words(config: Config) -> str:
    """GPUs of a unified instance: ``4 x h100-sxm``, ``2 stages of 4 x h100-sxm``."""
    engine = config.engine
    each = f"{engine.tensor_parallel_size} x {config.hardware.gpu}"
    return each if engine.pipeline_parallel_size == 1 else f"{engine.pipeline_parallel_size} stages of {each}"


def kinds_in_words(config: Config) -> str:
    """GPUs of a unified instance of each kind: ``4 x h100-sxm``, ``4 of 2 x h100-sxm and 8 of 4 x l40s``."""
    pools = config.cluster.pools
    if not pools:
        return gpus_in_words(config)
    counts: dict[str, int] = {}
    for pool in pools:
        degree = pool.tensor_parallel_size or config.engine.tensor_parallel_size
        words = f"{degree} x {canonical(pool.gpu)}"
        counts[words] = counts.get(words, 0) + pool.instances
    if len(counts) == 1:
        return next(iter(counts))
    return " and ".join(f"{count} of {words}" for words, count in counts.items())


def instances_in_words(config: Config, *, has_roles: bool, has_pools: bool) -> str:
    """GPUs of an instance, of each kind and, where they differ, of each role: ``unified 4 x h100-sxm, prefill 4 x
    h100-sxm, decode 8 x l40s an instance``. ``has_pools``: ``cluster.pools`` are looked at."""
    unified = kinds_in_words(config) if has_pools else gpus_in_words(config)
    own = f"{config.engine.tensor_parallel_size} x {canonical(config.hardware.gpu)}"
    if not has_roles or not (roles_differ(config) or (has_pools and config.cluster.pools)):
        return f"{unified} an instance"
    named = zip(("prefill", "decode"), pd_degrees(config), strict=True)
    said = [f"{name} {degree} x {canonical(gpu_of_role(config, name))}" for name, degree in named]
    return f"unified {unified if has_pools else own}, {', '.join(said)} an instance"


def instances(config: Config) -> int:
    """Model replicas on the simulated GPUs. Raises ``ConfigError`` where there is room for none."""
    found = simulated_gpus(config) // instance_gpus(config)
    if not found:
        raise ConfigError(
            f"cluster: {simulated_gpus(config)} simulated GPUs are fewer than the {instance_gpus(config)} of an "
            f"instance ({gpus_in_words(config)}); a server's command line brings as many as it takes"
        )
    return found


def engines_in_step(config: Config, is_moe: bool) -> int:
    """Data-parallel engines that share experts and take their steps together; 1: each takes its own, as all do of a
    dense model."""
    engine = config.engine
    return engine.data_parallel_size if is_moe and engine.share_experts else 1


def expert_parallel(config: Config, is_moe: bool, degree: int) -> int:
    """GPUs that share the routed experts, of engines of ``degree`` GPUs; 1 where each instance holds them all in
    slices."""
    engines = engines_in_step(config, is_moe)
    return degree * engines if engines > 1 or config.engine.enable_expert_parallel else 1


def pd_degrees(config: Config) -> tuple[int, int]:
    """GPUs of a prefill and of a decode instance."""
    separation, own = config.pd_separation, config.engine.tensor_parallel_size
    return separation.prefill_tensor_parallel_size or own, separation.decode_tensor_parallel_size or own


def pd_counts(config: Config, ratio: tuple[int, int] | None = None) -> tuple[int, int]:
    """``(num_prefill, num_decode)`` at ``ratio``, by default ``pd_separation.pd_ratio``.

    Rounded to whole instances over the whole cluster, half up, at least one a side, of every cell.

    Raises ``ConfigError`` where there is no room for one a side.
    """
    gpus, degrees = simulated_gpus(config), pd_degrees(config)
    if gpus < sum(degrees):
        raise ConfigError(
            f"cluster: prefill/decode separation needs 2 instances or more; {gpus} simulated GPUs are fewer than "
            f"{degrees[0]} + {degrees[1]} for a prefill and a decode instance"
        )
    if max(degrees) % min(degrees):
        raise ConfigError(
            f"pd_separation.prefill_tensor_parallel_size = {degrees[0]}, decode_tensor_parallel_size = {degrees[1]}: "
            "neither is a multiple of the other, so that GPUs would stand idle"
        )
    num_prefill = rounded_prefill(gpus, degrees, config.pd_separation.pd_ratio if ratio is None else ratio)
    cells = num_cells(config, gpus)
    if gpus % cells or gpus // cells < sum(degrees):
        cells = 1  # They are refused where the plan is checked, which knows what is shared.
    num_prefill = min(max(num_prefill, cells), (gpus // cells - degrees[1]) // degrees[0] * cells)
    return num_prefill, decode_beside(num_prefill, gpus, degrees, cells)


def decode_beside(num_prefill: int, gpus: int, degrees: tuple[int, int], cells: int) -> int:
    """Decode instances on the GPUs that so many prefill instances leave, spread over equal ``cells``."""
    own_gpus = gpus // cells
    return sum((own_gpus - own * degrees[0]) // degrees[1] for own in spread(num_prefill, cells))


def spread(total: int, parts: int) -> list[int]:
    """``total`` over so many parts, as evenly as whole ones go."""
    return [total * (part + 1) // parts - total * part // parts for part in range(parts)]


def num_cells(config: Config, gpus: int) -> int:
    """Parts of a cluster of so many GPUs that share nothing: ``routing.cells``."""
    given = config.routing.cells
    if given == "rack":
        return -(-gpus // config.cluster.simulate_gpus_per_rack)
    return given or 1


def rounded_prefill(gpus: int, degrees: tuple[int, int], ratio: tuple[int, int]) -> int:
    """Prefill instances at a ratio of instances of these degrees: rounded half up, at least one a side."""
    unit = ratio[0] * degrees[0] + ratio[1] * degrees[1]
    return min(max((2 * gpus * ratio[0] + unit) // (2 * unit), 1), (gpus - degrees[1]) // degrees[0])


def _first(specific: float | None, general: float | None) -> float | None:
    return general if specific is None else specific


def _times(value: float | None, unit: float) -> float | None:
    return None if value is None else value * unit


def lora_adapters(config: Config) -> int | None:
    """Adapters that requests go to; ``None``: engines have none."""
    if not config.engine.enable_lora:
        return None
    return config.load.lora_adapters or config.engine.max_loras
