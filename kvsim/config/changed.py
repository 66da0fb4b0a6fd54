"""A configuration with some of its values changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from kvsim.config.checks import check
from kvsim.config.explain import explained
from kvsim.config.schema import Config, dump


def changed(config: Config, values: Mapping[str, Any], where: str) -> Config:
    """``config`` with other values at dotted keys. Raises ``ConfigError``, which begins with ``where``."""
    tree = dump(config)
    for path, value in values.items():
        *sections, key = path.split(".")
        section = tree
        for name in sections:
            section = section[name]
        section[key] = value
    try:
        found = Config.model_validate(tree)
    except ValidationError as invalid:
        raise explained(invalid, lambda _: where) from None
    check(found, lambda *_: where)
    return found
