"""The exceptions a user can meet. Each message is one line: what, where, what is allowed, the nearest known name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KvsimError(Exception):
    """Base of every error kvsim raises on purpose; the command line answers it with one line and exit code 2."""


class ConfigError(KvsimError):
    """A configuration value, overlay, preset or ``--set`` that cannot be used."""


class WorkloadError(KvsimError):
    """A trace that cannot be read, or a row of it that makes no sense."""


class CapacityError(KvsimError):
    """A model that does not fit its instance, or a request that could never be served."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The clause that helps after an unknown ``name``: the nearest of ``known``, or all of them."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"
