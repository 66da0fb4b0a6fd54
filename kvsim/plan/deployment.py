"""From a server's command line to the configuration of a deployment of such servers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kvsim.config import LoadedConfig
from kvsim.errors import ConfigError
from kvsim.fields import Fields
from kvsim.launch import LaunchLine, read_engine_args, read_launch_line
from kvsim.plan.instance import load_instance
from kvsim.spec import find_gpu


def launch_of(line: str | None, engine_args: Path | None) -> LaunchLine:
    """What the line says, or vLLM's arguments in a YAML file. Raises ``ConfigError``."""
    if line is not None and engine_args is not None:
        raise ConfigError("a command line and a file of engine arguments exclude each other; give one")
    if line is not None:
        return read_launch_line(line)
    if engine_args is None:
        raise ConfigError("no server is given; e.g. 'vllm serve meta-llama/Llama-3.1-8B-Instruct', or --engine-args FILE")
    return read_engine_args(engine_args)


def load_deployment(
    launch: LaunchLine,
    *,
    gpu: str | None = None,
    instances: int = 1,
    profile: Path | None = None,
    sets: Sequence[str] = (),
) -> LoadedConfig:
    """The configuration of so many servers as ``launch`` says. Raises ``ConfigError``.

    ``gpu``: any spelling; ``None``: ``hardware.gpu``. ``profile`` and ``sets`` as for ``load_instance``.
    """
    keys = {} if gpu is None else {"hardware.gpu": find_gpu(gpu).name}
    return load_instance(
        launch.model,
        Fields("", dict(launch.arguments)),
        profile=profile,
        keys=keys,
        sets=sets,
        instances=instances,
        where="the server's command line",
    )
