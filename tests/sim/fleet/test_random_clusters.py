"""Random small clusters of every kind of engine, tier and network, to whose parts and clients something happens: nobody
is lost or counted twice, leaps equal single steps, and when all have drained every book is closed.

More of them than a test has time for: ``PYTHONPATH=$PWD:tests:tests/sim/fleet python
tests/sim/fleet/test_random_clusters.py 0 1000``.
"""

from __future__ import annotations

import sys
from random import Random

import pytest
from builders import stepwise
from hypothesis import given, settings
from hypothesis import strategies as st
from random_clusters import drain, random_cluster
from test_random_fleets import run, same_fleets


@pytest.mark.parametrize("separated", [False, True])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_book_is_closed_when_all_have_drained(separated: bool, seed: int) -> None:
    found, requests = random_cluster(Random(seed), separated)
    (leaping, ours), (stepping, theirs) = (run(kind, requests, separated) for kind in (found, stepwise(found)))
    same_fleets(leaping, ours, stepping, theirs)
    for system in (leaping, stepping):
        drain(system)


if __name__ == "__main__":
    every = test_every_book_is_closed_when_all_have_drained.hypothesis.inner_test
    first, end = map(int, sys.argv[1:])
    for number in range(first, end):
        for is_separated in (False, True):
            every(is_separated, number)
    print(f"{2 * (end - first)} clusters, nothing found")
