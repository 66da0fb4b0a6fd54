"""HTML that is escaped unless it was made here."""

from __future__ import annotations

import json
from html import escape


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, *content: str, **attributes: str | int | bool | None) -> Html:
    """An element; what of ``content`` is no ``Html`` is text.

    Attributes: ``class_`` is ``class``, ``aria_label`` is ``aria-label``; ``True`` stands alone, ``None`` and ``False``
    are left out.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    return Html(f"<{name}{written}>{together(*content)}</{name}>")


def together(*content: str) -> Html:
    """One after the other."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in content))


def embedded_json(value: object) -> Html:
    """For a script element: nothing in it ends the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Html(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def embedded_script(source: str) -> Html:
    """JavaScript for a script element; in strings, where alone these can stand, the backslash changes nothing."""
    return Html(source.replace("</script", "<\\/script").replace("<!--", "<\\!--"))


def _attribute(key: str, value: str | int | bool | None) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
