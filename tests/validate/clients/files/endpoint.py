"""A server that speaks as vLLM does: the first token after 20 ms, each further one after 2 ms, words for tokens.

``python endpoint.py PORT SECONDS``; wants aiohttp. It is gone after so many seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from aiohttp import web

TTFT_S, ITL_S = 0.02, 0.002


async def answer(request: web.Request) -> web.StreamResponse:
    """Completions and chats, streamed or not."""
    body = await request.json()
    is_chat, count = "messages" in body, int(body.get("max_tokens") or body.get("max_completion_tokens") or 16)
    prompt = json.dumps(body["messages"]) if is_chat else body["prompt"]
    tokens = len(prompt.split()) if isinstance(prompt, str) else len(prompt)
    usage = {"prompt_tokens": tokens, "completion_tokens": count, "total_tokens": tokens + count}

    def chunk(number: int, text: str, key: str) -> dict[str, object]:
        words: object = {"role": "assistant", "content": text} if is_chat else text
        choice = {"index": 0, "finish_reason": "length" if number == count - 1 else None, key: words}
        return {"id": "x", "object": "chat.completion.chunk" if is_chat else "text_completion", "choices": [choice]}

    if not body.get("stream"):
        await asyncio.sleep(TTFT_S + ITL_S * count)
        text = " ".join(f"w{number}" for number in range(count))
        return web.json_response(chunk(count - 1, text, "message" if is_chat else "text") | {"usage": usage})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number in range(count):
        await asyncio.sleep(ITL_S if number else TTFT_S)
        text = json.dumps(chunk(number, f"w{number} ", "delta" if is_chat else "text"))
        await response.write(f"data: {text}\n\n".encode())
    if (body.get("stream_options") or {}).get("include_usage"):
        await response.write(f"data: {json.dumps({'id': 'x', 'choices': [], 'usage': usage})}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return response


async def models(_: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "tiny", "object": "model", "max_model_len": 8192}]})


async def leave(_: web.Application) -> None:
    asyncio.get_running_loop().call_later(float(sys.argv[2]), os._exit, 0)


if __name__ == "__main__":
    app = web.Application()
    app.router.add_post("/v1/completions", answer)
    app.router.add_post("/v1/chat/completions", answer)
    app.router.add_get("/v1/models", models)
    app.router.add_route("*", "/{any:.*}", models)
    app.on_startup.append(leave)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]))
