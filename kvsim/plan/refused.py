"""Servers that their own program does not start: what a line asks for that its model, or its GPU, does not allow.

A configuration may ask for the same: then it is simulated, and said.
Source: vLLM 0.32, ``_get_and_verify_max_len``, ``ModelConfig.verify_with_parallel_config`` and the block sizes of its
attention backends.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvsim.config import Config, derived
from kvsim.errors import ConfigError
from kvsim.launch import LaunchLine
from kvsim.launch.parser import COMMANDS
from kvsim.launch.refused import LENGTH_VARIABLES
from kvsim.plan.scheduler_rules import said_of_version
from kvsim.plan.vllm_defaults import block_multiple
from kvsim.spec import GpuSpec, ModelSpec, find_gpu, find_model


def check_line(launch: LaunchLine, gpu: GpuSpec) -> None:
    """Raise ``ConfigError``, one sentence, where a server with that line does not start on ``gpu``."""
    for words in (*launch.refusals, *_refusals(launch, find_model(launch.model), gpu)):
        raise ConfigError(f"{COMMANDS[launch.engine]}: {words}")


def _refusals(launch: LaunchLine, model: ModelSpec, gpu: GpuSpec) -> Iterator[str]:
    length, longest = launch.arguments.get("max_model_len"), model.longest_tokens
    if isinstance(length, int) and length > longest > 0 and not launch.takes_any_length:
        flag = "--max-model-len" if launch.engine == "vllm" else "--context-length"
        variable = LENGTH_VARIABLES[launch.engine]
        yield f"{flag} {length}: {model.name} takes up to {longest:,} tokens; allowed with {variable}=1 before the line"
    if launch.engine != "vllm":
        return
    if launch.arguments.get("enable_expert_parallel") and not model.is_moe:
        yield f"--enable-expert-parallel: {model.name} has no experts"
    size, backend = launch.arguments.get("block_size"), launch.arguments.get("attention_backend")
    multiple = block_multiple(model, gpu, backend if isinstance(backend, str) else "")
    if isinstance(size, int) and size > 0 and size % multiple:
        whose = f"of {backend}" if backend else "of its attention backends"
        yield f"--block-size {size}: must be a multiple of {multiple}, which the kernels {whose} take"


def unlike_servers(config: Config, model: ModelSpec) -> list[str]:
    """A sentence for each thing of a configuration with which such a server does not start, or whose own rules are not
    known."""
    found = [f"engine.vllm_version: {words}" for words in said_of_version(config.engine.vllm_version)]
    if config.cache.prefix_cache == "radix":
        return found
    length, longest, size = config.model.max_model_len, model.longest_tokens, derived.block_size(config)
    multiple = block_multiple(model, find_gpu(config.hardware.gpu))
    if length > longest > 0:
        found.append(
            f"vLLM starts such a server with {LENGTH_VARIABLES['vllm']}=1 alone: model.max_model_len = {length:,} is "
            f"above the {longest:,} tokens that {model.name} takes"
        )
    if size % multiple:
        found.append(
            f"vLLM does not start such a server: {derived.block_size_key(config)} = {size} is no multiple of "
            f"{multiple}, which its attention kernels take; here it has such blocks"
        )
    if config.engine.enable_expert_parallel and not model.is_moe:
        found.append(
            f"vLLM does not start such a server: engine.enable_expert_parallel, where {model.name} has no experts; "
            "here it is without effect"
        )
    return found
