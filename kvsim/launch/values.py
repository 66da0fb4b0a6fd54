"""What stands behind a flag, as the value that the server makes of it."""

from __future__ import annotations

import argparse
import difflib
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from kvsim.launch.flags import Kind

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT])")
_SI_SIZE = re.compile(r"(\d+(?:\.\d+)?)(?:(k|M|G|T)|([KMGT])i)")
_QUOTED = re.compile(r'("(?:[^"\\]|\\.)*")')
_BARE_SIZE = re.compile(r"\b\d+(?:\.\d+)?[kKmMgGtT]\b")
_UNFILLED = re.compile(r"\$(\w+|\{|\()")
"""A variable, or a command, that only the shell of that day could have filled in."""


def converter(kind: Kind, is_checked: bool = True) -> Callable[[str], Any]:
    """What makes a value of the text behind a flag of that ``kind``.

    It raises ``argparse.ArgumentTypeError``, which says what is allowed. Unless ``is_checked``, a value that only the
    shell knew is taken as it stands.
    """

    def convert(text: str) -> Any:
        if kind.takes_none and text in ("", "None"):
            return None
        if _UNFILLED.match(text) and (kind.choices or kind.base not in ("text", "json/text")):
            if not is_checked:
                return text
            raise argparse.ArgumentTypeError(f"{text!r:.60} has no value in this text: write it out")
        value = _READERS[kind.base](text)
        return _chosen(value, text, kind) if kind.choices else value

    return convert


def _chosen(value: Any, text: str, kind: Kind) -> Any:
    plain = text.lower().replace("-", "_") if kind.is_folded else str(value)
    if plain not in kind.choices:
        close = difflib.get_close_matches(plain, kind.choices, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise argparse.ArgumentTypeError(f"{text!r:.60} must be one of {', '.join(kind.choices)}{hint}")
    return plain if kind.is_folded else value


def whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r:.60} must be a whole number") from None


def size(text: str) -> int:
    """``32k`` is 32,000, ``32K`` 32,768; fractions only of the former."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return whole(text)
    number, suffix = found.groups()
    power = "kmgt".index(suffix.lower()) + 1
    if suffix.islower():
        try:
            return int(float(number) * 1000**power)
        except OverflowError:
            raise argparse.ArgumentTypeError(f"{text!r:.60} is too large") from None
    if "." in number:
        raise argparse.ArgumentTypeError(
            f"{text!r:.60}: a binary suffix takes whole numbers; {number}{suffix.lower()}?"
        )
    return whole(number) * int(1024**power)


def si_size(text: str) -> int:
    """``32k`` is 32,000, ``32Ki`` 32,768, as SGLang has it; fractions only of the former."""
    found = _SI_SIZE.fullmatch(text.strip())
    if found is None:
        return whole(text)
    number, decimal, binary = found.groups()
    power = "KMGT".index((decimal or binary).upper()) + 1
    if decimal:
        return int(Decimal(number) * 1000**power)
    if "." in number:
        raise argparse.ArgumentTypeError(f"{text!r:.60}: a binary suffix takes whole numbers")
    return whole(number) * int(1024**power)


def _length(text: str) -> int:
    return -1 if text.strip().lower() in ("-1", "auto") else size(text)


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r:.60} must be a number") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise argparse.ArgumentTypeError(f"{text!r:.60} must be JSON, in single quotes for the shell") from None


def _config(text: str) -> Any:
    """JSON in which numbers may be sizes."""
    parts = _QUOTED.split(text)
    parts[::2] = [_BARE_SIZE.sub(lambda found: str(size(found.group())), part) for part in parts[::2]]
    found = _json("".join(parts))
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text!r:.60} must be a JSON object, in single quotes for the shell")
    return found


def _json_or_text(text: str) -> Any:
    is_object = re.match(r"(?s)\s*{.*}\s*$", text)
    return _json(text) if is_object else text


def _ids(text: str) -> list[int | str]:
    return [int(part) if part.isdecimal() else part for part in map(str.strip, text.split(","))]


_READERS: dict[str, Callable[[str], Any]] = {
    "text": str,
    "int": whole,
    "float": _real,
    "size": size,
    "si": si_size,
    "length": _length,
    "json": _json,
    "config": _config,
    "json/text": _json_or_text,
    "ids": _ids,
}
