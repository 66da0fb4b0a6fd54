"""Tokens of text by rule: reversible, stable as a text goes on, about four characters each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvsim.workload.plain_tokens import MOST_BYTES, piece_of, pieces_of, text_of, tokens_of

PROSE = (
    "We the people of this city hold that a queue is a promise: whoever stands in it will be served, in order, and "
    "nobody who comes later will be served before. Promises cost something to keep, and engineers who build servers "
    "know the price better than most. A server that answers everybody at once answers nobody; one that answers each "
    "in turn is called slow by those who are still waiting."
)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=60) | st.text(" ab\n\t", max_size=30)


def test_tokens_of_words() -> None:
    assert pieces_of("hello there,  you\n") == ["hello", " there", ",", " ", " you", "\n"]
    assert pieces_of("") == []
    assert pieces_of("   ") == ["   "]
    assert pieces_of("日本語です") == ["日本", "語で", "す"]
    assert tokens_of("a") == [0x01_61]


@given(texts)
def test_a_text_is_its_tokens_and_back(text: str) -> None:
    tokens, pieces = tokens_of(text), pieces_of(text)
    assert "".join(pieces) == text == text_of(tokens)
    assert [piece_of(token) for token in tokens] == pieces
    assert all(len(piece.encode()) <= MOST_BYTES for piece in pieces)


@given(texts, st.text(st.characters(categories=("L", "N")), min_size=1, max_size=20))
def test_a_word_behind_a_space_leaves_what_stands_before_it(text: str, word: str) -> None:
    assert tokens_of(f"{text} {word}") == tokens_of(text) + tokens_of(f" {word}")


@given(st.integers(min_value=-5, max_value=2**60))
def test_every_number_has_a_text(token: int) -> None:
    piece = piece_of(token)
    assert piece == f"<|{token}|>" or token in tokens_of(piece) or len(tokens_of(piece)) > 1


def test_english_has_about_four_characters_a_token() -> None:
    assert 3.7 < len(PROSE) / len(tokens_of(PROSE)) < 4.7


def test_a_long_word_costs_its_length() -> None:
    assert len(tokens_of("x" * 600_000)) == 100_000
