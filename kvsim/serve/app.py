"""The routes, by the paths of vLLM's OpenAI-compatible server."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from kvsim._version import __version__
from kvsim.serve import protocol, wording
from kvsim.serve.asking import Question, Served, content_of, conversation, encoded, of_chat, of_completion
from kvsim.serve.engine import SimulatedEngine
from kvsim.serve.errors import BadRequest, install
from kvsim.serve.guards import BodyGuard, KeyGuard
from kvsim.serve.received import received_s
from kvsim.serve.streaming import Answering

ERRORS: dict[int | str, dict[str, Any]] = {
    int(status): {"model": protocol.ErrorResponse}
    for status in (
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    )
}
STREAMS: dict[str, Any] = {"text/event-stream": {}}


@dataclass(frozen=True, slots=True)
class Said:
    """What a server says, and to whom."""

    served: Served
    root: str
    """The model that is simulated, by its own name."""
    vllm_version: str
    vllm_config: dict[str, Any]
    kvsim_facts: dict[str, Any]
    api_keys: tuple[str, ...]
    has_details: bool
    forces_usage: bool
    has_request_ids: bool
    role: str
    stream_interval: int
    most_body_bytes: int

    def __repr__(self) -> str:
        """Without the keys."""
        return f"Said({self.root})"


def make_app(engine: SimulatedEngine, said: Said) -> FastAPI:
    """The application; simulated time begins as it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        engine.pump.stop()

    app = FastAPI(title="kvsim serve", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(BodyGuard, most_bytes=said.most_body_bytes)
    if said.api_keys:
        app.add_middleware(KeyGuard, keys=said.api_keys)
    install(app)
    _add_answers(app, engine, said)
    _add_facts(app, engine, said)
    _add_tokens(app, engine, said)
    return app


def _add_answers(app: FastAPI, engine: SimulatedEngine, said: Said) -> None:
    @app.post(
        "/v1/completions",
        response_model=None,
        responses={**ERRORS, 200: {"model": protocol.Completion, "content": STREAMS}},
    )
    async def completions(request: protocol.CompletionRequest, raw: Request) -> Response:
        """Text behind a prompt."""
        return _answering(request, raw, await of_completion(request, said.served, engine.tokens), engine, said)

    @app.post(
        "/v1/chat/completions",
        response_model=None,
        responses={**ERRORS, 200: {"model": protocol.ChatCompletion, "content": STREAMS}},
    )
    async def chat(request: protocol.ChatRequest, raw: Request) -> Response:
        """The next message of a conversation."""
        return _answering(request, raw, await of_chat(request, said.served, engine.tokens), engine, said)


def _answering(
    request: protocol.CompletionRequest | protocol.ChatRequest,
    raw: Request,
    question: Question,
    engine: SimulatedEngine,
    said: Said,
) -> Response:
    reply = engine.submit(
        question.prompts,
        question.texts,
        question.asked,
        question.choices,
        question.sending,
        received_s(raw.scope),
    )
    options, streams = request.stream_options, bool(request.stream)
    is_chat = isinstance(request, protocol.ChatRequest)
    has_usage = said.forces_usage or (options is not None and bool(options.include_usage))
    number = raw.headers.get("x-request-id") or request.request_id or uuid.uuid4().hex
    adapter = question.sending.adapter
    wanted = wording.Wanted(
        is_chat=is_chat,
        reply_id=f"{'chatcmpl' if is_chat else 'cmpl'}-{number}",
        created=int(time.time()),
        model=said.served.adapters[adapter - 1] if adapter else said.served.names[0],
        fingerprint=f"kvsim-{__version__}",
        role=said.role,
        has_usage=has_usage,
        has_running_usage=said.forces_usage or (has_usage and bool(options and options.continuous_usage_stats)),
        has_details=said.has_details,
        has_ids=bool(request.return_token_ids),
        every=said.stream_interval,
    )
    headers = {"X-Request-Id": number} if said.has_request_ids else {}
    return Answering(reply, wanted, headers, streams=streams)


def _add_facts(app: FastAPI, engine: SimulatedEngine, said: Said) -> None:
    started = int(time.time())

    @app.get("/v1/models", response_model=protocol.ModelList)
    async def models() -> JSONResponse:
        """What is served."""
        served = said.served
        return JSONResponse(wording.models(served.names, said.root, served.max_model_len, served.adapters, started))

    @app.get("/health", response_class=Response)
    async def health() -> Response:
        """Whether it serves."""
        return Response()

    @app.get("/ping", response_class=Response)
    async def ping() -> Response:
        """Whether it serves."""
        return Response()

    @app.get("/version")
    async def version() -> dict[str, str]:
        """The version of vLLM whose rules are simulated, and kvsim's own."""
        return {"version": said.vllm_version, "kvsim": __version__}

    @app.get("/load")
    async def load() -> dict[str, int]:
        """Requests in flight."""
        return {"server_load": engine.pump.in_flight}

    @app.get("/server_info")
    async def server_info(config_format: Annotated[Literal["text", "json"], Query()] = "text") -> dict[str, Any]:
        """The engine's arguments, as vLLM's development mode has them, and what is simulated."""
        config = said.vllm_config
        text = ", ".join(f"{name}={value}" for part in config.values() for name, value in part.items())
        return {
            "vllm_config": config if config_format == "json" else text,
            "vllm_env": {},
            "system_env": {},
            "kvsim": said.kvsim_facts,
        }

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus text."""
        return Response(await engine.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.post("/reset_prefix_cache", responses=ERRORS)
    async def reset_prefix_cache(reset_running_requests: bool = False, reset_external: bool = False) -> dict[str, bool]:
        """Forget all prefixes that no request holds."""
        for name, value in (("reset_running_requests", reset_running_requests), ("reset_external", reset_external)):
            if value:
                raise BadRequest(f"{name}: not simulated", name)
        return {"success": engine.reset_prefix_cache()}


def _add_tokens(app: FastAPI, engine: SimulatedEngine, said: Said) -> None:
    tokens, served = engine.tokens, said.served

    @app.post("/tokenize", responses=ERRORS)
    async def tokenize(request: protocol.TokenizeRequest) -> protocol.TokenizeResponse:
        """The tokens of a text or a conversation."""
        served.adapter(request.model)
        if (request.prompt is None) == (request.messages is None):
            raise BadRequest("either prompt or messages must be given", "prompt")
        if request.messages is not None:
            for message in request.messages:
                content_of(message)
            text, special = conversation(request.messages, request.tools, request.add_generation_prompt), False
        else:
            text, special = request.prompt or "", True
        if request.add_special_tokens is not None:
            special = request.add_special_tokens
        found = await encoded(text, tokens, served, special=special) if text else []
        texts = [tokens.decode([token]) for token in found] if request.return_token_strs else None
        return protocol.TokenizeResponse(
            count=len(found), max_model_len=served.max_model_len, tokens=found, token_strs=texts
        )

    @app.post("/detokenize", responses=ERRORS)
    async def detokenize(request: protocol.DetokenizeRequest) -> protocol.DetokenizeResponse:
        """The text of tokens."""
        served.adapter(request.model)
        return protocol.DetokenizeResponse(prompt=tokens.decode(request.tokens))
