"""What the site is made of: links, the generated reference, and the check of what was built."""

from __future__ import annotations

import re
from pathlib import Path

import check
import pytest
import reference
import yaml
from assemble import PAGES
from links import DeadLink, place, rewritten
from places import REPOSITORY

CONFIG = yaml.safe_load((REPOSITORY / "config.yaml").read_text("utf-8"))


def leaves(node: dict[str, object], path: str = "") -> list[str]:
    found = []
    for name, value in node.items():
        found += leaves(value, f"{path}{name}.") if isinstance(value, dict) and value else [f"{path}{name}"]
    return found


def test_every_key_has_its_entry() -> None:
    page = reference.configuration()
    keys = leaves({name: value for name, value in CONFIG.items() if name != "presets"})
    assert re.findall(r"^`([\w.]+)`$", page, re.MULTILINE) == keys and len(keys) > 200


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("engine.block_size", "a whole number >= 1"),
        ("model.kv_dtype", "one of `bf16`, `fp16`, `fp8`, `fp8_per_token_head`, `int8`"),
        ("studies.confidence", "a number > 0 and < 1"),
        ("pd_separation.pd_ratio", "a list of: a whole number >= 1"),
        ("slo.share", "a number > 0 and <= 1"),
        ("trace.qps", "a number > 0 or null"),
        ("engine.watermark", "a number >= 0 and < 1"),
    ],
)
def test_a_key_says_what_it_may_be(key: str, words: str) -> None:
    assert re.search(
        rf"^`{re.escape(key)}`\n:   default `.*`; {re.escape(words)}$", reference.configuration(), re.MULTILINE
    )


def test_every_verb_and_flag_has_its_entry() -> None:
    page = reference.commands()
    for verb in ("kvsim", "kvsim predict", "kvsim hits", "kvsim trace synth", "kvsim validate load", "kvsim models"):
        assert f"## `{verb}`\n" in page
    assert "`--gpu NAME`\n:   The GPU, e.g. h100-sxm" in page and page.count("`--json OUT`") > 3


def test_a_comment_keeps_its_code_and_its_stars() -> None:
    assert reference.sentence("a*b of `a_b` < [x]") == r"a\*b of `a_b` \< \[x\]"


def test_links_lead_where_pages_stand_on_the_site() -> None:
    given = "[a](../../README.md#x) [b](https://h.org) [`c.py`](../../main.py) [d](../../tests/places.py) [e](index.md)"
    expected = "[a](../overview.md#x) [b](https://h.org) `c.py` d (`tests/places.py`) [e](index.md)"
    assert rewritten(given, "docs/howto/ttft.md") == expected
    assert rewritten(f"```\n{given}\n```", "docs/howto/ttft.md") == f"```\n{given}\n```"


def test_a_link_to_nothing_is_refused() -> None:
    with pytest.raises(DeadLink, match=r"docs/howto/ttft.md: ../nowhere.md"):
        rewritten("[a](../nowhere.md)", "docs/howto/ttft.md")


def test_every_page_of_the_repository_is_in_the_navigation_or_a_decision() -> None:
    text = (REPOSITORY / "mkdocs.yml").read_text("utf-8")
    pages = [*PAGES, *(path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "docs").rglob("*.md"))]
    missing = [page for page in pages if "/decisions/" not in page and f" {place(page)}\n" not in text]
    assert not missing


def test_no_link_of_a_page_is_dead() -> None:
    for path in [*(REPOSITORY / page for page in PAGES), *sorted((REPOSITORY / "docs").rglob("*.md"))]:
        rewritten(path.read_text("utf-8"), path.relative_to(REPOSITORY).as_posix())


def site_of(folder: Path, **pages: str) -> list[str]:
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, "utf-8")
    return list(check.faults(folder.resolve()))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('<script src="https://cdn.org/a.js"></script>', "a.html: loads https://cdn.org/a.js"),
        ('<link rel="stylesheet" href="//fonts.org/a.css">', "a.html: loads //fonts.org/a.css"),
        ("<style>@import url('https://fonts.org/b.css')</style>", "a.html: loads https://fonts.org/b.css"),
        ('<img src="none.png">', "a.html: loads none.png, which is not there"),
        ('<a href="c.html">c</a>', "a.html: links to c.html, which is not there"),
        ('<a href="b.html#no">b</a>', "a.html: links to b.html#no: no such place on that page"),
    ],
)
def test_what_a_built_page_must_not_do(tmp_path: Path, text: str, fault: str) -> None:
    assert site_of(tmp_path, a=f'{text}<img src="data:,">', b='<p id="yes">') == [fault]


def test_a_site_that_stands_alone(tmp_path: Path) -> None:
    text = '<link rel="canonical" href="https://h.org"><a href="b.html#yes">b</a><a href="https://h.org">h</a>'
    assert site_of(tmp_path, a=f'{text}<img src="data:,">', b='<p id="yes">') == []
    assert list(check.faults(tmp_path / "nothing")) == [f"{tmp_path / 'nothing'}: no pages"]
