"""Sending values to other processes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


def by_fields(value: Any) -> tuple[Any, tuple[Any, ...]]:
    """What ``__reduce__`` of a frozen dataclass returns that may be compiled: it is made again from its fields.

    Of a compiled one they cannot be set one by one, as pickle would.
    """
    return type(value), tuple(getattr(value, field.name) for field in fields(value))
