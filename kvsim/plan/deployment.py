"""From a server's command line to the configuration of a deployment of such servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kvsim.config import Given, LoadedConfig, load_config
from kvsim.config.checks import TIER_LISTS
from kvsim.config.load import set_values, stated
from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.launch import LaunchLine, read_engine_args, read_launch_line
from kvsim.plan.instance import assigned_version, load_instance, server_of
from kvsim.plan.mode import ModeName
from kvsim.plan.offloading import offloading_keys
from kvsim.plan.refused import check_line
from kvsim.spec import GpuSpec, find_gpu

OF_SERVER = ("hardware.gpu", "engine.vllm_version", "engine.tensor_parallel_size")
"""Keys that decide what a server takes where its line says nothing, and how many there are on so many GPUs."""
RACK_GPUS = 64
"""GPUs of a rack, at most, where only their number is given."""


def launch_of(line: str | None, engine_args: Path | None) -> LaunchLine:
    """What the line says, or vLLM's arguments in a YAML file. Raises ``ConfigError``."""
    if line is not None and engine_args is not None:
        raise ConfigError("a command line and a file of engine arguments exclude each other; give one")
    if line is not None:
        return read_launch_line(line)
    if engine_args is None:
        raise ConfigError(
            "no server is given; e.g. 'vllm serve meta-llama/Llama-3.1-8B-Instruct', or --engine-args FILE"
        )
    return read_engine_args(engine_args)


def launch_words(line: str | None, engine_args: Path | None) -> str:
    """The line on one line, or the file that stands for it."""
    return f"arguments in {engine_args}" if line is None else " ".join(line.split())


def load_deployment(
    launch: LaunchLine,
    *,
    gpu: str | None = None,
    instances: int = 1,
    profile: Path | None = None,
    sets: Sequence[str] = (),
) -> LoadedConfig:
    """The configuration of so many servers as ``launch`` says. Raises ``ConfigError``.

    ``gpu``: any spelling; ``None``: the profile's, else ``hardware.gpu``. ``profile`` and ``sets`` as for
    ``load_instance``.
    """
    known, version = _known(launch, gpu, sets, stated(OF_SERVER, overlay=profile))
    check_line(launch, known)
    return load_instance(
        launch.model,
        Fields("", dict(launch.arguments)),
        profile=profile,
        sets=sets,
        instances=instances,
        vllm_version=version,
        gpu=known,
        where="the server's command line",
    )


def load_separated(
    launch: LaunchLine,
    *,
    gpu: str | None = None,
    instances: int = 2,
    profile: Path | None = None,
    sets: Sequence[str] = (),
) -> LoadedConfig:
    """The configuration of prefill and decode instances on the GPUs of so many servers as ``launch`` says, at
    ``pd_separation.pd_ratio``. Parameters and errors as for ``load_deployment``.
    """
    below = stated(OF_SERVER, overlay=profile)
    own = server_keys("pd", launch, gpu=gpu, below=below, sets=sets)
    degree = _degree({**below, **({} if own is None else own.values), **set_values(sets)})
    keys = server_keys("pd", launch, gpu=gpu, gpus=instances * degree, below=below, sets=sets)
    return load_config(overlay=profile, sets=sets, mode="pd", engine=keys)


def server_keys(
    mode: ModeName,
    launch: LaunchLine | None,
    *,
    gpu: str | None = None,
    gpus: int | None = None,
    tensor_parallel: int | None = None,
    below: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
) -> Given | None:
    """What a command line and short forms say of a cluster of such servers in ``mode``; ``None``: nothing.

    ``gpus``: of the whole cluster. ``below``: values of ``OF_SERVER`` that files have; ``sets``: assignments, which
    come last. What the server takes by default is that of the GPU and the version that they name. Raises
    ``ConfigError``.
    """
    below = {} if below is None else below
    keys: dict[str, Any] = {} if gpu is None else {"hardware.gpu": find_gpu(gpu).name}
    if launch is not None:
        known, version = _known(launch, gpu, sets, below)
        check_line(launch, known)
        keys |= server_of(launch.model, Fields("", dict(launch.arguments)), version, None, known)
        keys["engine.tune_colocated_budget"] = "max_num_batched_tokens" not in launch.arguments
    if tensor_parallel is not None:
        keys["engine.tensor_parallel_size"] = tensor_parallel
    if launch is not None:
        keys |= offloading_keys(Fields("", dict(launch.arguments)), keys, TIER_LISTS[mode])
    if gpus is not None:
        own = {**below, **keys, **set_values(sets)}
        keys |= _size(mode, gpus, _degree(own))
    return Given("--engine" if launch is not None else "--gpus, --gpu, --tp", keys) if keys else None


def _known(launch: LaunchLine, gpu: str | None, sets: Sequence[str], below: Mapping[str, Any]) -> tuple[GpuSpec, str]:
    """The GPU and the version that a server runs on; the version is empty where nobody says one."""
    name = set_values(sets).get("hardware.gpu") or gpu or below.get("hardware.gpu") or load_config().config.hardware.gpu
    version = assigned_version(sets) or launch.version or below.get("engine.vllm_version", "")
    return find_gpu(str(name)), str(version)


def _degree(keys: Mapping[str, Any]) -> int:
    """GPUs of an instance with these keys. What is no number of GPUs is refused where keys are checked."""
    usual = load_config().config.engine.tensor_parallel_size
    return _positive(keys.get("engine.tensor_parallel_size"), usual) * _positive(
        keys.get("engine.pipeline_parallel_size"), 1
    )


def _positive(given: object, usual: int) -> int:
    return given if isinstance(given, int) and given > 0 else usual


def _size(mode: ModeName, gpus: int, degree: int) -> dict[str, Any]:
    """Keys of a cluster of so many GPUs, ``degree`` of them an instance: racks of up to 64, of whole hosts of 8 where
    that goes."""
    if gpus % degree:
        raise ConfigError(f"--gpus is {gpus}; allowed: a multiple of the {degree} GPUs of an instance")
    if mode == "single":
        return {"cache.num_workers": gpus // degree}
    sizes = [size for size in range(degree, min(gpus, RACK_GPUS) + 1, degree) if gpus % size == 0]
    rack = max(sizes, default=gpus)
    return {
        "cluster.total_gpus": gpus,
        "cluster.gpus_per_rack": rack,
        "cluster.simulate_racks": gpus // rack,
        "cluster.simulate_gpus_per_rack": rack,
    }
