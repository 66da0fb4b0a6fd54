"""The bytes of answers: whole ones, and the chunks of streams, as vLLM writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kvsim.serve.reply import Reply, Stream

text_as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
OWNER = "vllm"
"""Clients ask this to learn which fields beyond OpenAI's a server knows."""
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of an answer is written, and how."""

    is_chat: bool
    reply_id: str
    created: int
    model: str
    fingerprint: str
    role: str = "assistant"
    has_usage: bool = False
    """Whether a stream ends with its usage; ``has_running_usage``: every chunk has it so far."""
    has_running_usage: bool = False
    has_details: bool = False
    """Whether usage says how many prompt tokens were cached."""
    has_ids: bool = False
    every: int = 1
    """Tokens of a chunk, at least."""


def event(values: Any) -> bytes:
    """One event of a stream."""
    return f"data: {text_as_json(values)}\n\n".encode()


def whole(reply: Reply, wanted: Wanted) -> bytes:
    """The body of an answer that is not streamed."""
    choices = [_choice(reply, index, stream, wanted) for index, stream in enumerate(reply.streams)]
    generated = sum(len(stream.answer.tokens) for stream in reply.streams)
    found: dict[str, Any] = {
        "id": wanted.reply_id,
        "object": "chat.completion" if wanted.is_chat else "text_completion",
        "created": wanted.created,
        "model": wanted.model,
        "choices": choices,
        "service_tier": None,
        "system_fingerprint": wanted.fingerprint,
        "usage": usage(reply, generated, wanted, reply.last_over),
    }
    if wanted.is_chat:
        found |= {"prompt_logprobs": None, "prompt_token_ids": reply.prompts[0] if wanted.has_ids else None}
    return text_as_json(found | {"kv_transfer_params": None}).encode()


def usage(reply: Reply, generated: int, wanted: Wanted, of: Stream | None) -> dict[str, Any]:
    """Tokens of a request; ``of`` is whose cached tokens are told."""
    prompt = sum(map(len, reply.prompts))
    found: dict[str, Any] = {
        "prompt_tokens": prompt,
        "total_tokens": prompt + generated,
        "completion_tokens": generated,
        "prompt_tokens_details": None,
    }
    if wanted.has_details and of is not None and of.facts is not None:
        found["prompt_tokens_details"] = {"cached_tokens": of.facts.cached_tokens}
    return found


def _choice(reply: Reply, index: int, stream: Stream, wanted: Wanted) -> dict[str, Any]:
    answer = stream.answer
    ids = list(answer.tokens) if wanted.has_ids else None
    ends = {"logprobs": None, "finish_reason": answer.finish_reason, "stop_reason": answer.stop_reason}
    if wanted.is_chat:
        message = {"role": wanted.role, "content": answer.text, "refusal": None, "reasoning": None}
        return {"index": index, "message": message} | ends | {"token_ids": ids}
    prompt_ids = list(reply.prompts[stream.prompt]) if wanted.has_ids else None
    return {"index": index, "text": answer.text} | ends | {"token_ids": ids, "prompt_token_ids": prompt_ids}


class Chunks:
    """Writes a stream, chunk by chunk, of what has come since it was last asked."""

    def __init__(self, reply: Reply, wanted: Wanted) -> None:
        self._reply, self._wanted = reply, wanted
        kind = "chat.completion.chunk" if wanted.is_chat else "text_completion"
        fields = {"id": wanted.reply_id, "object": kind, "created": wanted.created, "model": wanted.model}
        self._head = f"data: {text_as_json(fields)[:-1]},"
        self._sent = [0] * len(reply.streams)
        """Tokens of each answer that have been written."""
        self._held = [0] * len(reply.streams)
        """Tokens that wait for others to be written with."""
        self._first: Stream | None = None
        self._ended = 0

    @property
    def is_over(self) -> bool:
        """Whether the last chunk of every answer has been written."""
        return self._ended == len(self._reply.streams)

    def take(self, most: int) -> bytes:
        """Chunks of the steps that nobody has taken yet, about ``most`` of them; empty: there is nothing new."""
        parts: list[str] = []
        for index, stream in enumerate(self._reply.streams):
            steps = stream.steps
            while steps and len(parts) < most:
                self._held[index] += steps.popleft()
                is_last = self._sent[index] + self._held[index] >= len(stream.answer.tokens)
                if is_last or not self._sent[index] or self._held[index] >= self._wanted.every:
                    parts.extend(self._chunk(index, stream, is_last))
        return "".join(parts).encode() if parts else b""

    def end(self) -> bytes:
        """What follows the last chunk."""
        if not self._wanted.has_usage:
            return DONE
        own = usage(self._reply, sum(self._sent), self._wanted, self._first)
        fields = {key: value for key, value in own.items() if value is not None}
        fingerprint = f',"system_fingerprint":{text_as_json(self._wanted.fingerprint)}'
        return f'{self._head}"choices":[],"usage":{text_as_json(fields)}{fingerprint}}}\n\n'.encode() + DONE

    def _chunk(self, index: int, stream: Stream, is_last: bool) -> Iterator[str]:
        wanted, answer = self._wanted, stream.answer
        begin = self._sent[index]
        end = self._sent[index] = begin + self._held[index]
        self._held[index] = 0
        if self._first is None:
            self._first = stream
        pieces = answer.pieces[begin:end]
        text = text_as_json(pieces[0] if len(pieces) == 1 else "".join(pieces))
        ids = text_as_json(answer.tokens[begin:end]) if wanted.has_ids else "null"
        finish = f'"{answer.finish_reason}"' if is_last else "null"
        stop = text_as_json(answer.stop_reason) if is_last else "null"
        self._ended += is_last
        tail = self._tail(stream, end, is_last)
        if wanted.is_chat:
            if not begin:
                yield self._role(index, stream)
            reason = f',"stop_reason":{stop}' if is_last else ""
            yield (
                f'{self._head}"choices":[{{"index":{index},"delta":{{"content":{text}}},"logprobs":null,'
                f'"finish_reason":{finish}{reason},"token_ids":{ids}}}]{tail}'
            )
            return
        prompt_ids = text_as_json(list(self._reply.prompts[stream.prompt])) if wanted.has_ids and not begin else "null"
        yield (
            f'{self._head}"choices":[{{"index":{index},"text":{text},"logprobs":null,"finish_reason":{finish},'
            f'"stop_reason":{stop},"prompt_token_ids":{prompt_ids},"token_ids":{ids}}}]{tail}'
        )

    def _role(self, index: int, stream: Stream) -> str:
        wanted = self._wanted
        ids = text_as_json(list(self._reply.prompts[stream.prompt])) if wanted.has_ids else "null"
        return (
            f'{self._head}"choices":[{{"index":{index},"delta":{{"role":{text_as_json(wanted.role)},"content":""}},'
            f'"logprobs":null,"finish_reason":null}}],"prompt_token_ids":{ids}{self._tail(stream, 0, False)}'
        )

    def _tail(self, stream: Stream, generated: int, is_last: bool) -> str:
        """What ends a chunk: usage so far where it is wanted, and who answered in the last one."""
        wanted = self._wanted
        more = ""
        if wanted.has_running_usage:
            prompt = len(self._reply.prompts[stream.prompt])
            total = prompt + generated
            more = f',"usage":{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{generated}}}'
        if is_last and not wanted.has_usage:
            more += f',"system_fingerprint":{text_as_json(wanted.fingerprint)}'
        return f"{more}}}\n\n"


def models(
    names: Sequence[str], root: str, max_model_len: int, adapters: Sequence[str], created: int
) -> dict[str, Any]:
    """What is served, and under which names."""
    cards: list[dict[str, Any]] = [
        {"id": name, "object": "model", "created": created, "owned_by": OWNER, "root": root, "parent": None,
         "max_model_len": max_model_len, "permission": []}
        for name in names
    ] + [
        {"id": name, "object": "model", "created": created, "owned_by": OWNER, "root": name, "parent": names[0],
         "max_model_len": None, "permission": []}
        for name in adapters
    ]  # fmt: skip
    return {"object": "list", "data": cards}
