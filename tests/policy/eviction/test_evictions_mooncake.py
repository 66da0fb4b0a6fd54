"""Hit ratios on Mooncake's conversation trace: libCacheSim 0.3.5's, to four places."""

from __future__ import annotations

import pytest
from places import DATA

from kvsim.policy.eviction import make_eviction
from kvsim.policy.eviction.replay import replay
from kvsim.workload.accesses import Accesses, read_accesses

TRACE = DATA / "traces/mooncake_conversation_trace.jsonl"
pytestmark = pytest.mark.skipif(not TRACE.exists(), reason=f"no {TRACE.name} in KVSIM_DATA or ../shared/data")

RATIOS = {
    "lru": {1000: 0.0445, 5000: 0.1104, 10000: 0.2112, 30000: 0.3257, 50000: 0.3546},
    "arc": {1000: 0.0529, 5000: 0.1136, 10000: 0.2225, 30000: 0.3108, 50000: 0.3433},
    "belady": {1000: 0.1906, 5000: 0.3412, 10000: 0.3664, 30000: 0.3664, 50000: 0.3664},
    "fifo": {10000: 0.1865, 30000: 0.3021},
    "lfu": {10000: 0.1318, 30000: 0.2759},
    "sieve": {10000: 0.1318, 30000: 0.2759},
    "twoq": {10000: 0.1849, 30000: 0.3062},
    "s3fifo": {10000: 0.1925, 30000: 0.2549},
    "lirs": {10000: 0.1946, 30000: 0.2451},
}


@pytest.fixture(scope="module")
def accesses() -> Accesses:
    return read_accesses(TRACE)


def test_one_access_per_hash_id(accesses: Accesses) -> None:
    assert (len(accesses.keys), accesses.num_different, len(accesses.time_s)) == (288_500, 182_790, 12_031)


@pytest.mark.parametrize("name", RATIOS)
def test_as_libcachesim(accesses: Accesses, name: str) -> None:
    found = {size: replay(make_eviction(name, size), accesses) / len(accesses.keys) for size in RATIOS[name]}
    assert {size: round(ratio, 4) for size, ratio in found.items()} == RATIOS[name]


def test_without_sessions_hybrid_is_arc(accesses: Accesses) -> None:
    assert replay(make_eviction("hybrid", 5000), accesses) == replay(make_eviction("arc", 5000), accesses)
