"""What ``autoscale`` refuses, in one line that says where and why."""

from __future__ import annotations

import pytest

from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.sim.routing import check_policies

ON = "autoscale.policy=reactive"


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["autoscale.policy=scheduled"], r"policy = scheduled needs an entry of autoscale\.schedule"),
        (["autoscale.roles=[{role: decode, policy: scheduled}]"], r"roles\[0\]: policy = scheduled needs .* decode"),
        (
            [ON, "autoscale.min_instances=9", "autoscale.max_instances=8"],
            "min_instances = 9 is above max_instances = 8",
        ),
        ([ON, "autoscale.initial_instances=9", "autoscale.max_instances=8"], "initial_instances = 9 is above"),
        (
            [ON, "autoscale.roles=[{role: decode, initial_instances: 1, min_instances: 2}]"],
            r"roles\[0\]: min_instances",
        ),
        ([ON, "autoscale.interval_s=0.01"], r"autoscale\.interval_s = 0\.01: must be greater than or equal to 0\.1"),
        (
            [ON, "autoscale.metric=queues"],
            r"autoscale\.metric = 'queues': must be 'queue', 'utilisation', 'kv' or 'ttft'",
        ),
        ([ON, "autoscale.schedule=[{at_s: 1}]"], r"autoscale\.schedule\[0\]\.instances is missing"),
        ([ON, "autoscale.targets.kv=1.5"], r"autoscale\.targets\.kv = 1\.5"),
    ],
)
def test_contradictions(sets: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(sets=sets, mode="pd")


@pytest.mark.parametrize(
    "sets", [["autoscale.policy=reaktive"], ["autoscale.roles=[{role: decode, policy: reaktive}]"]]
)
def test_unknown_policies(sets: list[str]) -> None:
    with pytest.raises(ConfigError, match="unknown policy 'reaktive'; did you mean 'reactive'"):
        check_policies(load_config(sets=sets, mode="pd").config)
