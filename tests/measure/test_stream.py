"""Server-sent events, however they are cut on their way."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.measure.stream import Answer, BadAnswerError


def event(what: Any) -> bytes:
    return f"data: {what if isinstance(what, str) else json.dumps(what)}\n\n".encode()


def token(text: str = " a", end: str | None = None, **more: Any) -> bytes:
    found: dict[str, Any] = {"choices": [{"text": text, "finish_reason": end} | more.pop("choice", {})]}
    return event(found | more)


USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
WHOLE = token("a") + token("\u00e9") + token("c", "length") + event({"choices": [], "usage": USAGE}) + event("[DONE]")


@given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
def test_where_the_network_cuts_does_not_matter(cuts: list[int]) -> None:
    answer, ends = Answer(keeps=True), [0, *sorted(cuts), len(WHOLE)]
    for number, (begin, end) in enumerate(pairwise(ends)):
        answer.feed(WHOLE[begin:end], float(number))
    answer.end()
    assert (answer.tokens, list(answer.chunk_tokens), "".join(answer.texts)) == (3, [1, 1, 1], "a\u00e9c")
    assert answer.done and answer.finish_reason == "length" and not answer.is_spread
    assert answer.usage_count("prompt_tokens_details", "cached_tokens") == 4
    assert list(answer.chunk_s) == sorted(answer.chunk_s)


def test_tokens_of_a_chunk_by_running_usage_and_by_ids() -> None:
    counted, named = Answer(), Answer(keeps=True)
    for at, total in enumerate((2, 2, 5)):
        end = "length" if at == 2 else None
        counted.feed(token("", end, usage={"completion_tokens": total, "prompt_tokens": 1}), float(at))
        named.feed(token("", end, choice={"token_ids": [7] * (total - named.tokens)}), float(at))
    for answer in (counted, named):
        answer.end()
        assert (list(answer.chunk_s), list(answer.chunk_tokens), answer.counted) == ([0.0, 2.0], [2, 3], True)
    assert named.token_ids == [7] * 5 and counted.token_ids == []


def test_a_count_at_the_end_is_spread_over_the_chunks() -> None:
    answer = Answer()
    for at in range(3):
        answer.feed(token("ab", "stop" if at == 2 else None), float(at))
    answer.feed(event({"choices": [], "usage": {"completion_tokens": 8}}), 3.0)
    answer.end()
    assert (answer.tokens, list(answer.chunk_tokens), answer.is_spread) == (8, [3, 2, 3], True)


def test_a_chats_first_chunk_is_no_token_and_reasoning_is() -> None:
    answer = Answer()
    for delta in ({"role": "assistant", "content": ""}, {"reasoning_content": "hm"}, {"content": "yes"}):
        answer.feed(event({"choices": [{"delta": delta}]}), 1.0)
    answer.feed(event("[DONE]"), 2.0)
    answer.end()
    assert answer.tokens == 2


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "cut"),
        (token(), "cut"),
        (b'data: {"choices": [{"te', "cut"),
        (b"data: {no json}\n\n", "bad_answer"),
        (b"data: [1]\n\n", "bad_answer"),
        (b'data: {"choices": [3]}\n\n', "bad_answer"),
        (event("[DONE]"), "bad_answer"),
        (token() + event({"error": {"message": "engine died"}}), "stream_error"),
    ],
)
def test_what_is_no_answer_says_its_kind(data: bytes, kind: str) -> None:
    answer = Answer()
    with pytest.raises(BadAnswerError) as raised:
        answer.feed(data, 0.0)
        answer.end()
    assert raised.value.kind == kind
