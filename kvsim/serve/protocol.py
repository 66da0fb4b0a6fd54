"""What clients send, by OpenAI's and vLLM's names; other fields are taken and have no effect.

Source: vLLM 0.32, ``vllm/entrypoints/openai``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MOST_ID = 2**63 - 1


def _whole(text: str) -> str:
    """A text that UTF-8 can have: JSON can write half a surrogate pair, which is none."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("the text has half a surrogate pair, which no UTF-8 can have") from None
    return text


Text = Annotated[str, AfterValidator(_whole)]
TokenId = Annotated[int, Field(ge=0, le=MOST_ID)]
TokenIds = list[TokenId]
Whole = Annotated[int, Field(ge=-(2**63), le=MOST_ID)]
Count = Annotated[int, Field(ge=1, le=MOST_ID)]
Stops = Text | Annotated[list[Text], Field(max_length=64)] | None


class _Sent(BaseModel):
    model_config = ConfigDict(extra="allow")


class StreamOptions(_Sent):
    """What a stream says beside text."""

    include_usage: bool | None = True
    continuous_usage_stats: bool | None = False


class _Generation(_Sent):
    """What both kinds of requests have."""

    model: Text | None = None
    n: Count | None = 1
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    stop: Stops = None
    stop_token_ids: list[Whole] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: Annotated[int, Field(ge=0, le=MOST_ID)] = 0
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, le=MOST_ID)] | None = None
    truncation_side: Literal["left", "right"] | None = None
    priority: Whole = 0
    cache_salt: Annotated[Text, Field(min_length=1, max_length=128)] | None = None
    request_id: Annotated[Text, Field(min_length=1, max_length=200)] | None = None
    session_id: Annotated[Text, Field(max_length=200)] | None = None
    return_token_ids: bool | None = None
    use_beam_search: bool = False
    prompt_logprobs: int | None = None
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    logits_processors: list[Any] | None = None
    kv_transfer_params: dict[str, Any] | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: Whole | None = None
    user: Text | None = None


class CompletionRequest(_Generation):
    """``POST /v1/completions``."""

    prompt: Text | TokenIds | list[Text] | list[TokenIds]
    max_tokens: Annotated[int, Field(ge=0, le=MOST_ID)] | None = None
    echo: bool | None = False
    logprobs: int | None = None
    suffix: Text | None = None
    add_special_tokens: bool = True
    prompt_embeds: Any = None


class ContentPart(_Sent):
    """A part of a message's content; only text is simulated."""

    type: Text
    text: Text | None = None


class Message(_Sent):
    """One message of a conversation."""

    role: Annotated[Text, Field(min_length=1, max_length=64)]
    content: Text | list[ContentPart] | None = None
    name: Text | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: Text | None = None


class ChatRequest(_Generation):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=0, le=MOST_ID)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=0, le=MOST_ID)] | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = None
    echo: bool = False
    tools: list[dict[str, Any]] | None = None
    tool_choice: Text | dict[str, Any] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool = False


class TokenizeRequest(_Sent):
    """``POST /tokenize``: of a prompt or of a conversation."""

    model: Text | None = None
    prompt: Text | None = None
    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    add_generation_prompt: bool = True
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = False
    tools: list[dict[str, Any]] | None = None


class TokenizeResponse(BaseModel):
    """How many tokens, and which."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(_Sent):
    """``POST /detokenize``."""

    model: Text | None = None
    tokens: TokenIds


class DetokenizeResponse(BaseModel):
    """The text of tokens."""

    prompt: str


class ErrorInfo(BaseModel):
    """What is wrong with a request."""

    message: str
    type: str
    param: str | None = None
    code: int


class ErrorResponse(BaseModel):
    """Every answer that is an error, but for a wrong key."""

    error: ErrorInfo


class CachedTokens(BaseModel):
    """Of a prompt's tokens."""

    cached_tokens: int | None = None


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int
    prompt_tokens_details: CachedTokens | None = None


class CompletionChoice(BaseModel):
    """One answer."""

    index: int
    text: str
    logprobs: None = None
    finish_reason: str | None
    stop_reason: int | str | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None


class Completion(BaseModel):
    """Answer of ``POST /v1/completions``."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    system_fingerprint: str | None = None
    usage: Usage


class AnswerMessage(BaseModel):
    """What the assistant says."""

    role: str
    content: str | None
    refusal: None = None


class ChatChoice(BaseModel):
    """One answer of a conversation."""

    index: int
    message: AnswerMessage
    logprobs: None = None
    finish_reason: str | None
    stop_reason: int | str | None = None
    token_ids: list[int] | None = None


class ChatCompletion(BaseModel):
    """Answer of ``POST /v1/chat/completions``."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    system_fingerprint: str | None = None
    usage: Usage
    prompt_token_ids: list[int] | None = None


class ModelCard(BaseModel):
    """One model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    root: str
    parent: str | None = None
    max_model_len: int | None


class ModelList(BaseModel):
    """Answer of ``GET /v1/models``."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
