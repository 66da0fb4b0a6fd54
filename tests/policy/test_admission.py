"""Admission policies: what comes in, what has expired, and a cache with one before it."""

from __future__ import annotations

import re

import pytest

from kvsim.errors import ConfigError
from kvsim.policy.admission import ADMISSIONS, Admission, AdmissionSettings, make_admission
from kvsim.policy.eviction import Access, make_eviction
from kvsim.policy.eviction.replay import replay
from kvsim.workload.accesses import Accesses

SETTINGS = AdmissionSettings(capacity_blocks=2, depth_threshold=6, ttl_s=10.0)


def accesses(*prompts: tuple[float, list[int]]) -> Accesses:
    """Prompts of no session, each with its time."""
    offsets = [0]
    for _, keys in prompts:
        offsets.append(offsets[-1] + len(keys))
    unknown = [-1] * len(prompts)
    times = [time_s for time_s, _ in prompts]
    return Accesses([key for _, keys in prompts for key in keys], offsets, times, unknown, [0] * len(prompts))


def hits(admission: str, *prompts: tuple[float, list[int]], capacity: int = 100) -> int:
    gate = make_admission(admission, AdmissionSettings(capacity, depth_threshold=6, ttl_s=10.0))
    return replay(make_eviction("lru", capacity), accesses(*prompts), gate)


def test_all_changes_nothing() -> None:
    prompts = [(0.0, [1, 2, 3]), (1.0, [1, 2, 4]), (2.0, [3, 4])]
    assert hits("all", *prompts) == replay(make_eviction("lru", 100), accesses(*prompts)) == 4


def test_selective_write_takes_heads() -> None:
    gate, access, admitted = make_admission("selective_write", SETTINGS), Access(), []
    for depth in range(10):
        access.depth = depth
        if gate.admits(100 + depth, access):
            admitted.append(depth)
    assert admitted == [0, 1, 2, 3, 4, 5]
    long = list(range(9))
    assert hits("selective_write", (0.0, long), (1.0, long)) == 6


def test_ttl_counts_from_the_last_use() -> None:
    assert hits("ttl", (0.0, [1]), (10.0, [1]), (20.0, [1])) == 2
    assert hits("ttl", (0.0, [1]), (10.5, [1]), (20.5, [1])) == 1


def test_ttl_of_times_that_go_back() -> None:
    assert hits("ttl", (20.0, [1]), (0.0, [2]), (12.0, [2])) == 0
    assert hits("ttl", (0.0, [1]), (20.0, [2]), (4.0, [1])) == 1
    assert hits("ttl", (20.0, [1]), (0.0, [1]), (30.0, [1])) == 2


def test_ttl_remembers_no_longer_than_it_lets_live() -> None:
    gate, access = make_admission("ttl", SETTINGS), Access()
    for key in range(1000):
        access.time_s = float(key)
        assert gate.admits(key, access)
    assert len(gate._last_use_s) == 11


def test_what_has_expired_leaves() -> None:
    policy, gate = make_eviction("lru", 10), make_admission("ttl", SETTINGS)
    assert replay(policy, accesses((0.0, [1, 2]), (30.0, [1])), gate) == 0
    assert 1 in policy and len(policy) == 2


def test_second_hit_forgets_after_as_many_refusals() -> None:
    gate, access = make_admission("second_hit", SETTINGS), Access()
    asked = [1, 1, 1, 2, 3, 4, 2, 4]
    assert [gate.admits(key, access) for key in asked] == [False, True, False, False, False, False, False, True]


def test_second_hit_remembers_through_one_refusal_less() -> None:
    gate, access = make_admission("second_hit", SETTINGS), Access()
    assert [gate.admits(key, access) for key in (2, 3, 2)] == [False, False, True]
    assert [gate.admits(key, access) for key in (5, 6, 6, 7, 5)] == [False, False, True, False, True]


def test_a_scan_does_not_pass_second_hit() -> None:
    scan = [(float(i), [100 + i]) for i in range(50)]
    prompts = [(0.0, [1, 2]), (0.0, [1, 2]), *scan, (60.0, [1, 2])]
    assert hits("second_hit", *prompts, capacity=4) == 2
    assert hits("all", *prompts, capacity=4) == 2
    prompts.append((61.0, [1, 2]))
    assert hits("second_hit", *prompts, capacity=4) == 4


def test_names() -> None:
    assert {name: policy.name for name, policy in ADMISSIONS.items()} == {name: name for name in ADMISSIONS}
    for name in ADMISSIONS:
        assert isinstance(make_admission(name, SETTINGS), Admission)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("second_hti", SETTINGS, "admission: unknown policy 'second_hti'; did you mean 'second_hit'?"),
        ("kvsim.policy.eviction.lru:Lru", SETTINGS, "not a subclass of kvsim.policy.admission.base.Admission"),
        ("ttl", AdmissionSettings(2, 6), "ttl: a time to live of None s; allowed: a number > 0"),
        ("ttl", AdmissionSettings(2, 6, 0.0), "ttl: a time to live of 0.0 s"),
        ("ttl", AdmissionSettings(2, 6, float("nan")), "ttl: a time to live of nan s"),
        ("selective_write", AdmissionSettings(2, -1), "a depth threshold of -1; allowed: 0 or more"),
    ],
)
def test_what_cannot_be_used(name: str, settings: AdmissionSettings, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        make_admission(name, settings)
