"""What is served: a configuration as a plan, and what a server says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from kvsim._version import __version__
from kvsim.config import Config, LoadedConfig, load_config
from kvsim.launch import LaunchLine
from kvsim.plan.deployment import load_deployment, load_separated
from kvsim.plan.instance import Instance
from kvsim.plan.mode import PD, PREDICT
from kvsim.plan.plan import Plan
from kvsim.plan.refused import unlike_servers
from kvsim.plan.vllm_defaults import block_multiple
from kvsim.spec import find_gpu, find_model

System = Literal["unified", "pd"]


@dataclass(frozen=True)
class Deployed:
    """A server's configuration, and the cluster that it makes."""

    loaded: LoadedConfig
    plan: Plan
    system: System

    @property
    def config(self) -> Config:
        return self.loaded.config

    @property
    def instances(self) -> list[Instance]:
        """Each of the system's instances; of a separated one, those that compute prompts first."""
        plan = self.plan
        if self.system == "unified":
            return [own.colocated for own in plan.by_kind() for _ in range(own.num_instances)]
        return [plan.prefill] * plan.num_prefill + [plan.decode] * plan.num_decode

    @property
    def max_model_len(self) -> int:
        return min(instance.settings.max_model_len for instance in self.instances)

    def warnings(self) -> list[str]:
        """In what it is no server that vLLM starts, and what of its profile it goes beyond."""
        config = self.config
        return [*unlike_servers(config, find_model(config.model.name)), *self.loaded.provenance.warnings]


def deploy(
    launch: LaunchLine,
    *,
    separated: bool = False,
    gpu: str | None = None,
    instances: int | None = None,
    profile: Path | None = None,
    sets: Sequence[str] = (),
) -> Deployed:
    """What ``launch`` starts, so many times (1, or 2 where it is ``separated``). Raises a ``KvsimError``.

    Blocks of a size that vLLM's kernels do not take are simulated as a configuration's are: small caches need them.
    """
    launch, sets = _small_blocks(launch, gpu, sets)
    if separated:
        loaded = load_separated(launch, gpu=gpu, instances=instances or 2, profile=profile, sets=sets)
        return Deployed(loaded, PD.plan(loaded.config, stepwise=True), "pd")
    loaded = load_deployment(launch, gpu=gpu, instances=instances or 1, profile=profile, sets=sets)
    return Deployed(loaded, PREDICT.plan(loaded.config, stepwise=True), "unified")


def _small_blocks(launch: LaunchLine, gpu: str | None, sets: Sequence[str]) -> tuple[LaunchLine, Sequence[str]]:
    """Such a size as an assignment, before all others."""
    size = launch.arguments.get("block_size")
    known = find_gpu(gpu or load_config().config.hardware.gpu)
    if not isinstance(size, int) or size < 1 or not size % block_multiple(find_model(launch.model), known):
        return launch, sets
    others = {name: value for name, value in launch.arguments.items() if name != "block_size"}
    return replace(launch, arguments=others), (f"engine.block_size={size}", *sets)


def vllm_config(deployed: Deployed, names: Sequence[str]) -> dict[str, Any]:
    """The arguments of the first instance, where vLLM's ``/server_info?config_format=json`` has them."""
    config, instance = deployed.config, deployed.instances[0]
    engine, settings = config.engine, instance.settings
    return {
        "model_config": {
            "model": config.model.name,
            "served_model_name": list(names),
            "dtype": f"torch.{DTYPES.get(config.model.weight_dtype, 'bfloat16')}",
            "max_model_len": deployed.max_model_len,
        },
        "cache_config": {
            "block_size": settings.block_size,
            "gpu_memory_utilization": engine.gpu_memory_utilization,
            "cache_dtype": config.model.kv_dtype,
            "num_gpu_blocks": settings.num_blocks + 1,
            "num_gpu_blocks_override": engine.num_gpu_blocks_override,
            "enable_prefix_caching": settings.enable_prefix_caching,
        },
        "scheduler_config": {
            "max_num_seqs": settings.max_num_seqs,
            "max_num_batched_tokens": settings.max_num_batched_tokens,
            "max_model_len": settings.max_model_len,
            "policy": settings.scheduling_policy,
            "enable_chunked_prefill": settings.enable_chunked_prefill,
            "async_scheduling": settings.async_scheduling,
            "long_prefill_token_threshold": settings.long_prefill_token_threshold,
        },
        "parallel_config": {
            "tensor_parallel_size": instance.spec.tensor_parallel,
            "pipeline_parallel_size": settings.pipeline_parallel,
            "data_parallel_size": engine.data_parallel_size,
            "enable_expert_parallel": engine.enable_expert_parallel,
        },
    }


DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


def kvsim_facts(deployed: Deployed, speed: float) -> dict[str, Any]:
    """What no vLLM would say."""
    config, plan = deployed.config, deployed.plan
    counts = (
        {"unified": plan.num_instances}
        if deployed.system == "unified"
        else {"prefill": plan.num_prefill, "decode": plan.num_decode}
    )
    return {
        "version": __version__,
        "simulated": True,
        "gpu": config.hardware.gpu,
        "weight_dtype": config.model.weight_dtype,
        "instances": counts,
        "tiers": list(plan.tiers),
        "speed": speed,
        "seed": config.seed,
    }


def cache_labels(deployed: Deployed) -> dict[str, str]:
    """Labels of ``vllm:cache_config_info``."""
    values = vllm_config(deployed, ())["cache_config"]
    return {name: str(value) for name, value in sorted(values.items())}
