"""docs/api.md is what the docstrings say. ``python tests/test_api_page.py`` writes it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import kvsim
from kvsim.simulation import ModelsSimulation, Pictures, Simulation

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
HEAD = """# From Python

Made from the docstrings; names that are not here may change. Frames are polars', and their columns stand at the
functions that make them (`kvsim/record/frames.py`).
"""


def page() -> str:
    """The whole page."""
    functions = ("simulate", "simulate_models", "load_workload", "load_config")
    parts = [HEAD, *(line for name in functions for line in _function(name))]
    parts += _members("Simulation", Simulation)
    parts += _members("Pictures", Pictures, "`Simulation.plot`.")
    parts += _members("ModelsSimulation", ModelsSimulation)
    return "\n".join(parts).rstrip() + "\n"


def _function(name: str) -> Iterator[str]:
    found = getattr(kvsim, name)
    yield f"## `kvsim.{name}`\n"
    yield f"```python\n{name}{_signature(found)}\n```\n"
    yield _text(found) + "\n"


def _signature(found: object) -> str:
    signature = inspect.signature(found)  # type: ignore[arg-type]
    lines, keyword_only = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not keyword_only:
            lines.append("*")
            keyword_only = True
        default = "" if parameter.default is inspect.Parameter.empty else f" = {parameter.default!r}"
        lines.append(f"{parameter.name}: {parameter.annotation}{default}")
    listed = "".join(f"    {line},\n" for line in lines)
    return f"(\n{listed}) -> {signature.return_annotation}"


def _members(name: str, kind: type, what: str | None = None) -> Iterator[str]:
    yield f"## `kvsim.{name}`\n" if what is None else f"## `{name}`\n"
    yield (_text(kind) if what is None else f"{what} {_text(kind)}") + "\n"
    for key, member in vars(kind).items():
        if not key.startswith("_") and (isinstance(member, property) or inspect.isfunction(member)):
            shown = f"`{key}`" if isinstance(member, property) else f"`{key}()`"
            yield f"- {shown}: {' '.join(_text(member).split())}"
    yield ""


def _text(found: object) -> str:
    # As RST's literals, which read the same in Markdown with one backtick.
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", (inspect.getdoc(found) or "").replace("``", "`"))


def test_the_page_is_what_the_docstrings_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python tests/test_api_page.py writes it"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
