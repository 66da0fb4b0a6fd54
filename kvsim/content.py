"""Finding the files that kvsim ships: the defaults, profiles, policies, models and sample traces."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


@cache
def content_root() -> Path:
    """The folder that holds ``config.yaml`` and its neighbours: the wheel's copy, else the checkout's."""
    packaged = _PACKAGE / "_content"
    return packaged if packaged.is_dir() else _PACKAGE.parent


def content_path(*parts: str) -> Path:
    """The path of a shipped file, e.g. ``content_path("profiles", "h100_70b_reference.yaml")``."""
    return content_root().joinpath(*parts)
