"""The kinds of tiers, against what else says what they are: the settings, and which of them a run looks at."""

from __future__ import annotations

from functools import reduce

import pytest

from kvsim.config import load_config
from kvsim.config.effect import without_effect
from kvsim.spec.tier_kinds import TIER_NAMES, TIERS, TierKind


def test_the_nearest_stands_first() -> None:
    assert TIER_NAMES == ("dram", "eic", "ssd")
    assert [kind.name for kind in TIERS if kind.is_volatile] == ["dram", "eic"]


@pytest.mark.parametrize("kind", TIERS, ids=TIER_NAMES)
def test_the_capacity_is_a_setting(kind: TierKind) -> None:
    assert reduce(getattr, kind.capacity_key.split("."), load_config().config) > 0


@pytest.mark.parametrize(
    ("mode", "key", "remote"), [("single", "cache.tiers", ["eic"]), ("cluster", "cluster.tiers", ["eic", "ssd"])]
)
def test_the_network_counts_where_a_tier_is_reached_over_it(mode: str, key: str, remote: list[str]) -> None:
    jitter = "cluster.network.jitter_cv"
    found = {name: load_config(sets=[f"{key}=[{name}]", f"{jitter}=0.3"]).config for name in TIER_NAMES}
    assert [name for name, config in found.items() if jitter not in without_effect(config, mode)] == remote
