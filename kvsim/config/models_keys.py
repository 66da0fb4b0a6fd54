"""The schema of ``models``: the models that a cluster of several hosts."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, Strict

from kvsim.config.section import Item, Name, Positive

LONGEST_NAME = 40


def _for_files(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or len(name) > LONGEST_NAME:
        raise ValueError(
            f"must be letters, digits, '.', '_' and '-', a letter or digit first, {LONGEST_NAME} at the most"
        )
    return name


class ModelItem(Item):
    """One entry of ``models``. What is not given is ``null``."""

    name: Annotated[str, AfterValidator(_for_files)]
    """What it is called here and in the names of its files."""
    share: Positive | None = None
    """What part of the requests is for it, beside the shares of the others."""
    trace_models: Annotated[tuple[Name, ...], Field(min_length=1), Strict(False)] | None = None
    """What traces call it; ``null``: as ``name``."""
    config: dict[str, Any] | None = None
    """What is its own of the keys of the configuration."""

    @property
    def names_in_traces(self) -> tuple[str, ...]:
        """What a trace calls it."""
        return (self.name,) if self.trace_models is None else self.trace_models
