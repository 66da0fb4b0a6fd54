"""Prompts as text of an exact number of tokens, for servers that take no token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kvsim.errors import ConfigError
from kvsim.measure.prompt_tokens import Tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FEWEST = 64
"""Tokens that an alphabet needs."""
_LONGEST = 16
_ROUND = 4096
_ROUNDS = 4


class Texts:
    """Text and tokens by one tokenizer."""

    def __init__(self, path: Path) -> None:
        """Raises ``ConfigError`` where ``path`` is no ``tokenizer.json``, or the package that reads it is not there."""
        self._tokenizer = _read(path)
        self.alphabet = self._stable(path)
        """Ids of words that are one token wherever they stand, found by trying."""
        plain = self._tokenizer.encode("a", add_special_tokens=False).ids
        self.special_tokens = len(self._tokenizer.encode("a").ids) - len(plain)
        """Tokens that a server adds to a text by itself, such as one for its beginning."""

    def text_of(self, ids: Sequence[int] | Tokens) -> str:
        """The text of some tokens."""
        return str(self._tokenizer.decode([int(each) for each in ids], skip_special_tokens=False))

    def ids_of(self, text: str) -> Tokens:
        """The tokens of a text, without those that a server adds."""
        return np.asarray(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)

    def is_exact(self, text: str, ids: Tokens) -> bool:
        """Whether a server that encodes the text has these tokens."""
        return np.array_equal(self.ids_of(text), ids)

    def _stable(self, path: Path) -> Tokens:
        """Words behind a space, of letters alone, that stay one token behind and before any other such word."""
        ids = np.array(sorted(_words(self._tokenizer)), dtype=np.int64)
        random = np.random.default_rng(0)
        for _ in range(_ROUNDS):
            if len(ids) < FEWEST:
                break
            broken = self._broken(random.permutation(ids))
            ids = ids[~np.isin(ids, broken)]
            if not len(broken):
                return ids
        if len(ids) < FEWEST:
            raise ConfigError(f"{path}: only {len(ids)} words stay one token among others; {FEWEST} are wanted")
        return ids

    def _broken(self, ids: Tokens) -> Tokens:
        """Those that do not come back as they are, in this order."""
        found: list[int] = []
        for start in range(0, len(ids), _ROUND):
            some = ids[start : start + _ROUND]
            found += self._culprits(some)
        return np.asarray(found, dtype=np.int64)

    def _culprits(self, ids: Tokens) -> list[int]:
        if self.is_exact(self.text_of(ids), ids):
            return []
        if len(ids) <= 2:
            return [int(each) for each in ids]
        half = len(ids) // 2
        halves = self._culprits(ids[:half]) + self._culprits(ids[half:])
        return halves or [int(ids[half - 1]), int(ids[half])]


def _read(path: Path) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ConfigError("--tokenizer needs the package tokenizers: pip install 'kvsim[live]'") from None
    if path.is_dir():
        path = path / "tokenizer.json"
    if not path.is_file():
        raise ConfigError(f"--tokenizer {str(path)!r}: there is no such file; allowed: a tokenizer.json")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing more special
        raise ConfigError(f"--tokenizer {str(path)!r}: no tokenizer.json ({error!s:.80})") from None


def _words(tokenizer: Tokenizer) -> list[int]:
    """Ids whose token is a space, as the tokenizer spells it, and ASCII letters."""
    special = set(tokenizer.get_added_tokens_decoder())
    found = []
    for token, number in tokenizer.get_vocab().items():
        letters = token[1:]
        if number in special or token[0] not in "\u0120\u2581 " or not 0 < len(letters) <= _LONGEST:
            continue
        if letters.isascii() and letters.isalpha() and letters.islower():
            found.append(number)
    return found
