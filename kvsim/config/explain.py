"""The schema's findings as one line: who set it, the key, its value, what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvsim.config.yaml_source import shown
from kvsim.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


def explained(invalid: ValidationError, where: Callable[[str], str]) -> ConfigError:
    """The error for the first finding, with the number of further ones. ``where`` names the layer that set a key."""
    findings = invalid.errors(include_url=False)
    first = findings[0]
    key = ".".join(part for part in map(str, first["loc"]) if not part.isdigit())
    further = len(findings) - 1
    more = f" (and {further} more)" if further else ""
    return ConfigError(f"{where(key)}: {_finding(first)}{more}")


def _finding(found: ErrorDetails) -> str:
    path = _dotted(found["loc"])
    if found["type"] == "missing" and isinstance(found["loc"][-1], int):
        return f"{_dotted(found['loc'][:-1])} = {shown(found['input'])}: must have {found['loc'][-1] + 1} items or more"
    if found["type"] == "missing":
        return f"{path} is missing"
    return f"{path} = {shown(found['input'])}: {_allowed(found['msg'])}"


def _dotted(loc: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


def _allowed(message: str) -> str:
    words = {
        "Input should be a valid": "must be a",
        "Input should be": "must be",
        "Tuple should have": "must have",
        "String should have": "must have",
        " after validation": "",
        "must be a tuple": "must be a list",
        "must be a string": "must be text",
        "must be a integer": "must be an integer",
    }
    for theirs, ours in words.items():
        message = message.replace(theirs, ours)
    return message
