"""Which of a text's commands starts a server, through whatever wrapper: docker, uv, nohup, a module of Python's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kvsim.errors import ConfigError
from kvsim.launch.flags import Engine
from kvsim.launch.shell import ASSIGNMENT, Command, commands_of

FORMS = (
    "vllm serve MODEL, python -m vllm.entrypoints.openai.api_server, docker run IMAGE, python -m sglang.launch_server"
)
_MODULES: dict[str, Engine] = {
    "vllm.entrypoints.openai.api_server": "vllm",
    "vllm.entrypoints.api_server": "vllm",
    "sglang.launch_server": "sglang",
    "sglang.srt.server": "sglang",
}
_COMMANDS: dict[tuple[str, str], Engine] = {
    ("vllm", "serve"): "vllm",
    ("vllm.entrypoints.cli.main", "serve"): "vllm",
    ("sglang", "serve"): "sglang",
    ("sglang", "launch_server"): "sglang",
}
_VERSION = re.compile(r"(?:^|/)vllm[\w.-]*(?:==|@|:)v?(\d+\.\d+(?:\.\d+)?)")
_IMAGE = re.compile(r"(?:^|/)[\w.-]*vllm[\w.-]*(?:[:@]|$)")
_CONTAINERS = ("docker", "podman", "nerdctl")
_WITHOUT_VALUE = re.compile(
    r"-[ditPq]+$|--(rm|init|privileged|detach|interactive|tty|read-only|publish-all|quiet|no-healthcheck|sig-proxy"
    r"|oom-kill-disable|no-hosts|disable-content-trust)$|--.*=|-[pvewumhlac].+$"
)


@dataclass(frozen=True)
class ServerCommand:
    """A server and what stands behind its name."""

    engine: Engine
    words: tuple[str, ...]
    version: str
    """vLLM's, where an image or a package says so; else empty."""
    environment: Mapping[str, str]
    """Variables that are set for it."""


def server_command(text: str) -> ServerCommand:
    """The one server that ``text`` starts. Raises ``ConfigError`` where there is none, or more than one."""
    found = _servers(commands_of(text)) or _servers(commands_of(text, has_comments=False))
    if not found:
        raise ConfigError(f"{_shown(text)} starts no server: must be like {FORMS}")
    if len(found) > 1:
        names = "; ".join(_shown(" ".join(server.words)) for server in found)
        raise ConfigError(f"{len(found)} servers ({names}): give one at a time")
    return found[0]


def _shown(text: str) -> str:
    plain = " ".join(text.split())
    return repr(plain if len(plain) <= 60 else plain[:57] + "...")


def _servers(commands: Sequence[Command]) -> list[ServerCommand]:
    found, exported = [], dict[str, str]()
    for command in commands:
        server = _server(command.words, exported)
        if server is not None:
            unused = {name: value for name, value in server.environment.items() if name not in command.used}
            found.append(replace(server, environment=unused))
        else:
            exported |= _assigned(command.words)
    return found


def _server(words: Sequence[str], exported: Mapping[str, str]) -> ServerCommand | None:
    for place, word in enumerate(words):
        before, after = words[:place], words[place + 1 :]
        name = word.lstrip("!%").rpartition("/")[2]
        if name in _CONTAINERS and "run" in after:
            return _container(words, after[after.index("run") + 1 :], exported)
        started = _started(name, after, before)
        if started is not None:
            engine, arguments = started
            return ServerCommand(engine, tuple(arguments), _version(words), {**exported, **_assigned(before)})
        if re.fullmatch("-[il]*c", word) and after and ("vllm" in after[0] or "sglang" in after[0]):
            inner = _servers(commands_of(after[0]))
            if len(inner) == 1:
                only = inner[0]
                variables = {**exported, **_assigned(before), **only.environment}
                return ServerCommand(only.engine, only.words, _version(words) or only.version, variables)
    return None


def _started(name: str, after: Sequence[str], before: Sequence[str]) -> tuple[Engine, Sequence[str]] | None:
    """``name`` with what follows it, if that is a server."""
    pair = (re.sub("@.*", "", name), after[0] if after else "")
    if pair in _COMMANDS:
        return _COMMANDS[pair], after[1:]
    if name in _MODULES and before and before[-1] == "-m":
        return _MODULES[name], after
    if name == "api_server.py":
        return "vllm", after
    return ("sglang", after) if name == "launch_server.py" else None


def _container(words: Sequence[str], rest: Sequence[str], exported: Mapping[str, str]) -> ServerCommand | None:
    """``docker run`` with its own flags, an image, and what is run in it."""
    variables, entrypoint, place = dict(exported), list[str](), 0
    while place < len(rest) and rest[place].startswith("-"):
        flag, _, value = rest[place].partition("=")
        takes_next = not _WITHOUT_VALUE.match(rest[place])
        value = rest[place + 1] if takes_next and place + 1 < len(rest) else value
        if flag in ("-e", "--env"):
            name, _, inner = value.partition("=")
            variables[name] = inner
        elif flag == "--entrypoint":
            entrypoint = value.split()
        place += 1 + takes_next
    if place >= len(rest):
        return None
    image, inside = rest[place], [*entrypoint, *rest[place + 1 :]]
    version = _version([image])
    server = _server(inside, variables)
    if server is not None:
        return ServerCommand(server.engine, server.words, server.version or version, server.environment)
    if not _IMAGE.search(image):
        return None
    return ServerCommand("vllm", tuple(inside[1:] if inside[:1] == ["serve"] else inside), version, variables)


def _version(words: Sequence[str]) -> str:
    found = next(filter(None, map(_VERSION.search, words)), None)
    return found[1] if found else ""


def _assigned(words: Sequence[str]) -> dict[str, str]:
    parts = (word.partition("=") for word in words if ASSIGNMENT.match(word))
    return {name: value for name, _, value in parts}
