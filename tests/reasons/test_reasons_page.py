"""docs/reasons.md names every rule."""

from __future__ import annotations

from places import REPOSITORY

from kvsim.reasons import RULES


def test_every_rule_is_on_the_page() -> None:
    page = (REPOSITORY / "docs" / "reasons.md").read_text(encoding="utf-8")
    assert [rule.__name__ for rule in RULES if f"`{rule.__name__}`" not in page] == []
