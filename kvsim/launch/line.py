"""A server's line, or its file of arguments, as a model and vLLM's engine arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from kvsim.errors import ConfigError
from kvsim.launch.command import ServerCommand, server_command
from kvsim.launch.flags import Engine, flags_of
from kvsim.launch.parser import COMMANDS, parse, words_of
from kvsim.launch.refused import LENGTH_VARIABLES, refusals_of, takes_any_length
from kvsim.launch.remarks import is_beyond, notes_of, warnings_of
from kvsim.launch.sglang import from_sglang
from kvsim.launch.speculative import warnings_of_speculation

MOST_FILE_BYTES = 1_000_000


@dataclass(frozen=True)
class LaunchLine:
    """What a line says of the server that it starts."""

    engine: Engine
    model: str
    arguments: dict[str, object]
    """What is simulated, by vLLM's names of engine arguments; only those that are given. ``kvsim.launch.sglang`` has
    the names of those of SGLang's that vLLM has none for.
    """
    notes: tuple[str, ...]
    """Sentences on what was understood and changes nothing here."""
    warnings: tuple[str, ...]
    """Sentences on what changes serving and is not simulated."""
    version: str = ""
    """vLLM's, where the line names one (an image's tag, a package's version)."""
    refusals: tuple[str, ...] = ()
    """Sentences on what its parser takes, and with which it does not start."""
    takes_any_length: bool = False
    """Whether ``max_model_len`` may be above the model's own: the environment says so, or the model's config is
    changed."""
    is_model_given: bool = True
    """Whether the line itself says which model."""


def read_launch_line(text: str) -> LaunchLine:
    """``vllm serve``, its older forms, or SGLang's server, as it stands in a terminal, a script or a web page.

    Raises ``ConfigError``, one line: no server or several, an unknown flag with the nearest, a value of the wrong kind.
    """
    return _line(server_command(text))


def read_engine_args(path: Path) -> LaunchLine:
    """A file for ``--config``: YAML or JSON, arguments by name, with dashes or underscores.

    Raises ``ConfigError``, also where the file cannot be read.
    """
    values = _mapping(path)
    engine: Engine = "sglang" if {"model-path", "model_path"} & values.keys() else "vllm"
    if "model_tag" in values:
        values = {"model": values["model_tag"]} | {key: value for key, value in values.items() if key != "model_tag"}
    return _line(ServerCommand(engine, tuple(words_of(values.items(), engine)), "", {}), str(path))


def read_serve_words(
    words: Sequence[str], environment: Mapping[str, str], honoured: Sequence[str], model: str
) -> tuple[LaunchLine, dict[str, Any]]:
    """What stands behind ``vllm serve``, and values of the flags ``honoured`` by name, of which the line then says
    nothing. ``model`` where none is given; ``environment`` is that of the process. Raises ``ConfigError``.
    """
    known = {name: environment[name] for name in LENGTH_VARIABLES.values() if name in environment}
    command = ServerCommand("vllm", tuple(words), "", known)
    given, rest = parse("vllm", _with_file(command))
    own = {name: given.pop(name) for name in honoured if name in given}
    named = rest or given.get("--model")
    if named:
        return _described(command, given, _model(command, given, rest)), own
    return replace(_described(command, given, model), is_model_given=False), own


def _line(command: ServerCommand, where: str = "") -> LaunchLine:
    try:
        given, rest = parse(command.engine, _with_file(command))
        model = _model(command, given, rest)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") if where else error from None
    return _described(command, given, model)


def _described(command: ServerCommand, given: Mapping[str, Any], model: str) -> LaunchLine:
    arguments = {
        flag.argument: given[flag.name]
        for flag in flags_of(command.engine)
        if flag.name in given and flag.role == "simulated" and not is_beyond(flag, given)
    }
    arguments.pop("model" if command.engine == "vllm" else "model_path", None)
    if given.get("--kv-offloading-backend") == "lmcache":  # its server keeps what it keeps, whatever the size says
        arguments.pop("kv_offloading_size", None)
    sizes = arguments.pop("cuda_graph_sizes", ())  # vLLM 0.9 to 0.11: all sizes, or the largest alone
    if sizes:
        arguments |= {"cudagraph_capture_sizes": sizes} if len(sizes) > 1 else {"max_cudagraph_capture_size": sizes[0]}
    warnings = warnings_of(command.engine, given)
    if command.engine == "vllm":
        warnings += warnings_of_speculation(arguments)
    if command.engine == "sglang":
        arguments, differing = from_sglang(arguments)
        warnings += differing
    return LaunchLine(
        command.engine,
        model,
        arguments,
        notes_of(command, given),
        warnings,
        command.version,
        refusals_of(command.engine, given),
        takes_any_length(command, given),
    )


def _with_file(command: ServerCommand) -> Sequence[str]:
    """The words of a ``--config`` file before all others but the model, so that these win."""
    words = list(command.words)
    place = next((place for place, word in enumerate(words) if word.partition("=")[0] == "--config"), None)
    if place is None:
        return words
    _, equals, name = words.pop(place).partition("=")
    if not equals:
        if place == len(words):
            raise ConfigError(f"{COMMANDS[command.engine]}: --config: expected a file")
        name = words.pop(place)
    head = [words.pop(0)] if words and not words[0].startswith("-") else []
    return [*head, *words_of(_mapping(Path(name)).items(), command.engine), *words]


def _model(command: ServerCommand, given: Mapping[str, Any], rest: Sequence[str]) -> str:
    """The model that stands alone, else the one behind its flag."""
    name, called = ("--model-path" if command.engine == "sglang" else "--model"), COMMANDS[command.engine]
    if len(rest) > 1:
        raise ConfigError(f"{called}: {rest[1]!r:.60} belongs to no flag; the model is {rest[0]!r:.60}")
    model = rest[0] if rest else given.get(name)
    if not model:
        raise ConfigError(f"{called}: no model: {name} MODEL must be given")
    if rest and given.get(name, model) != model and any(word.partition("=")[0] == name for word in command.words):
        raise ConfigError(f"{called}: two models, {model!r:.60} and {given[name]!r:.60}: give one")
    if model.startswith("$"):
        raise ConfigError(f"{called}: the model is {model!r:.60}, which has no value in this text: write it out")
    return str(model)


def _mapping(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_FILE_BYTES:
            raise ConfigError(f"{path}: more than {MOST_FILE_BYTES:,} bytes: must be a file of a server's arguments")
        values = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise ConfigError(f"{path}: is not YAML: must have a server's arguments, `name: value` a line") from None
    except ValueError:
        raise ConfigError(f"{str(path)!r}: cannot be the name of a file") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must have a server's arguments, `name: value` a line")
    return values
