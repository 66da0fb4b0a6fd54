"""Questions to a server before anything is measured: plain GETs, whose errors are one line without secrets."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from kvsim.errors import ConfigError
from kvsim.measure.settings import Server

MOST_BYTES = 16_000_000
TIMEOUT_S = 30.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


class Ask:
    """One server that is asked."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())

    def error(self, path: str, what: str) -> ConfigError:
        """``what`` is wrong with the answer to ``path``."""
        return ConfigError(f"{self._server.shown}{path} {what}")

    def json(self, path: str) -> Any:
        """The document at ``path``. Raises ``ConfigError`` where there is none."""
        try:
            return json.loads(self._get(path))
        except urllib.error.HTTPError as error:
            raise self.error(path, f"answers {error.code}{self._hint(error.code)}") from None
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            text = self._server.masked(str(getattr(reason, "strerror", None) or reason))
            raise ConfigError(f"no server answers at {self._server.shown}: {text}") from None
        except ValueError:
            raise self.error(path, "answers what is no JSON: no OpenAI-compatible server?") from None

    def maybe(self, path: str) -> Any:
        """The document at ``path``, ``None`` where there is none."""
        text = self.maybe_text(path)
        try:
            return None if text is None else json.loads(text)
        except ValueError:
            return None

    def maybe_text(self, path: str) -> str | None:
        """What is at ``path``, ``None`` where there is nothing."""
        try:
            return self._get(path)
        except (urllib.error.URLError, OSError, ValueError):
            return None

    def _get(self, path: str) -> str:
        request = urllib.request.Request(self._server.base + path, headers=self._headers())
        with self._opener.open(request, timeout=TIMEOUT_S) as response:
            found: bytes = response.read(MOST_BYTES)
        return found.decode("utf-8", errors="replace")

    def _headers(self) -> dict[str, str]:
        opens = self._server.authorization
        return {} if opens is None else {"Authorization": opens}

    def _hint(self, code: int) -> str:
        return f": {self._server.key_hint}" if code in (401, 403) else ""
