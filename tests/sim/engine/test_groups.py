"""Blocks by groups of layers: what a sequence holds in closed form, hits across groups, and room at admission."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.plan.engine_settings import EngineSettings, KvGroup
from kvsim.sim.engine.batch import DecodeBatch
from kvsim.sim.engine.groups import GroupedPool
from kvsim.sim.engine.hybrid import HybridScheduler
from kvsim.sim.engine.sequence import RequestState, Sequence, block_path
from kvsim.sim.engine.step import Step
from kvsim.workload.request import Request

FULL = KvGroup("full")


def engine(groups: list[KvGroup], block_size: int, num_blocks: int = 5000, **changes: object) -> HybridScheduler:
    values: dict[str, object] = {
        "num_blocks": num_blocks,
        "block_size": block_size,
        "max_num_batched_tokens": 4096,
        "max_num_seqs": 8,
        "max_model_len": 4096,
        "enable_prefix_caching": True,
        "enable_chunked_prefill": True,
        "long_prefill_token_threshold": 0,
        "watermark": 0.0,
        "kv_groups": tuple(groups),
    }
    own = EngineSettings(**(values | changes))  # type: ignore[arg-type]
    return HybridScheduler(own, GroupedPool(own, None), DecodeBatch(block_size, False))


def request(pieces: list[tuple[int, int]], output_tokens: int, block_size: int, number: int = 0) -> Sequence:
    """``pieces``: chains, and how many tokens of each the prompt has."""
    prompt_tokens = sum(tokens for _, tokens in pieces)
    asked = Request(
        request_id=number,
        arrival_s=0.0,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        session_id=number,
        pieces=tuple(pieces),
        output_chain=-1 - number,
        priority=0,
    )
    return Sequence(RequestState(asked, block_path(asked, block_size), output_tokens), prompt_tokens, output_tokens)


def step(scheduler: HybridScheduler) -> None:
    """One step, synchronous."""
    scheduler.schedule()
    found = Step(scheduler.joined, scheduler.preempted)
    scheduler.advance(found, stops_at_first_token=False)
    for sequence in found.ended:
        scheduler.finish(sequence)


def run(scheduler: HybridScheduler, *sequences: Sequence) -> None:
    for sequence in sequences:
        scheduler.submit(sequence)
    while scheduler.running or scheduler.waiting:
        step(scheduler)


@settings(max_examples=40)
@given(st.integers(2, 16), st.integers(2, 90), st.integers(1, 8), st.integers(1, 120), st.integers(2, 60))
def test_a_sequence_holds_what_each_kind_of_layer_looks_at(
    block_size: int, window: int, chunk_blocks: int, prompt_tokens: int, output_tokens: int
) -> None:
    """In the step that computes token c: of all blocks up to it those that are not wholly before the first token that
    is looked at, c - W + 1 with a window, the beginning of c's chunk, and c - 1 with a state.
    """
    chunk = chunk_blocks * block_size
    groups = [KvGroup("window", window), FULL, KvGroup("chunk", chunk), KvGroup("state")]
    scheduler = engine(groups, block_size)
    sequence = request([(0, prompt_tokens)], output_tokens, block_size)
    scheduler.submit(sequence)
    while sequence.computed < prompt_tokens:
        step(scheduler)
    for computed in range(prompt_tokens, prompt_tokens + output_tokens - 1):
        scheduler.schedule()
        blocks = computed // block_size + 1
        behind = [max(0, computed - window + 1), 0, computed // chunk * chunk, computed - 1]
        assert scheduler.held_blocks(sequence) == [blocks - tokens // block_size for tokens in behind]
        scheduler.advance(Step([], []), stops_at_first_token=False)


def test_all_blocks_are_free_once_all_is_over() -> None:
    scheduler = engine([KvGroup("window", 20), KvGroup("window", 20), FULL], 4, num_blocks=60)
    run(scheduler, *(request([(0, 30), (number, 17)], 30, 4, number) for number in range(1, 6)))
    scheduler.pool.check_integrity()
    assert scheduler.pool.num_free == 60
    scheduler.pool.forget()
    scheduler.pool.check_integrity()
    assert scheduler.pool.num_blank == 60


def test_a_hit_needs_the_window_s_blocks_alone() -> None:
    """Of the window's ten blocks eight were behind it in the last step, and are the first to go after blank ones."""
    scheduler = engine([KvGroup("window", 9), FULL], 4, num_blocks=23)
    run(scheduler, request([(0, 40)], 2, 4))
    assert scheduler.pool.num_blank == 23 - 10 - 10
    later = request([(0, 40), (7, 8)], 2, 4, 1)
    assert scheduler.pool.match(later.path, 11) == (10, 2 + 10)
    scheduler.pool.take(3 + 8)
    assert scheduler.pool.match(later.path, 11) == (10, 2 + 10)
    scheduler.pool.take(1)
    assert scheduler.pool.match(later.path, 11) == (0, 0)


def test_a_hit_is_as_long_as_the_shortest_of_all_groups() -> None:
    scheduler = engine([KvGroup("state"), FULL], 4)
    run(scheduler, request([(0, 23)], 1, 4))
    assert scheduler.pool.match(request([(0, 40)], 1, 4, 1).path, 9) == (5, 1 + 5)
    assert scheduler.pool.match(request([(0, 19), (3, 9)], 1, 4, 2).path, 6) == (0, 0)


def test_admission_asks_for_no_more_than_a_window_may_hold() -> None:
    """100 tokens: 25 blocks with full attention; with a window those of min(8 - 1 + 8, 100) tokens and one more, with
    chunks those of min(8 + 8, 100).
    """
    tight = {"max_num_batched_tokens": 8, "max_model_len": 100}
    for kind, num_blocks, is_admitted in (
        ("window", 25 + 5, True), ("window", 25 + 4, False), ("chunk", 25 + 4, True), ("chunk", 25 + 3, False),
    ):  # fmt: skip
        scheduler = engine([KvGroup(kind, 8), FULL], 4, num_blocks=num_blocks, **tight)
        assert scheduler.settings.blocks_of(100) <= num_blocks or not is_admitted
        scheduler.submit(request([(0, 100)], 1, 4))
        scheduler.schedule()
        assert bool(scheduler.running) is is_admitted


def test_of_equal_states_the_second_request_waits_for_the_first_one_s() -> None:
    """A state cannot be read before the step that writes it is over."""
    scheduler = engine([KvGroup("state"), FULL], 4)
    for number in range(2):
        scheduler.submit(request([(0, 23)], 3, 4, number))
    scheduler.schedule()
    assert [tokens for _, tokens in scheduler.chunks] == [20]
    assert len(scheduler.running) == 1


def test_one_group_with_room_for_as_many_sequences() -> None:
    """Of 40 tokens a sequence has 10 blocks with full attention, 9 / 4 + 1 behind a window of 10, half of a chunk of 16
    and one more, and one state: 17.25, where one group has 10.
    """
    own = engine([FULL, KvGroup("window", 10), KvGroup("chunk", 16), KvGroup("state")], 4, num_blocks=1725).settings
    assert own.in_one_group(40).num_blocks == 1000
    assert own.in_one_group(40).kv_groups == ()
    assert own.in_one_group(4).num_blocks == 1725 // 4
