"""Vega-Lite, which draws the charts in the reader's browser, out of the package that has it."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec

from kvsim.errors import KvsimError
from kvsim.page.markup import Html, embedded_script

PACKAGE = "vl_convert"


def ensure_library() -> None:
    """Raise a ``KvsimError`` that says what to install where the package is missing."""
    if find_spec(PACKAGE) is None:
        raise KvsimError("a page needs vl-convert-python, which has its charts: pip install 'kvsim[html]'")


@cache
def chart_library() -> Html:
    """Vega, Vega-Lite and vega-embed as one script of 0.9 MB, which asks no host for anything; 2 s of CPU once."""
    ensure_library()
    return embedded_script(import_module(PACKAGE).javascript_bundle())
