"""The whole configuration of a run, with what differs from the defaults marked."""

from __future__ import annotations

import json
from collections.abc import Iterator

from kvsim.config import Config, dump, load_config
from kvsim.config.tree import leaves
from kvsim.page.markup import Html, element, together
from kvsim.record.labels import counted

_NO_DEFAULT = object()


def settings(config: Config) -> Html:
    """Every key by section, folded, and before them those that differ from ``config.yaml`` as shipped."""
    shipped = dict(leaves(dump(load_config().config)))
    own = list(leaves(dump(config)))
    differing = [(key, value) for key, value in own if shipped.get(key, _NO_DEFAULT) != value]
    said = f"{counted(len(differing), 'key')} of {len(own):,} differ from the defaults; they are marked."
    sections = (_section(name, keys, shipped) for name, keys in _by_section(own))
    return together(element("p", said, class_="said"), *sections)


def _section(name: str, keys: list[tuple[str, object]], shipped: dict[str, object]) -> Html:
    count = sum(shipped.get(key, _NO_DEFAULT) != value for key, value in keys)
    marked = f", {count} changed" if count else ""
    rows = [_row(key, value, shipped.get(key, _NO_DEFAULT)) for key, value in keys]
    heads = element("tr", *(element("th", text, scope="col") for text in ("key", "value", "default")))
    table = element("table", element("thead", heads), element("tbody", *rows), class_="keys")
    title = element("summary", f"{name} ({len(keys)}{marked})")
    return element("details", title, element("div", table, class_="scroll"), open=bool(count))


def _row(key: str, value: object, default: object) -> Html:
    is_same = value == default
    shown = "" if is_same else "none" if default is _NO_DEFAULT else _written(default)
    cells = (element("th", key, scope="row"), element("td", _written(value)), element("td", shown))
    return element("tr", *cells, class_=None if is_same else "changed")


def _by_section(keys: list[tuple[str, object]]) -> Iterator[tuple[str, list[tuple[str, object]]]]:
    sections: dict[str, list[tuple[str, object]]] = {}
    for key, value in keys:
        sections.setdefault(key.partition(".")[0], []).append((key, value))
    yield from sections.items()


def _written(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
