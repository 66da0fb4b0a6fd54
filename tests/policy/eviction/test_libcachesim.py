"""Hit counts of random traces against libCacheSim, where it is installed (``pip install libcachesim==0.3.5``)."""

from __future__ import annotations

import random

import pytest

from kvsim.policy.eviction import make_eviction, next_uses

libcachesim = pytest.importorskip("libcachesim", reason="libcachesim is not installed")

EXACT = {"fifo": "FIFO", "lru": "LRU", "lfu": "LFU", "arc": "ARC", "sieve": "Sieve", "belady": "Belady"}
CLOSE = {"twoq": "TwoQ", "s3fifo": "S3FIFO", "lirs": "LIRS"}
TABLE_POWER = 14
"""Of libCacheSim's hash table: its default takes seconds to allocate."""


def their_hits(name: str, capacity: int, keys: list[int]) -> int:
    cache = getattr(libcachesim, name)(capacity, hashpower=TABLE_POWER)
    request = libcachesim.Request()
    request.obj_size = 1
    hits = 0
    for key, use in zip(keys, next_uses(keys), strict=True):
        request.obj_id = key + 1
        request.next_access_vtime = use
        hits += cache.get(request)
    return hits


def random_keys(seed: int) -> list[int]:
    """Zipf's law, loops and scans, as they come."""
    rng = random.Random(seed)
    different = rng.choice((10, 100, 2000))
    weights = [(i + 1) ** -rng.uniform(0.5, 1.3) for i in range(different)]
    keys: list[int] = []
    while len(keys) < 4000:
        kind, length = rng.random(), rng.randrange(2, 150)
        if kind < 0.6:
            keys += rng.choices(range(different), weights, k=length)
        elif kind < 0.8:
            keys += list(range(length)) * rng.randrange(1, 4)
        else:
            keys += range(10_000 + len(keys), 10_000 + len(keys) + length)
    return keys


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", EXACT)
def test_exact(name: str, seed: int) -> None:
    keys = random_keys(seed)
    for capacity in (1, 2, 3, 5, 8, 13, 20, 77, 400):
        assert make_eviction(name, capacity).replay(keys) == their_hits(EXACT[name], capacity, keys), capacity


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", CLOSE)
def test_close(name: str, seed: int) -> None:
    keys = random_keys(seed)
    for capacity in (200, 600, 1500):
        ours, theirs = make_eviction(name, capacity).replay(keys), their_hits(CLOSE[name], capacity, keys)
        assert abs(ours - theirs) < 0.005 * len(keys), capacity
