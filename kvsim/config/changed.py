"""A configuration with some of its values changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from kvsim.config.checks import check
from kvsim.config.explain import explained
from kvsim.config.layer import Layer, Origins, Tree, put
from kvsim.config.schema import Config, dump


def changed(config: Config, values: Mapping[str, Any], where: str) -> Config:
    """A prefill/decode run's ``config`` with other values at dotted keys.

    Raises ``ConfigError``, which begins with ``where``.
    """
    tree, chosen = dump(config), Tree()
    for path, value in values.items():
        tree, chosen = put(tree, path, value), put(chosen, path, value)
    try:
        found = Config.model_validate(tree)
    except ValidationError as invalid:
        raise explained(invalid, lambda _: where) from None
    check(found, Origins((Layer(where, {}, is_default=True), Layer(where, chosen))), "pd")
    return found
