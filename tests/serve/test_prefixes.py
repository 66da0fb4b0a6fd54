"""Hits, as usage and metrics tell them, against arithmetic."""

from __future__ import annotations

import random

import pytest
from live_server import MODEL, SMALL, Live, serving

BLOCK = 16


def cached(live: Live, prompt: list[int], **more: object) -> int:
    details = live.complete(prompt, **({"max_tokens": 1} | more))["usage"]["prompt_tokens_details"]
    return int(details["cached_tokens"])


def whole_blocks(tokens: int) -> int:
    """What of so many tokens, all computed before, is found: whole blocks, and never a prompt's last token."""
    return max(tokens - 1, 0) // BLOCK * BLOCK


def test_hits_of_prompts_that_share_a_head() -> None:
    with serving(MODEL, *SMALL, "--enable-prompt-tokens-details") as live:
        drawn = random.Random(3)
        seen: list[list[int]] = []
        expected_hits = queried = 0
        for number in range(12):
            head = [1] * drawn.randint(0, 60)
            prompt = head + [100 + number] * drawn.randint(1, 30)
            shared = max((common(prompt, other) for other in seen), default=0)
            expected = min(shared // BLOCK * BLOCK, whole_blocks(len(prompt)))
            assert cached(live, prompt) == expected
            seen.append(prompt)
            expected_hits, queried = expected_hits + expected, queried + len(prompt)
        metrics = live.metrics()
        assert metrics["vllm:prefix_cache_hits_total"] == expected_hits
        assert metrics["vllm:prefix_cache_queries_total"] == queried
        assert metrics["vllm:prompt_tokens_total"] == queried


def common(one: list[int], other: list[int]) -> int:
    """Tokens that both begin with."""
    shortest = min(len(one), len(other))
    return next((place for place in range(shortest) if one[place] != other[place]), shortest)


def test_a_conversation_hits_the_answers_that_it_repeats() -> None:
    """The KV of an answer but its last token is there when the next turn repeats it."""
    with serving(MODEL, *SMALL, "--enable-prompt-tokens-details") as live:
        prompt = list(range(1, 41))
        for _ in range(3):
            found = live.complete(prompt, max_tokens=20, return_token_ids=True)
            answer = found["choices"][0]["token_ids"]
            prompt = prompt + answer + [7] * 10
            known = len(prompt) - 10 - 1
            again = live.complete(prompt, max_tokens=1)["usage"]["prompt_tokens_details"]["cached_tokens"]
            assert again == min(known // BLOCK * BLOCK, whole_blocks(len(prompt)))


def test_a_conversation_in_text_hits_what_was_said() -> None:
    with serving(MODEL, *SMALL, "--enable-prompt-tokens-details") as live:
        messages = [{"role": "user", "content": "tell me of the old days and of what we did then " * 5}]
        first = live.client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 50}).json()
        messages.append({"role": "assistant", "content": first["choices"][0]["message"]["content"]})
        messages.append({"role": "user", "content": "and then?"})
        second = live.client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 1}).json()
        known = first["usage"]["total_tokens"] - 1
        assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == known // BLOCK * BLOCK


def test_a_salt_is_a_cache_of_its_own_and_a_reset_forgets() -> None:
    with serving(MODEL, *SMALL, "--enable-prompt-tokens-details") as live:
        prompt = list(range(64))
        assert cached(live, prompt) == 0
        assert cached(live, prompt, cache_salt="a") == 0
        assert cached(live, prompt, cache_salt="a") == cached(live, prompt) == 48
        assert live.client.post("/reset_prefix_cache").json() == {"success": True}
        assert cached(live, prompt) == 0
        response = live.client.post("/reset_prefix_cache", params={"reset_external": "true"})
        assert response.status_code == 400


def test_without_prefix_caching_nothing_is_hit() -> None:
    with serving(MODEL, *SMALL, "--no-enable-prefix-caching", "--enable-prompt-tokens-details") as live:
        assert [cached(live, list(range(64))) for _ in range(2)] == [0, 0]


def test_usage_has_no_details_unless_asked_for() -> None:
    with serving(MODEL, *SMALL) as live:
        assert live.complete([1] * 40, max_tokens=1)["usage"]["prompt_tokens_details"] is None


def test_least_recently_used_blocks_go_first() -> None:
    """128 blocks: five prompts of 31 blocks do not fit, and the first is the one that went."""
    with serving(MODEL, *SMALL, "--enable-prompt-tokens-details") as live:
        prompts = [[number] * (31 * BLOCK) for number in range(5)]
        assert [cached(live, prompt) for prompt in prompts] == [0] * 5
        assert cached(live, prompts[4]) == whole_blocks(31 * BLOCK)
        assert cached(live, prompts[0]) < BLOCK * 31 - BLOCK


@pytest.mark.parametrize("separated", [False, True])
def test_several_instances(separated: bool) -> None:
    with serving(MODEL, *SMALL, "--enable-prompt-tokens-details", instances=2, separated=separated) as live:
        prompt = list(range(100))
        answers = [live.complete(prompt, max_tokens=12) for _ in range(3)]
        assert len({answer["choices"][0]["text"] for answer in answers}) == 1
        assert answers[2]["usage"]["prompt_tokens_details"]["cached_tokens"] == 96
        metrics = live.metrics()
        assert metrics["vllm:request_success_total/length"] == 3
        assert metrics["vllm:generation_tokens_total"] == 36
        assert metrics["kvsim:instance_info"] == 2
        facts = live.client.get("/server_info").json()["kvsim"]
        assert facts["instances"] == ({"prefill": 1, "decode": 1} if separated else {"unified": 2})
        live.settle()
        assert live.metrics()["vllm:kv_cache_usage_perc"] == 0


def test_a_tier_has_what_the_gpu_has_forgotten() -> None:
    with serving(MODEL, *SMALL, "--enable-prompt-tokens-details", "--kv-offloading-size", "4") as live:
        prompts = [[number] * (31 * BLOCK) for number in range(6)]
        for prompt in prompts:
            assert cached(live, prompt) == 0
        assert cached(live, prompts[0]) >= 30 * BLOCK
        metrics = live.metrics()
        assert metrics["vllm:external_prefix_cache_hits_total"] > 0
