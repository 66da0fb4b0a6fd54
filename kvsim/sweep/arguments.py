"""What of a run can be said beside keys of the configuration: the words of :func:`kvsim.simulate` and of the flags."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kvsim.config.bundles import find_bundles
from kvsim.config.overlay import shipped_profiles
from kvsim.config.yaml_source import kind, shown
from kvsim.errors import ConfigError, KvsimError, nearest
from kvsim.plan.deployment import launch_of
from kvsim.plan.mode import MODES
from kvsim.policy.eviction import EVICTIONS
from kvsim.sim.run import SYSTEMS
from kvsim.spec import find_gpu
from kvsim.workload.formats import FORMATS
from kvsim.workload.reading import FLAGS, Reading
from kvsim.workload.words import word_of

READING = {flag.removeprefix("--").replace("-", "_"): name for name, flag in FLAGS.items()}
"""Arguments that say how a trace is read: the field of ``Reading`` that each is."""
OF_MODES = ("engine", "gpus", "tp", "preset", "config", "load", "load_of", "policy", "systems", "replicas")
"""Arguments that a mode takes and a server does not."""
OF_SERVERS = ("instances",)
OF_PD = ("systems", "load_of")
"""Arguments that the mode pd takes and the others do not."""
SAME = {"gpu": "hardware.gpu", "tp": "engine.tensor_parallel_size"}
"""Arguments that a key of the configuration would overrule in silence."""


def _text(value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"must be text, not {kind(value)}")


def _count(value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError("must be a whole number >= 1")


def _positive(value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ConfigError("must be a finite number > 0")


def _one_of(*known: str) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if value not in known:
            raise ConfigError(nearest(str(value), known))

    return check


def _systems(value: Any) -> None:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"must be a list of systems: {', '.join(SYSTEMS)}")
    for name in value:
        _one_of(*SYSTEMS)(name)


def _line(value: Any) -> None:
    _text(value)
    launch_of(value, None)


def _gpu(value: Any) -> None:
    _text(value)
    find_gpu(value)


def _workload(value: Any) -> None:
    _text(value)
    if not names_file("workload", value):
        word_of(value)


def _policy(value: Any) -> None:
    _text(value)
    find_bundles([name.strip() for name in value.split(",")], list(EVICTIONS))


CHECKS: Mapping[str, Callable[[Any], None]] = {
    "mode": _one_of(*(name for name in MODES if name != "predict")),
    "server": _line,
    "preset": _text,
    "config": _text,
    "profile": _text,
    "engine": _line,
    "gpu": _gpu,
    "gpus": _count,
    "tp": _count,
    "instances": _count,
    "workload": _workload,
    "trace": _text,
    "rate": _positive,
    "concurrency": _count,
    "requests": _count,
    "load": _positive,
    "load_of": _one_of(*SYSTEMS),
    "systems": _systems,
    "policy": _policy,
    "replicas": _count,
}
ARGUMENTS = (*CHECKS, *READING)


def check_argument(name: str, value: Any, where: str) -> None:
    """Raise ``ConfigError``, which begins with ``where``, for a ``value`` that the argument can never have."""
    try:
        if name in READING:
            _check_reading(name, value)
        else:
            CHECKS[name](value)
    except KvsimError as error:
        raise ConfigError(f"{where}: {name} = {shown(value)}: {error}") from None


def _check_reading(name: str, value: Any) -> None:
    default = getattr(Reading(), READING[name])
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ConfigError("must be true or false")
    elif isinstance(default, float):
        _positive(value)
    elif default is None:
        _count(value)
    else:
        _text(value)
    Reading(**{READING[name]: value})
    if READING[name] == "fmt":
        _one_of("auto", *FORMATS)(value)


def names_file(name: str, value: Any) -> bool:
    """Whether the value of this argument is a file, which workers read: a word for a workload is none."""
    if name in ("config", "trace"):
        return True
    if name == "profile":
        return value != "none" and not (Path(value).stem in shipped_profiles() and len(Path(value).parts) == 1)
    return name == "workload" and isinstance(value, str) and "=" not in value and ("/" in value or "." in value)
