"""What the schema found wrong, in kvsim's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import ValidationError

from kvsim.config.layer import Layer, keys_at, origin
from kvsim.config.yaml_source import shown
from kvsim.errors import ConfigError, nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def explained(invalid: ValidationError, layers: Sequence[Layer]) -> ConfigError:
    """The schema's first finding as one line, with the number of further ones: who set it, the key, what is allowed."""
    findings = invalid.errors(include_url=False)
    first = findings[0]
    key = ".".join(part for part in map(str, first["loc"]) if not part.isdigit())
    further = len(findings) - 1
    more = f" (and {further} more)" if further else ""
    return ConfigError(f"{origin(layers, key)}: {finding(first)}{more}")


def finding(found: ErrorDetails) -> str:
    """What the schema found, in kvsim's words: the key, its value, what is allowed."""
    path = _dotted(found["loc"])
    if found["type"] == "missing" and isinstance(found["loc"][-1], int):
        return f"{_dotted(found['loc'][:-1])} = {shown(found['input'])}: must have {found['loc'][-1] + 1} items or more"
    if found["type"] == "missing":
        return f"{path} is missing"
    if found["type"] == "extra_forbidden":
        return f"unknown key {shown(path)}; {nearest(str(found['loc'][-1]), keys_at(found['loc'][:-1]))}"
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
        "Value error, ": "",
        "must be a tuple": "must be a list",
        "must be a string": "must be text, in quotes where it looks like a number",
        "must be a integer": "must be an integer",
    }
    for theirs, ours in words.items():
        message = message.replace(theirs, ours)
    return re.sub(r"must be a dictionary( or instance of \w+)?$", "must be a mapping of keys", message)
