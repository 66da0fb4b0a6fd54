"""Which server is measured, and how requests are sent to it."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, quote, unquote, urlsplit

from kvsim.errors import ConfigError

API_KEYS = ("KVSIM_API_KEY", "OPENAI_API_KEY")
"""Environment variables that a key is looked for in, in this order."""
MASK = "***"


@dataclass(frozen=True, repr=False)
class Server:
    """Where a server listens and what opens it. Neither its text nor anything that is written holds a secret."""

    base: str
    """``http://host:port/path``, without credentials and without ``/v1``."""
    user: str | None = None
    password: str | None = None
    api_key: str | None = None

    def __repr__(self) -> str:
        return f"Server({self.shown!r})"

    @property
    def shown(self) -> str:
        """The URL as it may be written anywhere."""
        if self.user is None:
            return self.base
        scheme, _, rest = self.base.partition("://")
        return f"{scheme}://{MASK}@{rest}"

    @property
    def authorization(self) -> str | None:
        """What the header of that name says; credentials of the URL come before a key."""
        if self.user is not None:
            return f"Basic {self._basic}"
        return None if self.api_key is None else f"Bearer {self.api_key}"

    @property
    def _basic(self) -> str:
        return b64encode(f"{self.user}:{self.password or ''}".encode()).decode()

    @property
    def key_hint(self) -> str:
        """What to do where it refuses who asks."""
        known = self.authorization is not None
        return "the key is a wrong one" if known else "set KVSIM_API_KEY, or name its variable by --api-key-env"

    def masked(self, text: str) -> str:
        """``text`` without the secrets that it may repeat, as they are or as JSON and URLs spell them."""
        secrets = [each for each in (self.api_key, self.password) if each]
        if self.user is not None:
            secrets.append(self._basic)
        spelled = {way for each in secrets for way in (each, json.dumps(each)[1:-1], quote(each, safe=""))}
        for secret in sorted(spelled, key=len, reverse=True):
            text = text.replace(secret, MASK)
        return text


def server_of(url: str, api_key_env: str | None = None) -> Server:
    """The server at ``url``, with the key that the environment has for it.

    Raises ``ConfigError``, which repeats neither credentials nor keys.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise ConfigError(
            f"the URL's host or port cannot be read ({_plain(error)}); allowed: http://HOST:PORT"
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        shown = url if "@" not in url and "?" not in url else f"of {len(url)} characters"
        raise ConfigError(f"the URL {shown!r} is none; allowed: http://HOST:PORT or https://HOST[:PORT]/PATH")
    if parts.query or parts.fragment:
        raise ConfigError("the URL has a query or a fragment; allowed: http://HOST:PORT/PATH, keys by --api-key-env")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    base = f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{path}"
    user, password = _credentials(parts)
    return Server(base, user, password, _api_key(api_key_env))


def _credentials(parts: SplitResult) -> tuple[str | None, str | None]:
    if parts.username is None and parts.password is None:
        return None, None
    return unquote(parts.username or ""), unquote(parts.password or "")


def _plain(error: ValueError) -> str:
    text = str(error)
    return "not a port from 0 to 65535" if "ort" in text else "not an address"


def _api_key(name: str | None) -> str | None:
    if name is not None and name not in os.environ:
        raise ConfigError(f"--api-key-env {name}: there is no such environment variable")
    for each in (name,) if name is not None else API_KEYS:
        key = os.environ.get(each, "").strip()
        if key:
            if not key.isascii() or not key.isprintable() or " " in key:
                raise ConfigError(f"the key in {each} has characters that no HTTP header may have")
            return key
    return None


@dataclass(frozen=True, kw_only=True)
class Sending:
    """How requests are sent."""

    endpoint: Literal["completions", "chat"] = "completions"
    model: str | None = None
    """``None``: the first that the server names."""
    tokenizer: Path | None = None
    """A ``tokenizer.json``: prompts are text; ``None``: they are token ids."""
    vocabulary: tuple[int, int] = (1000, 30000)
    """Token ids of prompts are from the first to below the second: special ones stand outside in most vocabularies."""
    content_seed: int = 0
    """Prompts of other seeds share nothing, so that a server's cache knows none of an earlier run."""
    timeout_s: float = 600.0
    """From sending a request to its last token."""
    connect_timeout_s: float = 10.0
    stop_after_s: float | None = None
    """The run is ended then, and marked; what is not answered is given up. ``None``: until all has ended."""
    metrics_interval_s: float | None = 1.0
    """Between readings of ``/metrics``; ``None``: before and after alone."""
    extra_body: Mapping[str, object] = field(default_factory=dict)
    """Further keys of every request."""
