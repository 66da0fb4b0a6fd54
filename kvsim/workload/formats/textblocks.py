"""Text whose tokens nobody counted: four characters are taken for a token, and blocks are those of the characters."""

from __future__ import annotations

from array import array

CHARACTERS_PER_TOKEN = 4
"""English text in the tokenizers of today, about."""
GUESS = f"a token is taken for {CHARACTERS_PER_TOKEN} characters"
_NO_CHARACTER = 0x110000
"""From here on there are no characters: what stands for tokens that nobody knows."""


def characters(text: str) -> array[int]:
    """The text as numbers, filled up to whole tokens."""
    found = array("I")
    found.frombytes(text.encode("utf-32-le", "surrogatepass"))
    found.extend([0] * (-len(found) % CHARACTERS_PER_TOKEN))
    return found


def tokens_of(stream: array[int]) -> int:
    """The tokens that it is taken for."""
    return -(-len(stream) // CHARACTERS_PER_TOKEN)


class UnknownText:
    """Answers whose text is not known, but which later prompts repeat: each is other numbers than all before."""

    def __init__(self) -> None:
        self._next = _NO_CHARACTER

    def answer(self, tokens: int) -> array[int]:
        count = tokens * CHARACTERS_PER_TOKEN
        start, self._next = self._next, self._next + count
        return array("I", range(start, start + count))
