"""From what a client sent to what is asked of the engine; what is not simulated is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from kvsim.serve.answers import Asked
from kvsim.serve.engine import Sending
from kvsim.serve.errors import BadRequest
from kvsim.serve.protocol import ChatRequest, CompletionRequest, Message
from kvsim.serve.tokens import Tokens

USUAL_MAX_TOKENS = 16
"""Of a completion that says nothing, as OpenAI has it."""
MOST_PROMPTS = 1024
MOST_TOKENS = 8_000_000
"""Prompt and answer tokens of one HTTP request, over all its prompts and choices."""
LONG_TEXT = 65_536
"""Characters from which on tokens are counted beside the event loop."""
MOST_CHARACTERS_A_TOKEN = 64
_SALT_EXCLUDES = "@/\\\x00"


@dataclass(frozen=True, slots=True)
class Served:
    """Under which names what is served, and what of a request that limits."""

    names: tuple[str, ...]
    checks_name: bool
    adapters: tuple[str, ...]
    max_model_len: int
    by_priority: bool
    """Whether priorities have a meaning."""

    def adapter(self, model: str | None) -> int:
        """The adapter that a request is for, from 1; 0: none. Raises ``BadRequest`` for a model that is not served."""
        if model in self.adapters:
            return self.adapters.index(model) + 1
        if model and self.checks_name and model not in self.names:
            served = ", ".join((*self.names, *self.adapters))
            raise BadRequest(
                f"The model `{model:.200}` does not exist; served: {served}", "model", HTTPStatus.NOT_FOUND
            )
        return 0


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the engine."""

    prompts: list[list[int]]
    texts: list[tuple[str, ...]]
    """Under which the answer to each prompt may be recorded."""
    asked: list[Asked]
    choices: int
    sending: Sending


async def of_completion(request: CompletionRequest, served: Served, tokens: Tokens) -> Question:
    """Raises ``BadRequest``."""
    adapter = served.adapter(request.model)
    _check(request, served)
    for name, value in (("echo", request.echo), ("suffix", request.suffix), ("prompt_embeds", request.prompt_embeds)):
        if value:
            raise _not_simulated(name)
    if request.logprobs is not None:
        raise _not_simulated("logprobs")
    given = request.prompt
    if not given:
        raise BadRequest("prompt: must not be empty", "prompt")
    several = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    if len(several) > MOST_PROMPTS:
        raise BadRequest(f"prompt: {len(several):,} prompts; at most {MOST_PROMPTS:,} at a time", "prompt")
    prompts: list[list[int]] = []
    texts: list[tuple[str, ...]] = []
    for one in several:
        if not one:
            raise BadRequest("prompt: must not be empty", "prompt")
        if isinstance(one, str):
            prompts.append(await encoded(one, tokens, served, special=request.add_special_tokens))
            texts.append((one,))
        else:
            prompts.append(list(one))
            texts.append(())
    most = USUAL_MAX_TOKENS if request.max_tokens is None else request.max_tokens
    return _question(request, served, prompts, texts, most, adapter)


async def of_chat(request: ChatRequest, served: Served, tokens: Tokens) -> Question:
    """Raises ``BadRequest``."""
    adapter = served.adapter(request.model)
    _check(request, served)
    for name in ("logprobs", "top_logprobs", "echo"):
        if getattr(request, name):
            raise _not_simulated(name)
    if request.tool_choice not in (None, "none", "auto"):
        raise _not_simulated("tool_choice other than none and auto")
    text = conversation(request.messages, request.tools, request.add_generation_prompt)
    prompt = await encoded(text, tokens, served, special=request.add_special_tokens)
    most = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    texts = (text, content_of(request.messages[-1]))
    return _question(request, served, [prompt], [texts], most, adapter)


def conversation(messages: Sequence[Message], tools: Sequence[object] | None, has_turn: bool) -> str:
    """Messages as one text: each behind a line with its role, and a last such line for the answer."""
    parts = [f"<|tools|>\n{json.dumps(tools, ensure_ascii=False)}\n"] if tools else []
    for message in messages:
        calls = f"\n{json.dumps(message.tool_calls, ensure_ascii=False)}" if message.tool_calls else ""
        parts.append(f"<|{message.role}|>\n{content_of(message)}{calls}\n")
    return "".join(parts) + ("<|assistant|>\n" if has_turn else "")


def content_of(message: Message) -> str:
    """The text of a message. Raises ``BadRequest`` where it has something else."""
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    for part in message.content:
        if part.type != "text" or part.text is None:
            raise _not_simulated(f"content of type {part.type[:40]!r}")
    return "\n".join(part.text or "" for part in message.content)


async def encoded(text: str, tokens: Tokens, served: Served, *, special: bool) -> list[int]:
    """The tokens of a text, counted beside the event loop where it is long. Raises ``BadRequest`` where it is longer
    than any prompt may be."""
    if len(text) > MOST_CHARACTERS_A_TOKEN * served.max_model_len:
        raise BadRequest(
            f"the prompt has {len(text):,} characters; the model takes {served.max_model_len:,} tokens", "prompt"
        )
    try:
        if len(text) > LONG_TEXT:
            found = await asyncio.to_thread(tokens.encode, text, special=special)
        else:
            found = tokens.encode(text, special=special)
    except UnicodeEncodeError:
        raise BadRequest("the prompt has half a surrogate pair, which no UTF-8 can have", "prompt") from None
    if not found:
        raise BadRequest("the prompt has no tokens", "prompt")
    return found


def _check(request: CompletionRequest | ChatRequest, served: Served) -> None:
    """Raise ``BadRequest`` for what both kinds of requests cannot ask."""
    for name in ("use_beam_search", "structured_outputs", "logits_processors", "kv_transfer_params"):
        if getattr(request, name):
            raise _not_simulated(name)
    if request.prompt_logprobs is not None:
        raise _not_simulated("prompt_logprobs")
    if request.response_format is not None and request.response_format.get("type") != "text":
        raise _not_simulated("response_format other than text")
    if request.stream_options is not None and not request.stream:
        raise BadRequest("stream_options: only with stream = true", "stream_options")
    if request.priority and not served.by_priority:
        raise BadRequest(
            "priority: the server does not schedule by priority (--scheduling-policy priority)", "priority"
        )
    if request.cache_salt is not None and any(char in request.cache_salt for char in _SALT_EXCLUDES):
        raise BadRequest(r"cache_salt: must be without '@', '/', '\' and NUL", "cache_salt")


def _question(
    request: CompletionRequest | ChatRequest,
    served: Served,
    prompts: list[list[int]],
    texts: list[tuple[str, ...]],
    most: int | None,
    adapter: int,
) -> Question:
    """Raises ``BadRequest`` where the model's length does not allow it."""
    if most == 0:
        raise BadRequest("max_tokens: must be at least 1", "max_tokens")
    cut = [_truncated(prompt, request) for prompt in prompts]
    asked = [_asked(request, served, len(prompt), most) for prompt in cut]
    choices = request.n or 1
    total = choices * sum(len(prompt) + one.max_tokens for prompt, one in zip(cut, asked, strict=True))
    if total > MOST_TOKENS:
        raise BadRequest(f"{total:,} tokens of prompts and answers in one request; at most {MOST_TOKENS:,}", "n")
    sending = Sending(adapter, request.priority, request.cache_salt, request.session_id)
    return Question(cut, texts, asked, choices, sending)


def _truncated(prompt: list[int], request: CompletionRequest | ChatRequest) -> list[int]:
    most = request.truncate_prompt_tokens
    if most is None or most < 0 or len(prompt) <= most:
        return prompt
    if most == 0:
        raise BadRequest("truncate_prompt_tokens: leaves nothing of the prompt", "truncate_prompt_tokens")
    return prompt[:most] if request.truncation_side == "right" else prompt[-most:]


def _asked(request: CompletionRequest | ChatRequest, served: Served, prompt: int, most: int | None) -> Asked:
    longest, answer = served.max_model_len, most or 0
    if prompt + max(answer, 1) > longest:
        raise BadRequest(
            f"This model's maximum context length is {longest} tokens. However, you requested {answer} output tokens "
            f"and your prompt contains {prompt} input tokens, for a total of {prompt + answer} tokens.",
            "max_tokens" if prompt < longest else "prompt",
        )
    limit = longest - prompt if most is None else most
    if request.min_tokens > limit:
        raise BadRequest(f"min_tokens: {request.min_tokens} is above max_tokens, {limit}", "min_tokens")
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    if "" in stop:
        raise BadRequest("stop: must not have an empty string", "stop")
    return Asked(
        max_tokens=limit,
        is_limited=most is not None,
        min_tokens=request.min_tokens,
        ignore_eos=request.ignore_eos,
        stop=stop,
        stop_token_ids=frozenset(request.stop_token_ids or ()),
        keeps_stop=request.include_stop_str_in_output,
    )


def _not_simulated(name: str) -> BadRequest:
    return BadRequest(f"{name}: not simulated", name.split()[0])
