"""What is sent for a request: the body of a completion or of a chat."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kvsim.measure.prompt_tokens import Tokens
from kvsim.measure.prompts import Part
from kvsim.measure.settings import Sending
from kvsim.measure.texts import Texts
from kvsim.workload.request import Request

PATHS = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """Keys of a request that a server takes, beyond those that all take."""

    ignore_eos: bool = True
    min_tokens: bool = True
    token_ids: bool = True
    """``return_token_ids``: which tokens an answer has."""
    usage: bool = True
    """``stream_options.include_usage``: counts behind the answer."""
    running_usage: bool = True
    """``stream_options.continuous_usage_stats``: counts in every chunk."""
    plain_text: bool = True
    """``add_special_tokens: false``: the text's tokens and no others."""

    def without(self, *names: str) -> Abilities:
        """The abilities of a server that does not take these."""
        return replace(self, **dict.fromkeys(names, False))


@dataclass
class Wire:
    """Makes bodies of prompts."""

    sending: Sending
    model: str
    abilities: Abilities
    texts: Texts | None = None
    template_tokens: tuple[int, int] = (0, 0)
    """Tokens that a chat's template adds to the first question, and for each further one."""
    inexact: int = field(default=0, init=False)
    """Prompts whose text a tokenizer does not read back as the tokens it was made of."""
    _head: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        known, options = self.abilities, {}
        if known.usage:
            options["include_usage"] = True
            if known.running_usage:
                options["continuous_usage_stats"] = True
        self._head = {"model": self.model, "stream": True, "temperature": 0.0}
        if options:
            self._head["stream_options"] = options
        if known.ignore_eos:
            self._head["ignore_eos"] = True
        if self.texts is not None and known.plain_text and self.sending.endpoint == "completions":
            self._head["add_special_tokens"] = False

    @property
    def path(self) -> str:
        return PATHS[self.sending.endpoint]

    def body(self, request: Request, parts: Sequence[Part], *, wants_ids: bool) -> bytes:
        """``wants_ids``: a later prompt has the answer in it."""
        found = dict(self._head)
        found["max_tokens"] = request.output_tokens
        if self.abilities.min_tokens:
            found["min_tokens"] = request.output_tokens
        if wants_ids and self.abilities.token_ids:
            found["return_token_ids"] = True
        if request.priority:
            found["priority"] = request.priority
        found |= self._prompt(parts)
        found |= self.sending.extra_body
        return json.dumps(found, separators=(",", ":")).encode()

    def _prompt(self, parts: Sequence[Part]) -> Mapping[str, object]:
        if self.sending.endpoint == "chat":
            return {"messages": self._messages(parts)}
        ids = np.concatenate([part.ids for part in parts])
        if self.texts is None:
            return {"prompt": ids.tolist()}
        if not self.abilities.plain_text and self.texts.special_tokens:
            ids = ids[: max(1, len(ids) - self.texts.special_tokens)]
        return {"prompt": self._text(ids)}

    def _messages(self, parts: Sequence[Part]) -> list[dict[str, str]]:
        """Questions and answers in turn. What the template adds is taken from the end of each question."""
        found: list[dict[str, str]] = []
        for part in parts:
            ids, role = part.ids, "assistant" if part.is_answer else "user"
            if role == "user":
                ids = ids[: max(1, len(ids) - self.template_tokens[bool(found)])]
            found.append({"role": role, "content": self._text(ids)})
        if found[-1]["role"] == "assistant":
            found.append({"role": "user", "content": self._text(self._one_word())})
        return found

    def _one_word(self) -> Tokens:
        assert self.texts is not None
        return self.texts.alphabet[:1]

    def _text(self, ids: Tokens) -> str:
        assert self.texts is not None
        text = self.texts.text_of(ids)
        self.inexact += not self.texts.is_exact(text, ids)
        return text
