"""Recorded responses: a file of what a server once answered to which prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kvsim.errors import ConfigError

MOST_FILE_BYTES = 2_000_000_000
_EXPECTED = 'must be {"prompt": text, "response": text}'


def read_responses(path: Path) -> dict[str, str]:
    """The response by prompt. Raises ``ConfigError``, which names the line: no JSON, no text, a prompt that has two."""
    found: dict[str, str] = {}
    lines: dict[str, int] = {}
    try:
        if path.stat().st_size > MOST_FILE_BYTES:
            raise ConfigError(f"--responses {path}: more than {MOST_FILE_BYTES:,} bytes")
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                where = f"--responses {path}, line {number}"
                prompt, response = _pair(line, where)
                if found.setdefault(prompt, response) != response:
                    raise ConfigError(f"{where}: another response to the prompt of line {lines[prompt]}")
                lines.setdefault(prompt, number)
    except OSError as error:
        raise ConfigError(f"--responses {path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--responses {path}: is not UTF-8; {_EXPECTED} a line") from None
    if not found:
        raise ConfigError(f"--responses {path}: is empty; {_EXPECTED} a line")
    return found


def _pair(line: str, where: str) -> tuple[str, str]:
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise ConfigError(f"{where}: is not JSON; {_EXPECTED}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: {_EXPECTED}")
    found = []
    for name in ("prompt", "response"):
        text = values.get(name)
        if not isinstance(text, str):
            raise ConfigError(f"{where}: {name!r} is {'missing' if name not in values else 'no text'}; {_EXPECTED}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{where}: {name!r} has half a surrogate pair, which no UTF-8 can have") from None
        found.append(text)
    if not found[0]:
        raise ConfigError(f"{where}: 'prompt' is empty")
    return found[0], found[1]
