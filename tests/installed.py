"""Whole runs in processes of their own, as users run them."""

from __future__ import annotations

import os


def as_installed() -> dict[str, str]:
    """The environment for them: with the modules that are compiled, where some are, though tests run on the sources."""
    return {key: value for key, value in os.environ.items() if key != "KVSIM_PURE"}
