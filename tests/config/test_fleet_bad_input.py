"""Events and clients that make no sense: one line that says where, what is allowed, the nearest known name."""

from __future__ import annotations

import pytest

from kvsim.config import load_config
from kvsim.errors import ConfigError

WRONG = {
    "fleet.events=3": "fleet.events = 3: must be a list",
    "fleet.events=[3]": "fleet.events[0] = 3: must be a mapping of keys",
    "fleet.events=[{at_s: 1}]": "fleet.events[0].kind is missing",
    "fleet.events=[{kind: fial, at_s: 1, instance: 0}]": "fleet.events[0].kind = 'fial': must be 'fail', 'hang'",
    "fleet.events=[{kind: fail, at: 1, instance: 0}]": "unknown key 'fleet.events[0].at'; did you mean 'at_s'?",
    "fleet.events=[{kind: fail, at_s: 1, instance: 0}, {kind: slow, at_s: 1, rack: 0, facter: 2}]": (
        "unknown key 'fleet.events[1].facter'; did you mean 'factor'?"
    ),
    "fleet.events=[{kind: fail, at_s: 1, xyzzy: 0}]": "unknown key 'fleet.events[0].xyzzy'; known: at_once, at_s,",
    "fleet.events=[{kind: fail, at_s: -1, instance: 0}]": "fleet.events[0].at_s = -1",
    "fleet.events=[{kind: fail, at_s: soon, instance: 0}]": "fleet.events[0].at_s = 'soon': must be a number",
    "fleet.events=[{kind: fail, at_s: 1, instance: 1.5}]": "fleet.events[0].instance = 1.5",
    "fleet.events=[{kind: fail, at_s: 1, role: decoder}]": "fleet.events[0].role = 'decoder': must be 'colocated',",
    "fleet.events=[{kind: fail, at_s: 1}]": "fleet.events[0]: fail: give whom it is about",
    "fleet.events=[{kind: fail, instance: 1}]": "give either at_s, when it happens, or mtbf_h",
    "fleet.events=[{kind: fail, at_s: 1, mtbf_h: 2, instance: 1}]": "give either at_s, when it happens, or mtbf_h",
    "fleet.events=[{kind: slow, at_s: 1, instance: 1}]": "fleet.events[0]: slow: give factor",
    "fleet.events=[{kind: slow, at_s: 1, instance: 1, factor: 0}]": "fleet.events[0].factor = 0",
    "fleet.events=[{kind: nic, at_s: 1, instance: 1, factor: 2}]": "nic: give share",
    "fleet.events=[{kind: hang, at_s: 1, instance: 1}]": "hang: give duration_s or mttr_s",
    "fleet.events=[{kind: fail, at_s: 1, instance: 1, grace_s: 2}]": "grace_s has no meaning",
    "fleet.events=[{kind: rolling_restart, mtbf_h: 1, duration_s: 1}]": "it does not happen at random",
    "fleet.events=[{kind: pool, at_s: 1, instance: 0}]": "is about racks or hosts",
    "fleet.event=[]": "unknown key 'fleet.event'; did you mean 'events'?",
    "fleet.detection_s=-1": "fleet.detection_s = -1",
    "clients.timeout_s=0": "clients.timeout_s = 0",
    "clients.retries=1.5": "clients.retries = 1.5",
    "clients.retry=1": "unknown key 'clients.retry'; did you mean 'retries'?",
    "clients.backoff_jitter=2": "clients.backoff_jitter = 2",
}


@pytest.mark.parametrize(("assignment", "words"), WRONG.items())
def test_it_is_one_line(assignment: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(sets=(assignment,), mode="pd")
    said = str(error.value)
    assert words in said and "\n" not in said and said.startswith("--set: ")
