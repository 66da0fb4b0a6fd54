"""An answer as it streams in: server-sent events, and the tokens that each of them brings."""

from __future__ import annotations

import json
from array import array
from typing import Any

import numpy as np

_DONE = b"[DONE]"


class BadAnswerError(Exception):
    """What came is no answer. ``kind`` says which failure that is."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Answer:
    """Fed with bytes as they come, it knows what came when.

    Tokens of a chunk are counted by the server where it does so in every chunk, else by the token ids in it, else a
    chunk with text is a token until the last one says how many there were.
    """

    def __init__(self, *, keeps: bool = False) -> None:
        """``keeps``: text and token ids are wanted as well."""
        self._keeps = keeps
        self._rest = b""
        self.chunk_s, self.chunk_tokens = array("d"), array("l")
        self.token_ids: list[int] = []
        self.texts: list[str] = []
        self.has_ids = False
        self.counted = False
        """Whether the server counts tokens chunk by chunk, or names them."""
        self.is_spread = False
        """Whether tokens were spread over the chunks, as nobody knows how many each had."""
        self.usage: dict[str, Any] | None = None
        self.finish_reason: str | None = None
        self.done = False
        self._tokens = 0

    def feed(self, data: bytes, now_s: float) -> None:
        """``data`` came at ``now_s``. Raises ``BadAnswerError``."""
        if self._rest:
            data = self._rest + data
        lines = data.split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip(), now_s)

    def end(self) -> None:
        """Nothing comes any more. Raises ``BadAnswerError`` where the answer is not whole."""
        if self._rest.startswith(b"data:") and not self.done:
            rest, self._rest = self._rest, b""
            try:
                self._event(rest[5:].strip(), self.chunk_s[-1] if self.chunk_s else 0.0)
            except BadAnswerError:
                raise BadAnswerError("cut", "the stream ended within an event") from None
        if not self.done and self.finish_reason is None:
            raise BadAnswerError("cut", f"the stream ended after {self.tokens} tokens, before the answer did")
        total = self._total()
        if total is not None and total != self._tokens and self.chunk_s:
            self._spread(total)
        if not self.tokens:
            raise BadAnswerError("bad_answer", "an answer without tokens")

    @property
    def tokens(self) -> int:
        return self._tokens

    def usage_count(self, *names: str) -> int | None:
        """A count of ``usage``, by its path."""
        value: Any = self.usage
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

    def _total(self) -> int | None:
        return self.usage_count("completion_tokens")

    def _event(self, data: bytes, now_s: float) -> None:
        if data == _DONE:
            self.done = True
            return
        try:
            found = json.loads(data)
        except ValueError:
            raise BadAnswerError("bad_answer", f"an event that is no JSON: {_text(data)}") from None
        if not isinstance(found, dict):
            raise BadAnswerError("bad_answer", f"an event that is no object: {_text(data)}")
        if found.get("error"):
            raise BadAnswerError("stream_error", _words(found["error"]))
        usage = found.get("usage")
        if isinstance(usage, dict):
            self.usage = usage
        choices = found.get("choices")
        if choices:
            self._choice(choices[0], usage is not None, now_s)

    def _choice(self, choice: Any, has_usage: bool, now_s: float) -> None:
        if not isinstance(choice, dict):
            raise BadAnswerError("bad_answer", "a choice that is no object")
        text = choice.get("text")
        if text is None:
            text = _delta(choice.get("delta") or choice.get("message"))
        ids = choice.get("token_ids")
        total = self._total() if has_usage else None
        if total is not None:
            count, self.counted = total - self._tokens, True
        elif ids is not None:
            count, self.counted = len(ids), True
        else:
            count = 1 if text else 0
        if count > 0:
            self.chunk_s.append(now_s)
            self.chunk_tokens.append(count)
            self._tokens += count
        if self._keeps:
            if ids is not None:
                self.has_ids = True
                self.token_ids += ids
            if text:
                self.texts.append(text)
        reason = choice.get("finish_reason")
        if reason is not None:
            self.finish_reason = str(reason)

    def _spread(self, total: int) -> None:
        """The server's count over the chunks, each as many as another."""
        ends = np.rint(np.linspace(0, total, len(self.chunk_s) + 1)).astype(np.int64)
        self.chunk_tokens = array("l", np.diff(ends).tolist())
        self._tokens, self.is_spread = total, True


def _delta(delta: Any) -> str:
    if not isinstance(delta, dict):
        return ""
    for name in ("content", "reasoning_content", "reasoning"):
        if delta.get(name):
            return str(delta[name])
    return "x" if delta.get("tool_calls") else ""


def _text(data: bytes) -> str:
    """Whole: it is cut only after secrets were looked for."""
    return data.decode(errors="replace")


def _words(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)
