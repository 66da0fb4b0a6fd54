"""The site's files: a page, scripts, an index of all entries, and a script of data for each artefact."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import fields
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from kvsim._version import __version__
from kvsim.errors import KvsimError
from kvsim.explore.artefact import Artefact, Entry, Figures
from kvsim.page.colours import variables
from kvsim.page.library import PACKAGE, ensure_library

GENERATOR = '<meta name="generator" content="kvsim explore">'
_ASSETS = ("explore.css", "words.js", "charts.js", "pages.js", "index.js", "explore.js")
_TEXTS = ("kind", "name", "system", "model", "gpu", "workload", "cache", "order", "backend")
_SCRIPTS = ("words.js", "charts.js", "pages.js", "index.js")


def check_site(site: Path, results: Sequence[Path]) -> None:
    """Raise a ``KvsimError`` where ``site`` cannot be made, is something else, or holds what is to be read."""
    ensure_library()
    for path in results:
        if site.resolve() in (path.resolve(), *path.resolve().parents):
            raise KvsimError(f"-o is {str(site)!r}, which {str(path)!r} lies in; another folder is wanted")
    if site.exists() and not (site.is_dir() and (not any(site.iterdir()) or is_site(site))):
        raise KvsimError(f"-o is {str(site)!r}, which is there and no site of kvsim explore's; another name is wanted")
    above = next(each for each in site.absolute().parents if os.path.lexists(each))
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise KvsimError(f"-o: cannot create {str(site)!r}: {str(above)!r} takes no folders")


def is_site(folder: Path) -> bool:
    """Whether :func:`write_site` wrote it."""
    index = folder / "index.html"
    return index.is_file() and GENERATOR in index.read_text("utf-8", errors="replace")[:400]


def write_site(site: Path, artefacts: Sequence[Artefact]) -> int:
    """Write the site, whole or not at all, in place of one that is there; returns its bytes.

    The same artefacts give the same bytes. A folder that cannot be written raises a ``KvsimError``.
    """
    fresh = site.with_name(f".{site.name}.{os.getpid()}.tmp")
    try:
        try:
            fresh.mkdir(parents=True)
            for name, content in _contents(artefacts):
                path = fresh / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            size = sum(path.stat().st_size for path in fresh.rglob("*") if path.is_file())
            if site.exists():
                shutil.rmtree(site)
            fresh.rename(site)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise KvsimError(f"-o: cannot write {str(site)!r}: {error.strerror or error}") from error
    return size


def _contents(artefacts: Sequence[Artefact]) -> Iterator[tuple[str, bytes]]:
    yield "index.html", _page().encode()
    yield "assets/vega.js", import_module(PACKAGE).javascript_bundle().encode()
    for name in _ASSETS:
        text = files("kvsim.explore").joinpath("assets", name).read_text(encoding="utf-8")
        yield f"assets/{name}", (_palette() + text if name.endswith(".css") else text).encode()
    yield "data/index.js", _script("kvsim.index", index_of(artefacts))
    for artefact in artefacts:
        yield f"data/{artefact.digest}.js", _script(f'kvsim.details["{artefact.digest}"]', detail_of(artefact))
        if artefact.picture is not None:
            yield f"data/{artefact.digest}.png", artefact.picture.read_bytes()


def _palette() -> str:
    dark = variables(dark=True)
    return (
        f":root{{{variables(dark=False)}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
        f":root[data-theme=dark]{{{dark}}}\n"
    )


def _page() -> str:
    text = files("kvsim.explore").joinpath("assets", "index.html").read_text(encoding="utf-8")
    scripts = "".join(f'<script src="assets/{name}"></script>' for name in _SCRIPTS)
    last = '<script src="data/index.js"></script><script src="assets/explore.js"></script>'
    return text.replace("<!-- generator -->", GENERATOR).replace("<!-- scripts -->", scripts + last)


def _script(target: str, value: object) -> bytes:
    """An assignment: what a page that is read from a disk can load, which may fetch no file."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return f"{target}={text};\n".encode()


def entry_id(artefact: Artefact, place: int) -> str:
    """An entry's address on the site: that of the artefact, and its place where there are several."""
    return artefact.digest if len(artefact.entries) == 1 else f"{artefact.digest}.{place}"


def index_of(artefacts: Sequence[Artefact]) -> dict[str, Any]:
    """All entries in columns; texts that come again stand once, in ``words``."""
    rows = [(artefact, place, entry) for artefact in artefacts for place, entry in enumerate(artefact.entries)]
    words: dict[str, int] = {}

    def place_of(text: str) -> int:
        return words.setdefault(text, len(words))

    columns: dict[str, list[Any]] = {"id": [entry_id(artefact, place) for artefact, place, _ in rows]}
    columns["title"] = [place_of(artefact.title) for artefact, _, _ in rows]
    columns["source"] = [place_of(artefact.path.name) for artefact, _, _ in rows]
    for name in _TEXTS:
        columns[name] = [place_of(_text(artefact, entry, name)) for artefact, _, entry in rows]
    for figure in fields(Figures):
        columns[figure.name] = [_short(getattr(entry.figures, figure.name)) for _, _, entry in rows]
    return {"version": __version__, "words": list(words), "columns": columns, "pairs": _pairs(artefacts)}


def _text(artefact: Artefact, entry: Entry, name: str) -> str:
    return entry.kind or artefact.kind if name == "kind" else str(getattr(entry, name))


def _short(value: float | None) -> float | None:
    """Six significant digits."""
    return value if value is None or isinstance(value, int) else float(f"{value:.6g}")


def _pairs(artefacts: Sequence[Artefact]) -> list[list[str]]:
    """Differences of two reports that are both here: the entries of each side, and the difference's page."""
    places: dict[tuple[str, str], list[str]] = {}
    for each in artefacts:
        for place, entry in enumerate(each.entries):
            if each.kind == "run":
                places.setdefault((each.path.resolve().as_posix(), entry.system), []).append(entry_id(each, place))
    found = []
    for each in artefacts:
        half = len(each.sides) // 2
        for a, b in zip(each.sides[:half], each.sides[half:], strict=True):
            ends = [places.get((Path(file).resolve().as_posix(), system)) for file, system in (a, b)]
            if ends[0] and ends[1]:
                found.append([ends[0][0], ends[1][0], each.digest])
    return found


def detail_of(artefact: Artefact) -> dict[str, Any]:
    """All that the pages of an artefact and comparisons with it show."""
    return {
        "kind": artefact.kind,
        "title": artefact.title,
        "source": artefact.path.name,
        "lead": artefact.lead,
        "facts": [list(each) for each in artefact.facts],
        "blocks": list(artefact.blocks),
        "config": dict(artefact.config),
        "picture": artefact.picture is not None,
        "entries": [
            {
                "id": entry_id(artefact, place),
                "name": entry.name,
                "more": [list(each) for each in entry.more],
                "parts": {where: dict(parts) for where, parts in entry.parts.items()},
                "curves": {label: [list(point) for point in points] for label, points in entry.curves.items()},
            }
            for place, entry in enumerate(artefact.entries)
        ],
    }
