"""The built site stands alone: every link within it leads somewhere, and no page asks another host for anything."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
STATED = ("canonical", "next", "prev")
"""Kinds of ``<link>`` that no browser follows by itself."""
ASKED_BY_STYLE = re.compile(r"(?:url\(|@import\s+)[\"']?((?:https?:)?//[^)\"';]+)")


class Page(HTMLParser):
    """The ids of a page, what it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)
        self.loads += ASKED_BY_STYLE.findall(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        for of, name in LOADED:
            if tag == of and name in given and given.get("rel") not in STATED:
                self.loads.append(given[name])


def faults(site: Path) -> Iterator[str]:
    """What is wrong with the site, a line each."""
    pages = {path: Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site}: no pages"
    for path, page in pages.items():
        where = path.relative_to(site)
        for target in page.loads:
            if urlsplit(target).netloc:
                yield f"{where}: loads {target}"
            elif not target.startswith("data:") and not at(site, path, target).is_file():
                yield f"{where}: loads {target}, which is not there"
        if where.name != "404.html":
            yield from (f"{where}: {fault}" for link in page.links for fault in dead(site, path, link, pages))
    for path in sorted(site.rglob("*.css")):
        yield from (
            f"{path.relative_to(site)}: loads {found}" for found in ASKED_BY_STYLE.findall(path.read_text("utf-8"))
        )


def dead(site: Path, page: Path, link: str, pages: dict[Path, Page]) -> Iterator[str]:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return
    there = at(site, page, link)
    if not there.is_file():
        yield f"links to {link}, which is not there"
    elif parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].ids:
        yield f"links to {link}: no such place on that page"


def at(site: Path, page: Path, target: str) -> Path:
    """The file that a link leads to."""
    path = unquote(urlsplit(target).path)
    there = page if not path else (site / path.lstrip("/") if path.startswith("/") else page.parent / path)
    there = there.resolve()
    return there / "index.html" if there.is_dir() else there


if __name__ == "__main__":
    found = list(faults(Path(sys.argv[1]).resolve()))
    sys.exit("\n".join(found) if found else 0)
