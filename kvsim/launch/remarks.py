"""What is said of a server's line: what of it changes nothing here, and what of it is not simulated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kvsim.launch.command import ServerCommand
from kvsim.launch.flags import NOT_SIMULATED, VERSIONS, Engine, Flag, flags_of
from kvsim.launch.refused import LENGTH_VARIABLES

MOST_NAMED = 8
OF_LORA = ("--max-loras", "--max-lora-rank")


def notes_of(command: ServerCommand, given: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence each; values are never repeated, since some are secrets."""
    flags = [flag for flag in flags_of(command.engine) if flag.name in given]
    found = []
    if names := [flag.name for flag in flags if flag.role == "unchanged" and not flag.is_gone]:
        found.append(f"without effect on what is simulated: {_listed(names)}")
    is_bare = command.engine == "vllm" and not given.get("--enable-lora")
    if names := [name for name in OF_LORA if name in given and is_bare]:
        found.append(f"without effect without --enable-lora: {_listed(names)}")
    if names := [flag.name for flag in flags if flag.role == "kernels"]:
        found.append(
            f"kernels are those that step times were measured or estimated with, not those of {_listed(names)}"
        )
    if names := [flag.name for flag in flags if flag.is_gone]:
        found.append(f"not in {VERSIONS[command.engine]} any more: {_listed(names)}")
    if names := [name for name in command.environment if name != LENGTH_VARIABLES[command.engine]]:
        found.append(f"environment variables ignored: {_listed(names)}")
    if command.version:
        found.append(
            f"the package or image is vLLM {command.version}; its flags are read as those of {VERSIONS['vllm']}"
        )
    return tuple(found)


def warnings_of(engine: Engine, given: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for each thing that serving would have and the simulation has not."""
    missing: dict[str, list[str]] = {}
    for flag in flags_of(engine):
        if flag.role.startswith(NOT_SIMULATED) and flag.name in given and _changes(flag, given[flag.name]):
            missing.setdefault(flag.role.removeprefix(NOT_SIMULATED), []).append(_with_detail(flag, given[flag.name]))
    values = (_value(flag, given[flag.name]) for flag in flags_of(engine) if is_beyond(flag, given))
    return tuple(
        f"not modelled: {what} ({_listed(names)}); the prediction is of a server without it"
        for what, names in missing.items()
    ) + tuple(values)


def is_beyond(flag: Flag, given: Mapping[str, Any]) -> bool:
    """Whether a simulated flag has a value that is not."""
    value = given.get(flag.name)
    return bool(flag.role == "simulated" and flag.neutral and value is not None and str(value) not in flag.neutral)


def _value(flag: Flag, value: Any) -> str:
    if flag.name == "--quantization":
        return (
            f"--quantization {_shown(value)} does not say how large a weight is; model.weight_dtype is that of the "
            "model or of --dtype"
        )
    return f"not modelled: {flag.name} {_shown(value)}; the prediction is of a server without it"


def _changes(flag: Flag, value: Any) -> bool:
    """Whether serving differs from what is simulated at that value."""
    if value is None or value == {} or value == []:
        return False
    if flag.kind.base in ("flag", "switch"):
        return bool(value) != (flag.neutral == ("true",))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value not in {float(text) for text in flag.neutral}
    if flag.name == "--limit-mm-per-prompt" and isinstance(value, dict):
        return any(value.values())
    return str(value) not in flag.neutral


def _with_detail(flag: Flag, value: Any) -> str:
    """A connector or a method by its own name."""
    found = [value[key] for key in ("kv_connector", "method") if key in value] if isinstance(value, dict) else []
    return f"{flag.name} {_shown(found[0])}" if found else flag.name


def _shown(value: Any) -> str:
    """On one line, and not for ever."""
    return " ".join(str(value).split())[:40]


def _listed(names: Iterable[str]) -> str:
    named = list(names)
    more = len(named) - MOST_NAMED
    return ", ".join(named[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
