"""Reading a JSON document of rows one row at a time, so that memory follows the rows taken and not the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TextIO

ROW_KEYS = ("data", "rows", "requests")
"""The keys under which a JSON mapping may hold its rows; case does not matter."""

_REPORT_KEYS = {"run", "config", "results"}
_SHOWN_KEYS, _SHOWN_CHARACTERS = 6, 30
_CHUNK_CHARACTERS = 1 << 16
_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"


class JsonFault(ValueError):
    """A document that is not what was expected, at a line."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def reason(fault: Exception) -> str:
    """Why a JSON text could not be read, on one line; not every refusal of the decoder has a position."""
    if isinstance(fault, json.JSONDecodeError):
        return f"{fault.msg} at column {fault.colno}" if fault.lineno == 1 else fault.msg
    return "nested too deeply" if isinstance(fault, RecursionError) else "a number has too many digits"


class JsonScanner:
    """A cursor over a JSON text that holds no more of it than the value being read."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text = ""
        self._at = 0
        self._ended = False
        self.line = 1

    def peek(self) -> str:
        """The next character that is no white space, ``""`` at the end."""
        while True:
            while self._at < len(self._text):
                character = self._text[self._at]
                if character not in _SPACE:
                    return character
                self.line += character == "\n"
                self._at += 1
            if not self._fill(_CHUNK_CHARACTERS):
                return ""

    def take(self, allowed: str) -> str:
        """The next character, which must be one of ``allowed``."""
        character = self.peek()
        if not character or character not in allowed:
            found = repr(character) if character else "the end of the file"
            raise JsonFault(self.line, f"{found} where one of {' '.join(allowed)} should stand")
        self._at += 1
        return character

    def value(self) -> object:
        """The next whole JSON value."""
        self.peek()
        wanted = _CHUNK_CHARACTERS
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
                # A number that touches the end of what was read may go on.
                if end < len(self._text) or not self._fill(wanted):
                    self.line += self._text.count("\n", self._at, end)
                    self._at = end
                    return value
            except (ValueError, RecursionError) as fault:
                if not self._fill(wanted):
                    raise JsonFault(self.line, f"not JSON: {reason(fault)} in the value that begins here") from None
            wanted *= 2

    def _fill(self, characters: int) -> bool:
        more = "" if self._ended else self._stream.read(characters)
        self._ended = not more
        self._text = self._text[self._at :] + more
        self._at = 0
        return bool(more)


def holds_rows(stream: TextIO) -> bool:
    """Whether the text is one document of rows (a list, or a mapping with a list of them), and not one row a line."""
    scanner = JsonScanner(stream)
    if scanner.peek() == "[":
        return True
    try:
        return _enter_rows(scanner, {})
    except JsonFault:
        return False


def document(stream: TextIO) -> str | None:
    """What a text that begins with a mapping and holds no rows is, where that is no row of a line; ``None`` otherwise.

    A text that is no JSON is left to whoever reads its lines.
    """
    scanner = JsonScanner(stream)
    scanner.peek()
    first = scanner.line
    try:
        found = scanner.value()
    except JsonFault:
        return None
    if not isinstance(found, dict):
        return None
    if found.keys() >= _REPORT_KEYS:
        return "a report of kvsim, and no trace"
    if scanner.line == first:
        return None
    shown = [key[:_SHOWN_CHARACTERS] for key in list(found)[:_SHOWN_KEYS]]
    keys = f"{', '.join(shown)}{', ...' if len(found) > _SHOWN_KEYS else ''}" if found else "none"
    what = "JSON objects of several lines each; of the first" if scanner.peek() else "one JSON object of several lines;"
    return f"{what} the keys are: {keys}"


def rows(stream: TextIO) -> Iterator[tuple[int, object, Mapping[str, object]]]:
    """The rows of a document with the line each begins on, and what stands before them in the mapping that holds them.

    Several such mappings may follow each other, as one a line. Raises ``JsonFault``.
    """
    scanner = JsonScanner(stream)
    while True:
        is_mapping, head = scanner.peek() == "{", dict[str, object]()
        if is_mapping and not _enter_rows(scanner, head):
            raise JsonFault(scanner.line, f"a mapping without a list of rows under {', '.join(ROW_KEYS)}")
        scanner.take("[")
        if scanner.peek() == "]":
            scanner.take("]")
        else:
            more = True
            while more:
                scanner.peek()
                yield scanner.line, scanner.value(), head
                more = scanner.take(",]") == ","
        if not is_mapping or not _leave(scanner) or not scanner.peek():
            return


def _enter_rows(scanner: JsonScanner, head: dict[str, object]) -> bool:
    """Moves to the list of rows of a top-level mapping, whether there is one; ``head`` gets what stands before it."""
    scanner.take("{")
    while scanner.peek() == '"':
        key = str(scanner.value()).strip()
        scanner.take(":")
        if key.lower() in ROW_KEYS and scanner.peek() == "[":
            return True
        value = scanner.value()
        if not isinstance(value, list | dict):
            head[key] = value
        if scanner.take(",}") == "}":
            return False
    return False


def _leave(scanner: JsonScanner) -> bool:
    """Moves behind the mapping whose list of rows has ended; whether it is whole."""
    while scanner.take(",}") == ",":
        if scanner.peek() != '"':
            return False
        scanner.value()
        scanner.take(":")
        scanner.value()
    return True
