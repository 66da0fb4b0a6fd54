"""Each prefill router's choice, case by case."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from kvsim.config import load_config
from kvsim.errors import ConfigError
from kvsim.sim.routing import PREFILL_ROUTERS, Loads, PrefixIndex, RoutingTierView, prefill_router
from kvsim.sim.routing.prefill import Affinity, PrefillRouter
from kvsim.sim.routing.prefix_index import Path

END = 1 << 60
SHARED: Path = ((0, 0, END),)
OWN: Path = ((-1, 0, END),)


def router(name: str, loads: Loads, index: PrefixIndex | None = None, **changes: object) -> PrefillRouter:
    options: dict[str, object] = {
        "backlog_tokens": [0.0] * len(loads.loads),
        "index": index or PrefixIndex(),
        "block_size": 16,
        "slack": 1.0,
        "generator": np.random.default_rng(0),
    }
    named = {"prefill": name, "load_guard": changes.pop("guard", 2.0), "candidates": changes.pop("num_candidates", 4)}
    routing = load_config().config.routing.model_copy(update=named)
    return prefill_router(routing, loads=loads, **(options | changes))  # type: ignore[arg-type]


def loaded(*loads: int) -> Loads:
    heap = Loads(len(loads))
    for instance, load in enumerate(loads):
        heap.add(instance, load)
    return heap


def test_round_robin_takes_turns() -> None:
    chosen = router("round_robin", loaded(9, 0, 0))
    assert [chosen.choose(OWN, 1, -1) for _ in range(5)] == [0, 1, 2, 0, 1]


def test_least_loaded_takes_the_least_and_of_equals_the_first() -> None:
    assert router("least_loaded", loaded(3, 1, 1)).choose(OWN, 1, -1) == 1


def test_two_choices_never_takes_the_most_loaded_of_two() -> None:
    heap = loaded(5, 0)
    chosen = router("two_choices", heap)
    picks = [chosen.choose(OWN, 1, -1) for _ in range(400)]
    assert 0.65 < picks.count(1) / 400 < 0.85
    assert router("two_choices", heap).choose(OWN, 1, -1) == picks[0]


def test_affinity_without_anything_known_takes_the_least_loaded() -> None:
    assert router("affinity", loaded(2, 0, 1)).choose(SHARED, 100, -1) == 1


def test_affinity_follows_the_longest_prefix() -> None:
    index = PrefixIndex()
    index.computed(1, SHARED, 2)
    index.computed(2, SHARED, 5)
    assert router("affinity", loaded(0, 0, 0), index).choose(SHARED, 100, -1) == 2


def test_affinity_weighs_the_backlog_against_the_prefix() -> None:
    index = PrefixIndex()
    index.computed(1, SHARED, 2)
    for backlog_tokens, expected in ((31.0, 1), (33.0, 0)):
        chosen = router("affinity", loaded(0, 0), index, backlog_tokens=[0.0, backlog_tokens])
        assert chosen.choose(SHARED, 100, -1) == expected


def test_affinity_guards_against_overload() -> None:
    index = PrefixIndex()
    index.computed(1, SHARED, 5)
    heap = loaded(1, 3, 0)
    assert router("affinity", heap, index, guard=1.5, slack=1.0).choose(SHARED, 100, -1) == 1
    assert router("affinity", heap, index, guard=1.4, slack=1.0).choose(SHARED, 100, -1) == 2


def test_affinity_leaves_who_has_no_seat_while_another_has_one() -> None:
    index = PrefixIndex()
    index.computed(1, SHARED, 5)
    for loads, expected in (((2, 3), 1), ((2, 4), 0), ((4, 5), 1)):
        chosen = router("affinity", loaded(*loads), index, seats=4.0)
        assert chosen.choose(SHARED, 100, -1) == expected


def test_affinity_returns_to_the_session_while_its_prefix_lasts() -> None:
    index = PrefixIndex()
    heap = loaded(0, 0)
    chosen = router("affinity", heap, index)
    assert isinstance(chosen, Affinity)
    assert chosen.choose(SHARED, 100, 7) == 0
    heap.add(0, 1)
    index.computed(0, SHARED, 4)
    assert chosen.choose(SHARED, 100, 7) == 0
    index.evicted(0, 0, 0)
    assert chosen.choose(SHARED, 100, 7) == 1


def test_affinity_looks_no_further_than_a_prompt_can_hit() -> None:
    """Of 32 tokens in blocks of 16 one block can be hit: the longer holder is no better than the other."""
    index = PrefixIndex()
    index.computed(1, SHARED, 1)
    index.computed(2, SHARED, 9)
    chosen = router("affinity", loaded(1, 0, 1), index, backlog_tokens=[0.0, 0.0, 1.0])
    assert chosen.choose(SHARED, 32, -1) == 1


class Waiting:
    """So long for the tier at hand, and so much longer for each farther one."""

    def __init__(self, wait_s: float, more_s: float) -> None:
        self._wait_s, self._more_s = wait_s, more_s

    def wait_s(self, place: int, chain: int) -> float:
        return self._wait_s + place * self._more_s


def waiting(wait_s: float, more_s: float) -> list[Waiting]:
    return [Waiting(wait_s, more_s)] * 3


def below(copies: dict[int, int], *reach: Sequence[tuple[int, float]], waits_blocks: float = 0.0) -> RoutingTierView:
    """Of chain 0, in chunks of 4 blocks."""
    near = [list(tiers) for tiers in reach]
    return RoutingTierView(lambda chain: copies if chain == 0 else {}, near, waiting(waits_blocks, 0.0), 4, 1.0)


OWN_TIERS = [[(0, 0.5)], [(1, 0.5)], [(2, 0.5)]]


def test_affinity_follows_what_can_be_loaded() -> None:
    seen = below({1: 2, 2: 5}, *OWN_TIERS)
    assert router("affinity", loaded(0, 0, 0), tier_view=seen).choose(SHARED, 1000, -1) == 2
    assert router("affinity", loaded(0, 0, 9), tier_view=seen).choose(SHARED, 1000, -1) == 1  # guarded
    assert router("affinity", loaded(0, 0, 0), tier_view=seen).choose(OWN, 1000, -1) == 0


def test_what_can_be_loaded_counts_for_what_that_spares() -> None:
    """Eight blocks of 16 tokens, at half: 64 tokens of backlog outweigh them."""
    seen = below({1: 2}, *OWN_TIERS)
    for backlog_tokens, expected in ((63.0, 1), (65.0, 0)):
        chosen = router("affinity", loaded(0, 0, 0), backlog_tokens=[0.0, backlog_tokens, 0.0], tier_view=seen)
        assert chosen.choose(SHARED, 1000, -1) == expected


def test_a_queue_before_a_tier_makes_it_worth_less() -> None:
    """Loading saves four blocks' time, and begins three or five later."""
    for waits_blocks, expected in ((3.0, 1), (5.0, 0)):
        seen = below({1: 2}, *OWN_TIERS, waits_blocks=waits_blocks)
        assert router("affinity", loaded(0, 0, 0), tier_view=seen).choose(SHARED, 1000, -1) == expected


def test_as_many_tiers_are_looked_at_as_there_may_be_candidates_the_latest_first() -> None:
    """What everybody reaches, the latest of all, is none of them."""
    shared = (9, 0.5)
    seen = below({1: 5, 2: 2, 9: 1}, ((0, 0.5), shared), ((1, 0.5), shared), ((2, 0.5), shared))
    for num_candidates, expected in ((1, 2), (2, 1)):
        chosen = router("affinity", loaded(0, 0, 0), tier_view=seen, num_candidates=num_candidates)
        assert chosen.choose(SHARED, 1000, -1) == expected


def test_a_busy_tier_takes_nothing_from_a_nearer_one() -> None:
    copies, reach = {1: 3, 2: 4}, [[(1, 0.5), (2, 0.5)], [], []]
    seen = RoutingTierView(lambda chain: copies, reach, waiting(0.0, 99.0), 4, 1.0)
    index = PrefixIndex()
    for cached_blocks, expected in ((5, 0), (7, 1)):  # three chunks at half are six blocks
        index.computed(1, SHARED, cached_blocks)
        assert router("affinity", loaded(1, 0, 0), index, tier_view=seen).choose(SHARED, 1000, -1) == expected


def test_what_tiers_have_begins_where_its_chain_does_and_ends_with_the_last_chunk_a_prompt_can_load() -> None:
    """Chain 3 begins at block 8; of a prompt of 15 blocks tiers give three chunks of four, though they have four."""
    path: Path = ((0, 0, 8), (3, 8, END))
    seen = RoutingTierView(lambda chain: {2: 2} if chain == 3 else {}, OWN_TIERS, waiting(0.0, 0.0), 4, 1.0)
    index = PrefixIndex()
    for cached_blocks, expected in ((5, 2), (7, 1)):  # twelve at half
        index.computed(1, path, cached_blocks)
        assert router("affinity", loaded(0, 0, 0), index, tier_view=seen).choose(path, 16 * 15 + 1, -1) == expected
    assert (
        router("affinity", loaded(0, 0, 0), tier_view=seen).choose(path, 16 * 8, -1) == 0
    )  # ends before chain 3 begins


def test_tiers_add_to_each_other() -> None:
    """The nearer one has four blocks at 0.75, the other one eight more at 0.25: as much as five in a cache."""
    index = PrefixIndex()
    for cached_blocks, expected in ((4, 1), (6, 2)):
        index.computed(2, SHARED, cached_blocks)
        seen = below({1: 1, 4: 3}, (), ((1, 0.75), (4, 0.25)), ())
        assert router("affinity", loaded(0, 0, 0), index, tier_view=seen).choose(SHARED, 1000, -1) == expected


def test_a_cached_block_is_worth_more_than_one_below() -> None:
    index = PrefixIndex()
    index.computed(2, SHARED, 6)
    assert router("affinity", loaded(0, 0, 0), index, tier_view=below({1: 2}, *OWN_TIERS)).choose(SHARED, 1000, -1) == 2
    assert router("affinity", loaded(0, 0, 0), index, tier_view=below({1: 4}, *OWN_TIERS)).choose(SHARED, 1000, -1) == 1


def test_what_all_reach_favours_nobody_and_spares_the_busy() -> None:
    shared = below({0: 3}, *(((0, 0.5),) for _ in range(3)))
    index = PrefixIndex()
    index.computed(2, SHARED, 12)
    for backlog_tokens, expected in ((95.0, 2), (97.0, 0)):
        chosen = router("affinity", loaded(0, 0, 0), index, backlog_tokens=[0.0, 0.0, backlog_tokens], tier_view=shared)
        assert chosen.choose(SHARED, 1000, -1) == expected


def test_of_those_at_one_tier_the_least_loaded_is_asked() -> None:
    rack = below({7: 2}, ((6, 0.5),), ((7, 0.5),), ((7, 0.5),))
    assert router("affinity", loaded(0, 2, 1), tier_view=rack).choose(SHARED, 1000, -1) == 2


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"routing.prefill: unknown policy 'afinity'; did you mean 'affinity'"):
        router("afinity", loaded(0))


@pytest.mark.parametrize("name", PREFILL_ROUTERS)
def test_every_known_name_makes_a_router(name: str) -> None:
    assert 0 <= router(name, loaded(0, 0)).choose(SHARED, 5, 1) < 2
