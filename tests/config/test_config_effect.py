"""What is set and not looked at is said."""

from __future__ import annotations

import pytest

from kvsim.config import load_config
from kvsim.config.effect import WITHOUT_TIERS, without_effect


def test_the_defaults_promise_nothing() -> None:
    assert without_effect(load_config().config) == []


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("policies.eviction=arc", "policies"),
        ("cluster.network.remote_ssd_latency_us=9", "cluster.network.remote_ssd_latency_us"),
        ("cluster.eic.nodes_per_rack=8", "cluster.eic"),
    ],
)
def test_a_setting_nobody_looks_at_is_named(given: str, named: str) -> None:
    assert without_effect(load_config(sets=[given]).config) == [named]
    assert named in WITHOUT_TIERS
    assert without_effect(load_config(sets=[given, "pd_separation.tiers=[dram]"]).config) == []


def test_a_setting_with_effect_is_not() -> None:
    assert without_effect(load_config(sets=["pd_separation.transfer.contention=none"]).config) == []
