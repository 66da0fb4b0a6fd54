"""Text to tokens and back: the plain rule, or a model's own ``tokenizer.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from kvsim.errors import ConfigError, KvsimError
from kvsim.workload import plain_tokens

MOST_FILE_BYTES = 200_000_000
END = 0
"""Stands for the token that ends an answer, whose text is empty, and for text that a tokenizer drops."""


class Tokens(Protocol):
    """What a server needs of a tokenizer."""

    def encode(self, text: str, *, special: bool) -> list[int]:
        """The tokens of a prompt; ``special``: with what the model wants at its beginning."""

    def split(self, text: str) -> tuple[list[int], list[str]]:
        """The tokens of an answer and what each adds to the text; these together are the text, byte for byte."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of these tokens."""


class PlainTokens:
    """``kvsim.workload.plain_tokens``: about four characters a token."""

    def encode(self, text: str, *, special: bool) -> list[int]:
        return plain_tokens.tokens_of(text)

    def split(self, text: str) -> tuple[list[int], list[str]]:
        return plain_tokens.tokens_of(text), plain_tokens.pieces_of(text)

    def decode(self, tokens: Sequence[int]) -> str:
        return plain_tokens.text_of(tokens)


class FileTokens:
    """A Hugging Face ``tokenizer.json``."""

    def __init__(self, path: Path) -> None:
        """Raises a ``KvsimError`` where the file is none, or the package that reads it is missing."""
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise KvsimError("--tokenizer needs the package tokenizers: pip install 'kvsim[live]'") from None
        if path.is_dir():
            path = path / "tokenizer.json"
        try:
            if path.stat().st_size > MOST_FILE_BYTES:
                raise ConfigError(f"--tokenizer {path}: more than {MOST_FILE_BYTES:,} bytes; expected a tokenizer.json")
            text = path.read_text("utf-8")
        except OSError as error:
            raise ConfigError(
                f"--tokenizer {path}: cannot be read: {error.strerror}; it must be a model's tokenizer.json, a file"
            ) from None
        except UnicodeDecodeError:
            raise ConfigError(f"--tokenizer {path}: is not UTF-8; it must be a model's tokenizer.json") from None
        try:
            self._tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # the package raises nothing narrower
            raise ConfigError(f"--tokenizer {path}: not a tokenizer.json: {' '.join(str(error).split())}") from None
        # Prompts are as long as they are, whatever the file says of training.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, text: str, *, special: bool) -> list[int]:
        text.encode()  # which raises what the package would say in its own way
        return list(self._tokenizer.encode(text, add_special_tokens=special).ids)

    def split(self, text: str) -> tuple[list[int], list[str]]:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        ids = list(encoding.ids)
        if not ids:
            return ([END], [text]) if text else ([], [])
        pieces, done = [], 0
        for _, end in encoding.offsets[:-1]:
            pieces.append(text[done : max(done, end)])
            done = max(done, end)
        return ids, [*pieces, text[done:]]

    def decode(self, tokens: Sequence[int]) -> str:
        known = self._tokenizer.get_vocab_size(with_added_tokens=True)
        if all(token < known for token in tokens):
            return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))
        return "".join(
            self._tokenizer.decode([token], skip_special_tokens=False) if token < known else f"<|{token}|>"
            for token in tokens
        )


def tokens_from(path: Path | None) -> Tokens:
    """What a server counts with. Raises a ``KvsimError``."""
    return PlainTokens() if path is None else FileTokens(path)
