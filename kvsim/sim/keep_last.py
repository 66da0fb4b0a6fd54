"""Bounded memory: of what was noted, the part that was noted last."""

from __future__ import annotations

from itertools import islice
from typing import Any


def keep_last(noted: dict[int, Any], most: int) -> None:
    """Leave at most so many entries, those that came last."""
    for key in list(islice(noted, max(0, len(noted) - most))):
        del noted[key]
