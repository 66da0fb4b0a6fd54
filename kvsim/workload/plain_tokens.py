"""Tokens of text where no tokenizer is given: deterministic, reversible, and the same for a prompt's head as alone.

Text is cut where words begin, a word with the one space before it, and a word of more than ``MOST_BYTES`` bytes of
UTF-8 is cut into several tokens; what is left of white space stands alone, cut likewise. That gives about four
characters a token of English, as published tokenizers do; of code, and of other scripts, it is a rough guess.

A continuation that begins with a space and a word leaves the tokens of a text as they are, so that an answer is the
same tokens when it comes back in a prompt; any other may change those of its last word or its last white space.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

MOST_BYTES = 6
"""Of one token, on whole characters."""
_WORD = re.compile(r" ?\S+|\s+?(?= ?\S)|\s+")
_MARK = b"\x01"
"""Stands before the bytes of a token: so many bytes, leading zeros too, are one number and back."""
MOST_WORDS, MOST_KEPT = 16_384, 40
"""Words whose tokens are kept rather than made again, and the characters of the longest."""


def tokens_of(text: str) -> list[int]:
    """The tokens of a text; a number is one to one with the bytes that it stands for."""
    found: list[int] = []
    for word in _WORD.findall(text):
        found += _numbers(word) if len(word) <= MOST_KEPT else _counted(word)
    return found


def pieces_of(text: str) -> list[str]:
    """What each token stands for; together they are the text."""
    return [piece for word in _WORD.findall(text) for piece in _cut(word)]


def text_of(tokens: Iterable[int]) -> str:
    """The text that has these tokens. A number that stands for no text is written out: ``<|12345|>``."""
    return "".join(map(piece_of, tokens))


def piece_of(token: int) -> str:
    """What one token stands for."""
    size = (token.bit_length() + 7) // 8
    if 1 < size <= MOST_BYTES + 1:
        mark_and_text = token.to_bytes(size)
        if mark_and_text.startswith(_MARK):
            try:
                return mark_and_text[1:].decode()
            except UnicodeDecodeError:
                pass
    return f"<|{token}|>"


@lru_cache(maxsize=MOST_WORDS)
def _numbers(word: str) -> tuple[int, ...]:
    return _counted(word)


def _counted(word: str) -> tuple[int, ...]:
    return tuple(int.from_bytes(_MARK + piece.encode()) for piece in _cut(word))


def _cut(word: str) -> Iterator[str]:
    """Parts of at most ``MOST_BYTES`` bytes, as long as whole characters allow."""
    begin = size = 0
    for place, char in enumerate(word):
        own = len(char.encode())
        if size + own > MOST_BYTES:
            yield word[begin:place]
            begin, size = place, 0
        size += own
    yield word[begin:]
