"""Policies by name, and a user's own by where they are written."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.policy.admission import ADMISSIONS
from kvsim.policy.eviction import EVICTIONS, make_eviction
from kvsim.policy.prefetch import PREFETCHERS
from kvsim.policy.registry import Policies
from kvsim.policy.scheduling import ORDERS
from kvsim.sim.routing import DECODE_ROUTERS, PREFILL_ROUTERS

OWN = """
from kvsim.policy.eviction.lru import Lru

class Mine(Lru):
    name = "mine"

NOT_A_CLASS = 3
class Stranger: ...
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with modules in it."""
    (tmp_path / "own_cache_rules.py").write_text(OWN)
    (tmp_path / "own_broken_rules.py").write_text("1 / 0\n")
    (tmp_path / "own_needy_rules.py").write_text("import no_such_thing_anywhere\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("own_cache_rules", "own_broken_rules", "own_needy_rules"):
        sys.modules.pop(name, None)


def test_names_are_those_of_the_classes() -> None:
    assert {name: policy.name for name, policy in EVICTIONS.items()} == {name: name for name in EVICTIONS}


def test_a_class_of_the_users_own(here: Path) -> None:
    before = list(sys.path)
    policy = make_eviction("own_cache_rules:Mine", 2)
    assert (type(policy).__name__, policy.replay([1, 2, 1, 3, 1])) == ("Mine", 2)
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "words"),
    {
        "lur": "eviction: unknown policy 'lur'; did you mean 'lru'?",
        "": "known: arc, belady",
        "own_cache_rulse:Mine": "no module 'own_cache_rulse' installed or in",
        "no.such.place:Mine": "no module 'no.such.place'",
        ":Mine": "allowed: package.module:Class",
        "own_cache_rules:": "allowed: package.module:Class",
        "own_cache_rules:Mien": "no 'Mien' in own_cache_rules; did you mean 'Mine'?",
        "own_cache_rules:NOT_A_CLASS": "not a subclass of kvsim.policy.eviction.base.Eviction",
        "own_cache_rules:Stranger": "not a subclass of",
        "own_broken_rules:Mine": "cannot import own_broken_rules: ZeroDivisionError: division by zero",
        "own_needy_rules:Mine": "cannot import own_needy_rules: No module named 'no_such_thing_anywhere'",
    }.items(),
)
def test_what_is_not_there(here: Path, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as raised:
        EVICTIONS.find(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("policies", "key"),
    [
        (EVICTIONS, "policies.eviction"),
        (ADMISSIONS, "policies.admission"),
        (PREFETCHERS, "policies.prefetch"),
        (ORDERS, "engine.scheduling_policy"),
        (PREFILL_ROUTERS, "routing.prefill"),
        (DECODE_ROUTERS, "routing.decode"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_kind_knows_its_setting(policies: Policies[object], key: str) -> None:
    policies.check(load_config().config)
    for name in policies:
        policies.check(load_config(sets=[f"{key}={name}"]).config)
    with pytest.raises(ConfigError, match="unknown policy 'lur'; "):
        policies.check(load_config(sets=[f"{key}=lur"]).config)


def test_orders_and_routers_are_no_classes_of_a_users_own() -> None:
    with pytest.raises(ConfigError, match="unknown policy 'mine:Order'; known: dfs_weight, fcfs, lof, lpm, priority"):
        ORDERS.find("mine:Order")
