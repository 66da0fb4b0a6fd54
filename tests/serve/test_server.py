"""Every route of a real server, asked by a real client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_server import MODEL, SMALL, Live, serving

RECORDED = {"hehe": "hahaha!", "naïve ☃": 'ünï\n\n\tcode 😀 \\"quoted\\" ', "mute": ""}


@pytest.fixture(scope="module")
def responses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("responses") / "r.jsonl"
    lines = (json.dumps({"prompt": prompt, "response": response}) for prompt, response in RECORDED.items())
    path.write_text("\n".join(lines) + "\n\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def live(responses: Path) -> Iterator[Live]:
    with serving(MODEL, *SMALL, "--enable-prompt-tokens-details", responses=responses) as found:
        yield found


@pytest.mark.parametrize("prompt", RECORDED)
def test_recorded_responses_byte_for_byte(live: Live, prompt: str) -> None:
    whole = live.complete(prompt, max_tokens=64)["choices"][0]
    assert whole["text"].encode() == RECORDED[prompt].encode()
    assert whole["finish_reason"] == "stop"
    chunks = live.chunks("/v1/completions", {"prompt": prompt, "max_tokens": 64})
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks).encode() == RECORDED[prompt].encode()
    message = {"role": "user", "content": [{"type": "text", "text": prompt}]}
    said = live.client.post("/v1/chat/completions", json={"messages": [message]}).json()
    assert said["choices"][0]["message"]["content"] == RECORDED[prompt]
    assert said["choices"][0]["message"]["role"] == "assistant"


def test_a_response_that_is_cut_short_ends_by_length(live: Live) -> None:
    cut = live.complete("naïve ☃", max_tokens=1)["choices"][0]
    assert cut["finish_reason"] == "length"
    assert RECORDED["naïve ☃"].startswith(cut["text"])


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "tell me", "max_tokens": 9},
        {"prompt": [1, 2, 3], "max_tokens": 4, "return_token_ids": True},
        {"prompt": ["one", "two"], "n": 2, "max_tokens": 3},
        {"prompt": [[5, 6], [7]], "max_tokens": 2},
        {"prompt": "tell me", "max_tokens": 20, "stop": [" t"]},
    ],
)
def test_a_stream_says_what_a_whole_answer_says(live: Live, body: dict[str, Any]) -> None:
    whole = live.complete(**body)
    chunks = live.chunks("/v1/completions", body | {"stream_options": {"include_usage": True}})
    *parts, last = chunks
    assert last["choices"] == [] and all("usage" not in part for part in parts)
    for choice in whole["choices"]:
        own = [part["choices"][0] for part in parts if part["choices"][0]["index"] == choice["index"]]
        assert "".join(one["text"] for one in own) == choice["text"]
        assert [one["finish_reason"] for one in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1]["finish_reason"] == choice["finish_reason"]
        assert own[-1]["stop_reason"] == choice["stop_reason"]
        if body.get("return_token_ids"):
            assert [token for one in own for token in one["token_ids"]] == choice["token_ids"]
            assert own[0]["prompt_token_ids"] == body["prompt"]
    tokens = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [last["usage"][name] for name in tokens] == [whole["usage"][name] for name in tokens]
    assert len(parts) == whole["usage"]["completion_tokens"]  # one chunk a token
    assert {part["id"] for part in chunks} == {chunks[0]["id"]} and chunks[0]["id"].startswith("cmpl-")


def test_a_conversation_is_streamed_with_its_role_first(live: Live) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    chunks = live.chunks("/v1/chat/completions", body | {"stream_options": {"include_usage": True}})
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    whole = live.client.post("/v1/chat/completions", json=body).json()
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks[:-1])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["completion_tokens"] == 5
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}


def test_usage_so_far_in_every_chunk(live: Live) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"prompt": [1, 2, 3], "max_tokens": 4, "stream_options": options}
    chunks = live.chunks("/v1/completions", body)
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [1, 2, 3, 4, 4]
    assert {chunk["usage"]["prompt_tokens"] for chunk in chunks} == {3}


def test_defaults_of_length(live: Live) -> None:
    assert live.complete("say")["usage"]["completion_tokens"] == 16
    full = live.client.post(
        "/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}], "ignore_eos": True}
    ).json()
    assert full["usage"]["total_tokens"] == 512
    assert full["choices"][0]["finish_reason"] == "length"


def test_what_it_says_of_itself(live: Live) -> None:
    card = live.client.get("/v1/models").json()["data"][0]
    assert (card["id"], card["root"], card["max_model_len"]) == (MODEL, MODEL, 512)
    assert live.client.get("/health").status_code == live.client.get("/ping").status_code == 200
    assert live.client.get("/version").json()["version"] == "0.32.0"
    info = live.client.get("/server_info", params={"config_format": "json"}).json()
    config = info["vllm_config"]
    assert config["cache_config"]["num_gpu_blocks"] == 129
    assert config["cache_config"]["block_size"] == 16
    assert config["cache_config"]["enable_prefix_caching"] is True
    assert config["scheduler_config"]["max_num_seqs"] == 8
    assert config["scheduler_config"]["max_num_batched_tokens"] > 0
    assert config["model_config"]["dtype"] == "torch.bfloat16"
    assert config["model_config"]["model"] == MODEL
    assert "max_num_seqs=8" in live.client.get("/server_info").json()["vllm_config"]
    assert live.client.get("/health").headers["server"].startswith("kvsim/")


def test_tokens_and_back(live: Live) -> None:
    found = live.client.post("/tokenize", json={"prompt": "hello there", "return_token_strs": True}).json()
    assert (found["count"], found["token_strs"], found["max_model_len"]) == (2, ["hello", " there"], 512)
    back = live.client.post("/detokenize", json={"tokens": found["tokens"]}).json()
    assert back == {"prompt": "hello there"}
    messages = [{"role": "user", "content": "hello there"}]
    said = live.client.post("/tokenize", json={"messages": messages}).json()
    usage = live.client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 1}).json()["usage"]
    assert said["count"] == usage["prompt_tokens"]


JSON = {"content-type": "application/json"}
WRONG: list[tuple[int, bytes, str]] = [
    (422, b'{"prompt": "x"', "is not JSON"),
    (422, b"[]", "JSON object"),
    (422, b"\xff\xfe", "JSON"),
    (422, b"{}", "prompt: Field required"),
    (422, b'{"prompt": [1, -1]}', "prompt:"),
    (422, b'{"prompt": "\\ud800"}', "prompt:"),
    (422, b'{"prompt": "x", "n": 0}', "n: Input should be greater than or equal to 1"),
    (422, b'{"prompt": "x", "max_tokens": "many"}', "max_tokens: Input should be a valid integer"),
    (400, b'{"prompt": ""}', "prompt: must not be empty"),
    (400, b'{"prompt": []}', "prompt: must not be empty"),
    (400, b'{"prompt": ["a", ""]}', "prompt: must not be empty"),
    (400, b'{"prompt": "x", "max_tokens": 0}', "max_tokens: must be at least 1"),
    (400, b'{"prompt": "x", "max_tokens": 512}', "maximum context length is 512 tokens"),
    (400, b'{"prompt": "x", "min_tokens": 5, "max_tokens": 4}', "min_tokens: 5 is above max_tokens, 4"),
    (400, b'{"prompt": "x", "echo": true}', "echo: not simulated"),
    (400, b'{"prompt": "x", "logprobs": 0}', "logprobs: not simulated"),
    (400, b'{"prompt": "x", "suffix": "y"}', "suffix: not simulated"),
    (400, b'{"prompt": "x", "use_beam_search": true}', "use_beam_search: not simulated"),
    (400, b'{"prompt": "x", "response_format": {"type": "json_object"}}', "response_format other than text"),
    (400, b'{"prompt": "x", "stream_options": {}}', "stream_options: only with stream = true"),
    (400, b'{"prompt": "x", "priority": 3}', "does not schedule by priority"),
    (400, b'{"prompt": "x", "stop": [""]}', "stop: must not have an empty string"),
    (400, b'{"prompt": "x", "cache_salt": "a/b"}', "cache_salt: must be without"),
    (400, b'{"prompt": "x", "n": 1000000000}', "tokens of prompts and answers in one request"),
    (404, b'{"prompt": "x", "model": "gpt-5"}', "The model `gpt-5` does not exist; served: " + MODEL),
]


@pytest.mark.parametrize(("status", "body", "message"), WRONG)
def test_a_wrong_request_is_told_so(live: Live, status: int, body: bytes, message: str) -> None:
    response = live.client.post("/v1/completions", content=body, headers=JSON)
    error = response.json()["error"]
    assert response.status_code == error["code"] == status, response.text
    assert message in error["message"]
    assert "Traceback" not in response.text


def test_a_wrong_conversation_is_told_so(live: Live) -> None:
    user = {"role": "user", "content": "x"}
    for status, body, message in (
        (422, {"messages": []}, "messages"),
        (400, {"messages": [user], "logprobs": True}, "logprobs: not simulated"),
        (400, {"messages": [user], "tool_choice": "required"}, "tool_choice other than none and auto"),
        (
            400,
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}]},
            "content of type 'image_url'",
        ),
        (400, {"messages": [{"role": "user", "content": "word " * 600}]}, "maximum context length"),
        (400, {"messages": [{"role": "user", "content": "x" * 100_000}]}, "characters"),
    ):
        response = live.client.post("/v1/chat/completions", json=body)
        assert response.status_code == status, response.text
        assert message in response.json()["error"]["message"]


def test_other_paths_methods_and_types(live: Live) -> None:
    assert live.client.get("/nowhere").status_code == 404
    assert live.client.get("/v1/completions").status_code == 405
    response = live.client.post("/v1/completions", content=b'{"prompt": "x"}', headers={"content-type": "text/plain"})
    assert response.status_code == 422


def test_a_body_is_bounded(live: Live) -> None:
    large = json.dumps({"prompt": "x" * 1_000_001}).encode()
    response = live.client.post("/v1/completions", content=large, headers=JSON)
    assert response.status_code == 413
    assert "at most 1,000,000 bytes" in response.json()["error"]["message"]

    def pieces() -> Iterator[bytes]:
        for place in range(0, len(large), 65_536):
            yield large[place : place + 65_536]

    response = live.client.post("/v1/completions", content=pieces(), headers=JSON)
    assert response.status_code == 413


def test_any_model_is_answered_where_none_is_named() -> None:
    with serving(*SMALL) as live:
        assert live.complete("x", model="anything", max_tokens=1)["model"] == MODEL


def test_names_of_its_own_and_of_adapters() -> None:
    words = ("--served-model-name", "little", "small", "--enable-lora", "--lora-modules", "tuned=/nowhere")
    with serving(MODEL, *SMALL, *words) as live:
        assert live.complete("x", model="small", max_tokens=1)["model"] == "little"
        assert live.client.post("/v1/completions", json={"prompt": "x", "model": MODEL}).status_code == 404
        prompt = list(range(32))
        first = live.complete(prompt, model="tuned", max_tokens=1)
        assert first["model"] == "tuned"
        live.complete(prompt, model="little", max_tokens=1)
        assert live.metrics()["vllm:prefix_cache_hits_total"] == 0  # an adapter's blocks are its own
        live.complete(prompt, model="tuned", max_tokens=1)
        assert live.metrics()["vllm:prefix_cache_hits_total"] == 16
        cards = live.client.get("/v1/models").json()["data"]
        assert [(card["id"], card["parent"]) for card in cards][1:] == [("small", None), ("tuned", "little")]
