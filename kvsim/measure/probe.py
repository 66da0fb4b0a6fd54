"""What a server is and which keys of a request it takes, asked before anything is measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from kvsim.errors import ConfigError, nearest
from kvsim.measure.connection import FAILURES, Connection, Refused
from kvsim.measure.failure import shortened
from kvsim.measure.prompt_tokens import Tokens
from kvsim.measure.prompts import Part
from kvsim.measure.settings import Sending, Server
from kvsim.measure.stream import Answer
from kvsim.measure.texts import Texts
from kvsim.measure.wire import Abilities, Wire
from kvsim.workload.request import Request

ENGINES = ("vllm", "sglang", "kvsim")
"""Servers that say who they are, and go on after the end of a text where ``ignore_eos`` asks them to."""
_ANSWER_TOKENS = 2
_DROPPED = ("token_ids", "running_usage", "min_tokens", "plain_text", "ignore_eos", "usage")
"""What is left out, one after the other, where a server refuses a request."""
_BAD_REQUEST = (400, 404, 415, 422)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A server as it answered."""

    model: str
    engine: str | None
    version: str | None
    max_model_len: int | None
    abilities: Abilities
    names_tokens: bool
    """Whether it says which tokens an answer has."""
    template_tokens: tuple[int, int]
    """Tokens that a chat's template adds: to one question, and with each answer and question more."""
    notes: tuple[str, ...]

    def facts(self) -> dict[str, object]:
        """What the server said of itself."""
        facts = {"engine": self.engine, "version": self.version, "max_model_len": self.max_model_len}
        return {name: value for name, value in facts.items() if value is not None}


@dataclass(frozen=True)
class Probe:
    """Asks one server."""

    connection: Connection
    server: Server
    sending: Sending
    texts: Texts | None
    sample: Tokens
    """Tokens of the prompt."""

    async def find(self) -> Found:
        """Ask for models and version, and send a request of a few tokens.

        Raises ``ConfigError`` where the server cannot be measured.
        """
        model, engine, length = await self._model()
        version, is_own = await self._version()
        if engine is None and version is not None:
            engine = "vllm"
        known = Abilities(min_tokens=engine not in ENGINES, sessions=is_own)
        answer, abilities = await self._first(model, known)
        is_chat, counts = self.sending.endpoint == "chat", answer.usage is not None
        return Found(
            model=model,
            engine=engine,
            version=version,
            max_model_len=length,
            abilities=abilities,
            names_tokens=answer.has_ids,
            template_tokens=await self._template(model, abilities, answer) if is_chat and counts else (0, 0),
            notes=tuple(_notes(answer, abilities, is_chat=is_chat)),
        )

    async def _model(self) -> tuple[str, str | None, int | None]:
        """The model, who serves it, and the most tokens that it takes."""
        asked = self.sending.model
        try:
            found = json.loads(await self.connection.text("/v1/models"))
            entries = [each for each in found["data"] if isinstance(each, dict) and isinstance(each.get("id"), str)]
        except Refused as refusal:
            if refusal.status in (404, 405) and asked is not None:
                return asked, None, None
            raise self._unusable("/v1/models", f"answers {refusal.status}: {self._hint(refusal)}") from None
        except FAILURES as error:
            if isinstance(error, ValueError):
                raise self._unusable("/v1/models", "answers no list of models: OpenAI-compatible?") from None
            kind, text = self.connection.failure(error)
            raise ConfigError(f"no server answers at {self.server.shown}: {kind.replace('_', ' ')} ({text})") from None
        except (KeyError, TypeError):
            raise self._unusable("/v1/models", "answers no list of models: OpenAI-compatible?") from None
        if not entries:
            raise self._unusable("/v1/models", "names no model")
        names = [each["id"] for each in entries]
        if asked is not None and asked not in names:
            raise ConfigError(f"--model {asked!r}: {self.server.shown} does not serve it; {nearest(asked, names)}")
        entry: dict[str, Any] = entries[0] if asked is None else entries[names.index(asked)]
        owner, length = entry.get("owned_by"), entry.get("max_model_len")
        return entry["id"], owner if owner in ENGINES else None, length if isinstance(length, int) else None

    async def _version(self) -> tuple[str | None, bool]:
        """The version as vLLM says it, and whether the server is kvsim's own."""
        try:
            said = json.loads(await self.connection.text("/version"))
            found = said["version"]
        except (*FAILURES, KeyError, TypeError):
            return None, False
        return found if isinstance(found, str) else None, "kvsim" in said

    async def _first(self, model: str, abilities: Abilities) -> tuple[Answer, Abilities]:
        """The answer to a first request, with as many keys as the server takes."""
        refusal: Refused | None = None
        for dropped in (None, *_DROPPED):
            abilities = abilities if dropped is None else abilities.without(dropped)
            try:
                return await self._asked(model, abilities, [Part(self.sample, False)]), abilities
            except Refused as error:
                refusal = refusal or error
                if error.status not in _BAD_REQUEST:
                    break
            except FAILURES as error:
                kind, text = self.connection.failure(error)
                what = f"failed a first request: {kind.replace('_', ' ')} ({text})"
                raise self._unusable(self._path, what) from None
        assert refusal is not None
        raise self._unusable(self._path, f"answers {refusal.status} to a first request: {self._hint(refusal)}")

    async def _asked(self, model: str, abilities: Abilities, parts: list[Part]) -> Answer:
        wire = Wire(self.sending, model, abilities, self.texts)
        tokens = sum(len(part.ids) for part in parts)
        request = Request(-1, 0.0, tokens, _ANSWER_TOKENS, -1, ((-1, tokens),), -1)
        answer = Answer(keeps=True)
        await self.connection.stream(wire.path, wire.body(request, parts, wants_ids=True), answer, lambda: 0.0)
        return answer

    async def _template(self, model: str, abilities: Abilities, first: Answer) -> tuple[int, int]:
        sample, third = self.sample, len(self.sample) // 3
        parts = [Part(sample[:third], False), Part(sample[third : 2 * third], True), Part(sample[2 * third :], False)]
        try:
            second = await self._asked(model, abilities, parts)
        except FAILURES:
            second = first
        one, two = (max(0, (each.usage_count("prompt_tokens") or 0) - len(sample)) for each in (first, second))
        return one, max(0, two - one)

    @property
    def _path(self) -> str:
        return Wire(self.sending, "", Abilities()).path

    def _hint(self, refusal: Refused) -> str:
        text = shortened(self.server.masked(str(refusal)))
        if refusal.status not in (401, 403):
            return text
        return f"{text} ({self.server.key_hint})"

    def _unusable(self, path: str, what: str) -> ConfigError:
        return ConfigError(f"{self.server.shown}{path} {what}")


def _notes(answer: Answer, abilities: Abilities, *, is_chat: bool) -> list[str]:
    """What the server does not say or take."""
    found = []
    if answer.usage is None:
        found.append("the server counts no tokens (usage): a chunk with text is taken for a token")
        if is_chat:
            found.append("what the chat's template adds to prompts is not known")
    elif not answer.counted:
        found.append("the server counts tokens at the end alone: chunks of an answer have as many as each other")
    if not abilities.ignore_eos and not abilities.min_tokens:
        found.append("the server takes neither ignore_eos nor min_tokens: answers may end before their length")
    return found
