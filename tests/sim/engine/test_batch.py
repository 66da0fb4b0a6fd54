"""Sums over decoding sequences against the sequences themselves."""

from __future__ import annotations

from random import Random

from builders import Row, workload
from hypothesis import given
from hypothesis import strategies as st

from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.sequence import RequestState, Sequence, block_path


def sequence(serial: int, computed: int, remaining: int) -> Sequence:
    request = next(iter(workload([Row(0.0, computed, remaining)])))
    found = Sequence(RequestState(request, block_path(request, 4), remaining), computed, remaining)
    found.computed, found.serial = computed, serial
    return found


def blocks(tokens: int, block_size: int) -> int:
    return -(-tokens // block_size)


@given(st.randoms(use_true_random=False))
def test_sums_equal_those_over_the_sequences(rng: Random) -> None:
    block_size = rng.randint(1, 5)
    batch = DecodeBatch(block_size, True)
    lengths: dict[Sequence, int] = {}
    left: dict[Sequence, int] = {}
    for serial in range(40):
        verb = rng.choice(["add", "add", "step", "step", "remove"])
        if verb == "add":
            added = sequence(serial, rng.randint(1, 20), rng.randint(1, 12))
            lengths[added], left[added] = added.computed, added.remaining
            batch.add(added)
        elif verb == "remove" and lengths:
            removed = rng.choice(list(lengths))
            batch.remove(removed)
            assert (removed.computed, removed.remaining) == (lengths.pop(removed), left.pop(removed))
        elif lengths:
            batch.steps += 1
            for member in lengths:
                lengths[member] += 1
                left[member] -= 1
            done = [member for member in lengths if not left[member]]
            assert batch.pop_finished() == done
            for member in done:
                assert (member.computed, member.remaining) == (lengths.pop(member), left.pop(member))
        assert batch.num == len(lengths)
        if lengths:
            check(batch, list(lengths.values()), list(left.values()), block_size, rng)


def check(batch: DecodeBatch, lengths: list[int], left: list[int], block_size: int, rng: Random) -> None:
    assert batch.steps_to_next_finish() == min(left)
    assert batch.longest_tokens == max(lengths) + 1
    first, count = rng.randint(0, 6), rng.randint(0, 15)
    needed = sum(blocks(n + first + count, block_size) - blocks(n + first, block_size) for n in lengths)
    assert batch.blocks_needed(first, count) == needed
    free, limit = rng.randint(0, 30), rng.randint(0, 25)
    steps = batch.steps_within(free, first, limit)
    assert 0 <= steps <= limit
    assert batch.blocks_needed(first, steps) <= free
    if steps < limit:
        assert batch.blocks_needed(first, steps + 1) > free
