"""Kinds of GPUs in one cluster: which a role has, and the configuration as an instance of that role sees it."""

from __future__ import annotations

from kvsim.config.cluster_keys import Pool
from kvsim.config.cost_keys import GpuCost
from kvsim.config.schema import Config
from kvsim.spec.gpu import known_gpu

OF_ONE_KIND = (
    "hardware.memory_gib",
    "hardware.peak_tflops",
    "hardware.hbm.kv_capacity_gb",
    "hardware.hbm.read_gb_per_s",
    "cluster.gpu.kv_capacity_gb",
    "cluster.gpu.hbm_read_gb_per_s",
    "cluster.network.nvlink_gb_per_s",
    "pd_separation.compute.prefill_tflops",
    "pd_separation.compute.decode_memory_gb_per_s",
)
"""What replaces figures of ``hardware.gpu``: beside another kind nobody could say of which."""


def gpu_key(role: str) -> str:
    """The key that names the GPUs of ``role`` alone."""
    return f"pd_separation.{role}_gpu"


def gpu_of_role(config: Config, role: str) -> str:
    """GPUs of an instance of ``role``, as somebody spelt them."""
    separation = config.pd_separation
    own = {"prefill": separation.prefill_gpu, "decode": separation.decode_gpu}.get(role)
    return own or config.hardware.gpu


def canonical(gpu: str) -> str:
    """One name for all spellings of a known GPU."""
    return known_gpu(gpu) or gpu


def roles_differ(config: Config) -> bool:
    """Whether prefill or decode instances have GPUs of another kind than unified ones."""
    kinds = {canonical(gpu_of_role(config, role)) for role in ("colocated", "prefill", "decode")}
    return len(kinds) > 1


def of_role(config: Config, role: str) -> Config:
    """The configuration as an instance of ``role`` sees it: its GPUs are ``hardware.gpu``, its NICs' rate is that of
    transfers."""
    transfer = config.pd_separation.transfer
    nic = {"prefill": transfer.prefill_rdma_gb_per_s, "decode": transfer.decode_rdma_gb_per_s}.get(role)
    if nic is not None:
        transfer = transfer.model_copy(update={"rdma_gb_per_s": nic})
        separation = config.pd_separation.model_copy(update={"transfer": transfer})
        config = config.model_copy(update={"pd_separation": separation})
    return with_gpu(config, gpu_of_role(config, role))


def with_gpu(config: Config, gpu: str) -> Config:
    """``config`` with another ``hardware.gpu``; itself where that is another spelling of the same."""
    if canonical(gpu) == canonical(config.hardware.gpu):
        return config
    return config.model_copy(update={"hardware": config.hardware.model_copy(update={"gpu": gpu})})


OF_POOL = ("tensor_parallel_size", "max_num_batched_tokens", "max_num_seqs", "gpu_memory_utilization")
"""Arguments of the engine that a pool can have of its own."""


def of_pool(config: Config, pool: Pool) -> Config:
    """The configuration as an instance of ``pool`` sees it; a budget that holds no token of every seat lowers the
    seats, as vLLM does with its own default of them."""
    given = {name: value for name in OF_POOL if (value := getattr(pool, name)) is not None}
    if pool.max_num_seqs is None and pool.max_num_batched_tokens is not None:
        given["max_num_seqs"] = min(config.engine.max_num_seqs, pool.max_num_batched_tokens)
    engine = config.engine.model_copy(update=given)
    return with_gpu(config.model_copy(update={"engine": engine}), pool.gpu)


def is_own(config: Config, gpu: str) -> bool:
    """Whether a kind is ``hardware.gpu``, of which ``cost`` says most."""
    return canonical(gpu) == canonical(config.hardware.gpu)


def other_gpu(config: Config, gpu: str) -> GpuCost | None:
    """What ``cost.other_gpus`` has of a kind."""
    items = config.cost.other_gpus or ()
    return next((item for item in items if canonical(item.gpu) == canonical(gpu)), None)
