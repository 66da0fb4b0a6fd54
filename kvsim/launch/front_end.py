"""Flags of vLLM's HTTP server, which a simulation has no use for and ``kvsim serve`` has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kvsim.errors import ConfigError
from kvsim.launch.line import LaunchLine, read_serve_words

KEY_VARIABLE = "VLLM_API_KEY"
DEFAULT_MODEL = "meta-llama/Llama-3.2-1B-Instruct"
"""What is served where nobody names a model."""
HONOURED = (
    "--host",
    "--port",
    "--api-key",
    "--served-model-name",
    "--enable-prompt-tokens-details",
    "--enable-force-include-usage",
    "--enable-request-id-headers",
    "--response-role",
    "--stream-interval",
    "--max-num-queued-reqs",
    "--max-num-queued-tokens",
    "--lora-modules",
    "--seed",
)
REFUSED = ("--uds", "--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs", "--grpc-port", "--middleware")
"""Flags without which nobody would reach the server whom it is for."""
MOST_QUEUED = 16_384
"""Requests at a time where nobody says, so that memory has an end."""


@dataclass(frozen=True)
class FrontEnd:
    """How a server is reached and what its answers say, by the names of vLLM's flags."""

    host: str
    port: int
    api_keys: tuple[str, ...]
    served_model_names: tuple[str, ...]
    """Empty: it goes by the model's own name."""
    names_model: bool
    """Whether somebody said what is served, so that requests for another model are for nobody."""
    adapters: tuple[str, ...]
    enable_prompt_tokens_details: bool
    enable_force_include_usage: bool
    enable_request_id_headers: bool
    response_role: str
    stream_interval: int
    max_num_queued_reqs: int
    max_num_queued_tokens: int | None
    seed: int | None

    def __repr__(self) -> str:
        """Without the keys."""
        return f"FrontEnd({self.host}:{self.port})"


def read_front_end(words: Sequence[str], environment: Mapping[str, str]) -> tuple[LaunchLine, FrontEnd]:
    """What ``kvsim serve`` is given, as ``vllm serve`` takes it. Raises ``ConfigError``."""
    line, given = read_serve_words(words, environment, (*HONOURED, *REFUSED), DEFAULT_MODEL)
    for name in REFUSED:
        if given.get(name):
            raise ConfigError(f"kvsim serve: {name} is not offered: it speaks plain HTTP at a host and a port")
    names = tuple(given.get("--served-model-name") or ())
    keys = tuple(key for key in given.get("--api-key") or (environment.get(KEY_VARIABLE),) if key)
    return line, FrontEnd(
        host=given.get("--host") or "127.0.0.1",
        port=_between(given, "--port", 8000, 0, 65_535),
        api_keys=keys,
        served_model_names=names,
        names_model=bool(names) or line.is_model_given,
        adapters=tuple(_adapter(text) for text in given.get("--lora-modules") or ()),
        enable_prompt_tokens_details=bool(given.get("--enable-prompt-tokens-details")),
        enable_force_include_usage=bool(given.get("--enable-force-include-usage")),
        enable_request_id_headers=bool(given.get("--enable-request-id-headers")),
        response_role=given.get("--response-role") or "assistant",
        stream_interval=_between(given, "--stream-interval", 1, 1, 2**31),
        max_num_queued_reqs=_between(given, "--max-num-queued-reqs", MOST_QUEUED, 1, 2**31),
        max_num_queued_tokens=_optional(given, "--max-num-queued-tokens"),
        seed=given.get("--seed"),
    )


def _between(given: Mapping[str, Any], name: str, usual: int, least: int, most: int) -> int:
    value = given.get(name)
    if value is None:
        return usual
    if not least <= value <= most:
        raise ConfigError(f"kvsim serve: {name} {value}: must be from {least} to {most}")
    return int(value)


def _optional(given: Mapping[str, Any], name: str) -> int | None:
    return None if given.get(name) is None else _between(given, name, 0, 1, 2**62)


def _adapter(text: str) -> str:
    """The name of ``name=path``; vLLM's JSON form has it as a key."""
    name, equals, _ = text.partition("=")
    if not equals or not name or text.startswith("{"):
        raise ConfigError(f"kvsim serve: --lora-modules {text!r:.60}: must be name=path")
    return name
