"""The documents of a file, however large: of JSON only what a reader keeps of it is ever held.

A JSON file is a stream of values, be it one document, pretty or not, or one a line. A value that fits ``_WHOLE``
characters is decoded at once; of a larger one its mappings and lists are entered, and of each entry of a long list that
alone is kept which its ``Reduction`` makes of it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import yaml

from kvsim.errors import ConfigError
from kvsim.fields import MOST_COUNT
from kvsim.workload.jsonstream import JsonFault, JsonScanner, reason

Reduction = Callable[[Any], object]
"""What is kept of an entry of a list. It must not raise: what is no such entry is given back as ``None``."""

MOST_WHOLE_BYTES = 16 << 20
"""YAML and CSV are read whole, and take a hundred times their size in memory."""
_WHOLE = 1 << 18
_LONGEST = 1 << 26
"""Characters of a text or a row that is decoded at once, in any case."""
_DEEPEST = 24
_FEW = 1000
"""Entries that are no numbers or words, of a list without a reduction."""
_LONG = 30
"""Digits of a whole number that is none of a client's: taken as a float, which no arithmetic overflows."""
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LARGE = object()


def documents(path: Path, reductions: Mapping[str, Reduction]) -> Iterator[Any]:
    """The values of a JSON file, or the document of a YAML file. ``reductions``: by the key that a list stands under,
    ``""`` for one that is the document itself.

    Raises ``ConfigError`` of one line.
    """
    found = 0
    try:
        if path.suffix.lower() in (".yaml", ".yml"):
            yield _Walk(reductions).light("", yaml.load(_small_text(path), Loader=_YAML), 0)
            return
        with path.open(encoding="utf-8-sig") as stream:
            scanner = _Scanner(stream)
            walk = _Walk(reductions, scanner)
            while scanner.peek():
                found += 1
                yield walk.value("", 0)
    except JsonFault as fault:
        raise ConfigError(f"{path.name}: line {fault.line:,}: {fault}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise ConfigError(f"{path.name}: not UTF-8 text") from None
        raise ConfigError(f"{path.name}: not readable as YAML: {(str(error) or 'nested').splitlines()[0]}") from None
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from None
    if not found:
        raise ConfigError(f"{path.name}: is empty")


def table(path: Path) -> list[list[str]]:
    """The rows of a CSV file. Raises ``ConfigError`` of one line."""
    try:
        return list(csv.reader(_small_text(path).splitlines()))
    except csv.Error as error:
        raise ConfigError(f"{path.name}: not readable as CSV: {error}") from None


def _small_text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_WHOLE_BYTES:
            size, most = path.stat().st_size / (1 << 20), MOST_WHOLE_BYTES >> 20
            raise ConfigError(
                f"{path.name}: {size:,.0f} MiB; a {path.suffix[1:]} file may have {most}: JSON has no limit"
            )
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path.name}: not UTF-8 text") from None
    if not text.strip():
        raise ConfigError(f"{path.name}: is empty")
    return text


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) < _LONG else float(digits)


_DECODER = json.JSONDecoder(parse_int=_whole_number)


class _Scanner(JsonScanner):
    """A scanner that can tell whether the next value is a large one."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._scanned = stream

    def whole(self) -> object:
        """The next value, ``_LARGE`` where it does not end within ``_WHOLE`` characters. Raises ``JsonFault``."""
        return self._decoded(_WHOLE)

    def longest(self) -> object:
        """The next value, however large within reason. Raises ``JsonFault``."""
        found, wanted = _LARGE, _WHOLE
        while found is _LARGE and wanted < _LONGEST:
            wanted *= 4
            found = self._decoded(wanted)
        if found is _LARGE:
            raise JsonFault(self.line, f"a text or an entry of more than {_LONGEST >> 20} million characters")
        return found

    def _decoded(self, characters: int) -> object:
        self.peek()
        if len(self._text) - self._at < characters:
            self._fill(characters)
        try:
            value, end = _DECODER.raw_decode(self._text, self._at)
        except (ValueError, RecursionError) as fault:
            if not self._ended:
                return _LARGE
            raise JsonFault(self.line, f"not JSON: {reason(fault)} in the value that begins here") from None
        if end == len(self._text) and not self._ended and isinstance(value, int | float):
            return _LARGE
        self.line += self._text.count("\n", self._at, end)
        self._at = end
        return value

    def _fill(self, characters: int) -> bool:
        more = "" if self._ended else self._scanned.read(characters)
        self._ended = len(more) < characters
        self._text = self._text[self._at :] + more
        self._at = 0
        return bool(more)


class _Walk:
    def __init__(self, reductions: Mapping[str, Reduction], scanner: _Scanner | None = None) -> None:
        self._reductions = reductions
        self._scanner = scanner or _Scanner(io.StringIO())

    def value(self, key: str, depth: int) -> object:
        """The next value, with its lists reduced."""
        found = self._scanner.whole()
        if found is not _LARGE:
            return self.light(key, found, depth)
        opening = self._scanner.peek()
        if depth > _DEEPEST:
            raise JsonFault(self._scanner.line, "nested too deeply")
        if opening == "{":
            return dict(self._entries(depth))
        if opening == "[":
            reduction = self._reductions.get(key)
            items = self._items(key, depth, raw=reduction is not None)
            return self._kept(key, items, self._scanner.line)
        return self._scanner.longest()

    def light(self, key: str, found: Any, depth: int) -> object:
        """A decoded value with its lists reduced."""
        if depth > _DEEPEST:
            return None
        if isinstance(found, dict):
            return {name: self.light(str(name), value, depth + 1) for name, value in found.items()}
        if not isinstance(found, list):
            return found
        if key in self._reductions:
            return self._kept(key, iter(found), 0)
        return self._kept(key, (self.light(key, item, depth + 1) for item in found), 0)

    def _kept(self, key: str, items: Iterator[object], line: int) -> list[object]:
        reduction, found, others = self._reductions.get(key), list[object](), 0
        for item in items:
            if reduction is not None:
                item = reduction(item)
            elif isinstance(item, dict | list):
                others += 1
                if others > _FEW:
                    continue
            found.append(item)
            if len(found) > MOST_COUNT:
                raise JsonFault(line, f"{key or 'the list'} has more than {MOST_COUNT:,} entries")
        return found

    def _entries(self, depth: int) -> Iterator[tuple[str, object]]:
        scanner = self._scanner
        scanner.take("{")
        if scanner.peek() == "}":
            scanner.take("}")
            return
        while True:
            if scanner.peek() != '"':
                scanner.take('"')
            key = str(scanner.longest())
            scanner.take(":")
            yield key, self.value(key, depth + 1)
            if scanner.take(",}") == "}":
                return

    def _items(self, key: str, depth: int, *, raw: bool) -> Iterator[object]:
        scanner = self._scanner
        scanner.take("[")
        if scanner.peek() == "]":
            scanner.take("]")
            return
        while True:
            found = scanner.whole() if raw else self.value(key, depth + 1)
            yield scanner.longest() if found is _LARGE else found
            if scanner.take(",]") == "]":
                return
