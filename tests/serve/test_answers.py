"""What is answered: recorded text as it is, filler of the asked length, and where both end."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.serve.answers import MEDIAN_TOKENS, Answer, Answers, Asked
from kvsim.serve.tokens import END, PlainTokens
from kvsim.workload.plain_tokens import tokens_of

LAUGH = "ha ha ha!"
"""Three words, three tokens."""
answers = Answers(PlainTokens(), {"hehe": LAUGH, "mute": ""})


def answer(text: str, *, choice: int = 0, **asked: object) -> Answer:
    fields: dict[str, object] = {"max_tokens": 64, "is_limited": True} | asked
    return answers.answer(tokens_of(text), [text], choice, Asked(**fields))  # type: ignore[arg-type]


def test_a_recorded_response_ends_with_a_token_of_its_own() -> None:
    found = answer("hehe")
    assert (found.text, found.finish_reason, found.stop_reason) == (LAUGH, "stop", None)
    assert found.tokens == (*tokens_of(LAUGH), END)


@pytest.mark.parametrize(("most", "text"), [(1, "ha"), (2, "ha ha"), (3, LAUGH)])
def test_a_limit_cuts_it(most: int, text: str) -> None:
    found = answer("hehe", max_tokens=most)
    assert (found.text, found.finish_reason, len(found.tokens)) == (text, "length", most)


def test_room_for_the_end_is_a_stop() -> None:
    assert answer("hehe", max_tokens=4).finish_reason == "stop"


def test_a_model_that_may_not_end_goes_on() -> None:
    found = answer("hehe", max_tokens=9, ignore_eos=True)
    assert found.text.startswith(LAUGH) and len(found.tokens) == 9
    assert found.finish_reason == "length"
    least = answer("hehe", min_tokens=6)
    assert least.text.startswith(LAUGH) and len(least.tokens) == 7
    assert least.finish_reason == "stop"


def test_an_empty_response_is_its_end() -> None:
    found = answer("mute")
    assert (found.tokens, found.text, found.finish_reason) == ((END,), "", "stop")


@given(st.integers(1, 500), st.text("ab ", min_size=1, max_size=8))
def test_filler_has_the_asked_length_in_the_tokens_of_its_text(most: int, text: str) -> None:
    found = answer(text, max_tokens=most)
    assert len(found.tokens) == len(found.pieces) == most
    assert list(found.tokens) == tokens_of(found.text)
    assert found.finish_reason == "length"
    assert found == answer(text, max_tokens=most)


def test_choices_and_prompts_differ() -> None:
    texts = {answer(prompt, choice=choice).text for prompt in ("one", "two") for choice in (0, 1)}
    assert len(texts) == 4


def test_lengths_that_nobody_limits() -> None:
    lengths = sorted(
        len(answer(f"prompt {number}", max_tokens=100_000, is_limited=False).tokens) - 1 for number in range(1001)
    )
    # The median of n draws of a log-normal has a standard error of 1.25 x 0.8 / sqrt(n) on the log scale: 3.2%.
    assert MEDIAN_TOKENS * 0.9 < lengths[500] < MEDIAN_TOKENS * 1.1
    assert answer("x", max_tokens=7, is_limited=False, ignore_eos=True).finish_reason == "length"
    assert len(answer("x", max_tokens=3, is_limited=False).tokens) == 3


def test_a_stop_string_ends_before_it_and_names_itself() -> None:
    found = answer("hehe", stop=("a!",))
    assert (found.text, found.finish_reason, found.stop_reason) == ("ha ha h", "stop", "a!")
    assert len(found.tokens) == 3  # the one that completed it was generated, too
    assert answer("hehe", stop=("a h",)).text == "h"
    assert answer("hehe", stop=("a h",), keeps_stop=True).text == "ha h"
    assert answer("hehe", stop=("nowhere",)).text == LAUGH


def test_a_stop_token_ends_it() -> None:
    second = tokens_of(LAUGH)[1]
    found = answer("hehe", stop_token_ids=frozenset({second}))
    assert (found.text, found.finish_reason, found.stop_reason, len(found.tokens)) == ("ha", "stop", second, 2)


@given(
    st.integers(1, 40),
    st.integers(0, 40),
    st.lists(st.text("athe ", min_size=1, max_size=4), max_size=3),
    st.booleans(),
)
def test_stops_against_a_search_token_by_token(most: int, least: int, stops: list[str], keeps: bool) -> None:
    whole = answer("any", max_tokens=most)
    asked = Asked(most, True, min(least, most), stop=tuple(stops), keeps_stop=keeps)
    found = answers.answer(tokens_of("any"), ["any"], 0, asked)
    for count in range(1, most + 1):
        before, text = "".join(whole.pieces[: count - 1]), "".join(whole.pieces[:count])
        ends = [
            (at, stop)
            for stop in stops
            for at in range(len(text) - len(stop) + 1)
            if text.startswith(stop, at) and at + len(stop) > len(before)
        ]
        if ends and count >= asked.min_tokens:
            at, stop = min(ends)
            expected = text[: at + len(stop) if keeps else at]
            assert (found.text, found.finish_reason, found.stop_reason) == (expected, "stop", stop)
            assert found.tokens == whole.tokens[:count]
            return
    assert found == dataclasses.replace(whole)
