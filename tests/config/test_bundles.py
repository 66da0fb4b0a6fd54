"""Policy bundles: the shipped ones, bare policies, and what is wrong with others."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvsim.config import bundles, load_config
from kvsim.config.bundles import find_bundles, shipped_bundles
from kvsim.errors import ConfigError

KNOWN = ("lru", "arc", "sieve")


def test_the_shipped_ones_load_over_any_configuration() -> None:
    shipped = shipped_bundles()
    names = ["baseline", "arc", "session_prefetch", "selective_write", "learned", "hybrid", "belady"]
    assert list(shipped) == names
    for bundle in shipped.values():
        policies = load_config(sets=bundle.sets).config.policies
        assert (policies.eviction in bundle.description.lower()) or bundle.description


def test_a_policy_or_a_class_is_a_bundle_of_itself() -> None:
    found = find_bundles(("sieve", "mine:Clock"), KNOWN)
    assert [load_config(sets=bundle.sets).config.policies.eviction for bundle in found] == ["sieve", "mine:Clock"]


def test_unknown_and_repeated_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--policy: unknown policy 'sive'; .*sieve"):
        find_bundles(("sive",), KNOWN)
    with pytest.raises(ConfigError) as raised:
        find_bundles(("qqqqqqqq",), KNOWN)
    names = str(raised.value).partition("known: ")[2].split(", ")
    assert names == sorted({*shipped_bundles(), *KNOWN})
    with pytest.raises(ConfigError, match=r"--policy: 'lru' is given twice"):
        find_bundles(("lru", "lru"), KNOWN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("evicton: lru", "unknown key 'evicton'"),
        ("[1, 2]", "a mapping is wanted"),
        ("a: [", "not readable as a bundle"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    (tmp_path / "odd.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(bundles, "content_path", lambda *_: tmp_path)
    with pytest.raises(ConfigError, match=message):
        shipped_bundles()
