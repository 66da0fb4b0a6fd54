"""vLLM's own offloading: what its connector decided on random traffic, and each rule alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from offload_mutants import MUTATIONS
from offload_replay import compare
from places import REPOSITORY

from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.policy.eviction import Access
from kvsim.sim.tiers.offload_tier import OffloadTier

RECORDINGS = sorted(Path(__file__).parent.glob("recordings/*.json.gz"))


@pytest.mark.parametrize("is_stepwise", [False, True])
@pytest.mark.parametrize("path", RECORDINGS, ids=[path.stem for path in RECORDINGS])
def test_recorded_decisions_are_kvsims_too(path: Path, is_stepwise: bool) -> None:
    compared = compare(path, is_stepwise=is_stepwise)
    assert compared.differing == []
    assert compared.found_memory == compared.recorded_memory
    assert compared.found_loads == compared.recorded_loads
    assert compared.found_preemptions == compared.recorded_preemptions
    assert compared.found_loads


def test_recordings_notice_every_broken_rule() -> None:
    together = [str(path) for path in RECORDINGS if path.name.startswith("together")]
    paths = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "tests/offload_mutants.py"), *together],
        env={**os.environ, "PYTHONPATH": paths, "KVSIM_PURE": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n") == len(MUTATIONS)


def asked(request: int) -> Access:
    access = Access()
    access.index = request
    return access


def write(tier: OffloadTier, chain: int, first: int, end: int, request: int) -> int:
    """Offer chunks and write what is missing; returns how many were."""
    runs = tier.admitted(tier.use([(chain, first, end)], asked(request)), asked(request))
    tier.store(runs, asked(request))
    return sum(stop - start for _, start, stop in runs)


def held(tier: OffloadTier, chain: int, most: int = 8) -> list[int]:
    return [place for place in range(most) if tier.held_to(chain, place, place + 1) > place]


def test_until_a_request_ends_its_head_is_older_than_its_tail_and_then_its_tail_is() -> None:
    for ends, left in ((False, [2, 3]), (True, [0, 1])):
        tier = OffloadTier("dram", 4)
        write(tier, 1, 0, 2, 1)
        write(tier, 1, 2, 4, 1)
        if ends:
            tier.ended(asked(1))
        write(tier, 2, 0, 2, 2)
        assert held(tier, 1) == left
        tier.check_integrity()


def test_what_was_loaded_counts_as_used_when_the_request_ends() -> None:
    tier = OffloadTier("dram", 4)
    for chain in (1, 2):
        write(tier, chain, 0, 2, chain)
        tier.ended(asked(chain))
    tier.pin([(1, 0, 2)], asked(3))
    tier.unpin([(1, 0, 2)])
    tier.ended(asked(3))
    write(tier, 3, 0, 2, 4)
    assert (held(tier, 1), held(tier, 2)) == ([0, 1], [])


def test_what_is_being_read_or_written_or_offered_is_not_evicted() -> None:
    tier = OffloadTier("dram", 4)
    write(tier, 1, 0, 2, 1)
    coming = tier.admitted(tier.use([(2, 0, 2)], asked(2)), asked(2))
    assert (tier.taken, len(tier), held(tier, 2)) == (4, 2, [])
    tier.pin([(1, 0, 1)], asked(3))
    assert write(tier, 3, 0, 2, 4) == 0  # one chunk could go, two are needed
    assert held(tier, 1) == [0, 1]
    assert write(tier, 3, 0, 1, 4) == 1
    tier.store(coming, asked(2))
    assert (held(tier, 1), held(tier, 2), held(tier, 3)) == ([0], [0, 1], [0])
    assert write(tier, 2, 0, 4, 5) == 0  # of the others one is read, one could go
    assert tier.refused == 4
    tier.check_integrity()


def test_writes_that_were_given_up_leave_their_room() -> None:
    tier = OffloadTier("dram", 2)
    tier.refuse(tier.admitted(tier.use([(1, 0, 2)], asked(1)), asked(1)))
    assert tier.taken == 0
    write(tier, 2, 0, 2, 2)
    tier.lose_all()
    assert (tier.taken, tier.discarded) == (0, 2)
    tier.check_integrity()


def test_what_comes_up_from_below_while_it_is_written_has_room_once() -> None:
    tier = OffloadTier("dram", 4)
    coming = tier.admitted(tier.use([(1, 0, 2)], asked(1)), asked(1))
    promoted = tier.admitted([(1, 0, 3)], asked(2))
    assert (promoted, tier.taken) == ([(1, 2, 3)], 3)
    tier.store(coming, asked(1))
    tier.store(promoted, asked(2))
    assert (held(tier, 1), len(tier)) == ([0, 1, 2], 3)
    tier.check_integrity()


def test_it_needs_writing_through() -> None:
    with pytest.raises(ConfigError, match=r"cache.connector = 'offloading' needs cache.write_policy = 'write_through'"):
        load_config(sets=["cache.connector=offloading", "cache.write_policy=write_back"])
    with pytest.raises(ConfigError, match=r"cache.connector = 'offloading' needs cache.load_at = 'scheduling'"):
        load_config(sets=["cache.connector=offloading", "cache.load_at=arrival"])
    with pytest.raises(ConfigError, match=r"cache.write_generated = false needs cache.write_policy"):
        load_config(sets=["cache.write_generated=false", "cache.write_policy=write_back"])
