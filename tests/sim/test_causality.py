"""Nothing is used before it is there: KV of prompts between instances, block by block, and the laws that watch it."""

from __future__ import annotations

from collections import defaultdict
from random import Random

import pytest
from both_ways import random_case
from builders import KV_BYTES_PER_TOKEN, Row, by_request, coefficients, plan, served, workload
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.plan.plan import Plan
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.sequence import Sequence
from kvsim.sim.log.conservation import kv_checks
from kvsim.sim.outcome import outcome
from kvsim.sim.systems.kv_transfer import KvTransfer, begun_of
from kvsim.sim.systems.pd import PdSystem
from kvsim.workload.workload import Workload

pytestmark = pytest.mark.sources

SLOW = 16_000.0
"""NIC bytes/s: a second for a block of 16 tokens. Steps take a second each, whatever they do."""
IN_TURN = ("pd_separation.transfer.contention=fifo",)
OPTIMISTIC = (
    *IN_TURN,
    "pd_separation.transfer.decode_start=first_chunk",
    "pd_separation.transfer.pipeline_chunk_blocks=1",
)


def with_cache(found: Plan, prefix_cache: str) -> Plan:
    return found.with_settings("prefill", "decode", prefix_cache=prefix_cache)


@pytest.mark.parametrize("prefix_cache", ["paged", "radix"])
@pytest.mark.parametrize("first_token", ["decode", "prefill"])
def test_a_prompt_does_not_count_as_there_while_it_is_on_its_way(first_token: str, prefix_cache: str) -> None:
    """Each has 64 tokens in common and 16 of its own. A is computed at 1 s and arrives at 6 s. B is reserved at 2 s and
    sends all of its 80 until 11 s; C comes when A is there and sends its own alone."""
    rows = [Row(at_s, 0, 9, ((0, 64), (-1 - i, 16))) for i, at_s in enumerate((0.0, 1.0, 6.5))]
    sets = (*IN_TURN, f"pd_separation.first_token={first_token}")
    found = with_cache(plan(sets=sets, nic_bytes_per_s=SLOW), prefix_cache)
    table = by_request(served(PdSystem, found, workload(rows)))
    assert table["transferred_bytes"].tolist() == [80_000, 80_000, 16_000]
    assert table["transfer_s"].tolist() == [5.0, 9.0, 4.5]
    step_s = 1.0 if first_token == "decode" else 0.0
    assert table["first_token_s"].tolist() == [6.0 + step_s, 11.0 + step_s, 12.0 + step_s]


def test_a_second_copy_serves_once_the_first_is_gone() -> None:
    """Two copies of the same head, as vLLM keeps them; the pool's books hold, and both are found again."""
    rows = [Row(0.0, 0, 2, ((0, 64), (-1, 16))), Row(0.0, 0, 40, ((0, 64), (-2, 16))), Row(30.0, 0, 2, ((0, 80),))]
    system = served(PdSystem, plan(sets=IN_TURN, nic_bytes_per_s=SLOW), workload(rows))
    assert by_request(system)["transferred_bytes"].tolist() == [80_000, 80_000, 16_000]


@pytest.mark.parametrize("prefix_cache", ["paged", "radix"])
def test_an_optimistic_start_shows_nobody_what_has_not_come(prefix_cache: str) -> None:
    """A decodes from 2 s on, its KV is there at 5 s: B, reserved at 3 s, sends everything, C, reserved at 12 s, not."""
    rows = [Row(0.0, 0, 30, ((0, 64),)), Row(2.0, 0, 30, ((0, 64), (-2, 16))), Row(11.0, 0, 30, ((0, 64), (-3, 16)))]
    found = with_cache(plan(sets=OPTIMISTIC, nic_bytes_per_s=SLOW), prefix_cache)
    table = by_request(served(PdSystem, found, workload(rows)))
    assert table["first_token_s"][0] == 3.0
    assert table["transferred_bytes"].tolist() == [64_000, 80_000, 16_000]


def test_an_answer_that_is_over_before_its_prompt_has_come_leaves_nothing() -> None:
    rows = [Row(0.0, 0, 2, ((0, 64),)), Row(3.0, 0, 2, ((0, 64),))]
    system = served(PdSystem, plan(sets=OPTIMISTIC, nic_bytes_per_s=SLOW), workload(rows))
    table = by_request(system)
    assert table["finish_s"][0] == 4.0
    assert table["transferred_bytes"].tolist() == [64_000, 64_000]
    assert system.decode_engines[0].pool.num_blank == system.decode_engines[0].settings.num_blocks


def colliding(**changes: object) -> tuple[Plan, Workload]:
    """Two prompts of four blocks grow in a prefill pool of six; the second is preempted and computed again."""
    found = plan(1, 1, nic_bytes_per_s=1e6, long_prefill_token_threshold=16, **changes)
    found = found.with_settings("prefill", num_blocks=6)
    return found, workload([Row(0.0, 0, 2, ((0, 64),)), Row(0.0, 0, 2, ((1, 64),))])


@pytest.mark.parametrize("prefix_cache", ["paged", "radix"])
def test_a_cancelled_transfer_leaves_nothing_behind(prefix_cache: str) -> None:
    found, requests = colliding()
    system = served(PdSystem, with_cache(found, prefix_cache), requests)
    table = by_request(system)
    assert table["preemptions"].tolist() == [0, 1]
    assert table["transferred_bytes"].tolist() == pytest.approx([64_000, 32_000 + 64_000])
    assert (system.kv_books.needed_bytes, system.kv_books.found_bytes) == (128_000, 128_000)


def checks_of(system: PdSystem) -> dict[str, bool]:
    checks = outcome(system, warmup_requests=0, unsteady_factor=2.0).checks
    return {check.name: check.ok for check in checks}


def broken_laws(monkeypatch: pytest.MonkeyPatch, method: str) -> list[str]:
    """Which laws do not hold where that method of an engine also hashes what it is given."""
    original = getattr(Engine, method)

    def hashing(engine: Engine, sequence: Sequence) -> object:
        if method == "cancel":
            engine.pool.enter(sequence, (sequence.num_tokens - 1) // engine.settings.block_size)
            return original(engine, sequence)
        found = original(engine, sequence)
        if found is not None:
            engine.pool.enter(sequence, (sequence.num_tokens - 1) // engine.settings.block_size)
        return found

    monkeypatch.setattr(Engine, method, hashing)
    system = PdSystem(*colliding(), 1)
    system.run()
    return [name for name, ok in checks_of(system).items() if not ok]


def test_the_laws_see_what_is_hashed_before_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = PdSystem(*colliding(), 1)
    sound.run()
    laws = [check.name for check in kv_checks(sound.kv_books)]
    assert all(checks_of(sound).values()) and set(laws) <= checks_of(sound).keys()
    assert broken_laws(monkeypatch, "reserve") == laws


def test_the_laws_see_what_a_cancelled_transfer_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = PdSystem(*colliding(), 1)
    assert broken_laws(monkeypatch, "cancel") == [kv_checks(sound.kv_books)[1].name]


class Watched(PdSystem):
    """Keeps by name, for each decode instance, every block whose KV ever came or was computed there."""

    def __init__(self, found: Plan, requests: Workload, seed: int) -> None:
        super().__init__(found, requests, seed)
        self.there: dict[int, set[tuple[int, int]]] = defaultdict(set)
        self.landed_journeys: set[int] = set()
        self.used = self.cancelled = 0

    def _names(self, sequence: Sequence, tokens: int) -> list[tuple[int, int]]:
        blocks = tokens // self._block_size
        return [(chain, place) for chain, first, end in sequence.path for place in range(first, min(end, blocks))]

    def _computed_here(self, engine: Engine) -> set[tuple[int, int]]:
        """By who is there now, up to the step under way, at whose end at the earliest others can begin with it."""
        found: set[tuple[int, int]] = set()
        for sequence in [*engine.scheduler.running, *engine.scheduler.waiting, *engine._preempted]:
            if not sequence.is_incoming:
                steps = engine.batch.steps + engine._settled
                tokens = sequence.base + steps if sequence.decoding else sequence.computed
                found.update(self._names(sequence, max(tokens, sequence.high_water)))
        return found

    def _reserve(self, transfer: KvTransfer) -> bool:
        if not super()._reserve(transfer):
            return False
        assert transfer.target is not None
        engine, sequence = transfer.target
        present = set(self._names(sequence, transfer.present_blocks * self._block_size))
        assert present <= self.there[engine.instance] | self._computed_here(engine)
        self.used += len(present)
        return True

    def preempted(self, engine: Engine, sequence: Sequence) -> None:
        if engine.role == "decode":
            self.there[engine.instance].update(self._names(sequence, sequence.high_water))
        self.cancelled += engine.role == "prefill" and begun_of(sequence.state) is not None
        super().preempted(engine, sequence)

    def _landed(self, transfer: KvTransfer) -> None:
        assert transfer.target is not None and transfer.stream is not None
        engine, sequence = transfer.target
        prompt_tokens = transfer.prefill.num_tokens
        present_tokens = 0 if self._sends_all else transfer.present_blocks * self._block_size
        moved_tokens = transfer.stream.sent_bytes / KV_BYTES_PER_TOKEN
        assert moved_tokens + present_tokens == pytest.approx(prompt_tokens, abs=1e-6)
        self.there[engine.instance].update(self._names(sequence, prompt_tokens))
        self.landed_journeys.add(sequence.state.request.request_id)
        super()._landed(transfer)

    def _start_decoding(self, transfer: KvTransfer) -> None:
        assert transfer.target is not None
        engine, sequence = transfer.target
        if not self._is_optimistic:
            assert set(self._names(sequence, transfer.prefill.num_tokens)) <= self.there[engine.instance]
        super()._start_decoding(transfer)

    def finished(self, engine: Engine, sequence: Sequence) -> None:
        if sequence.state.request.request_id in self.landed_journeys:
            self.there[engine.instance].update(self._names(sequence, sequence.computed))
        super().finished(engine, sequence)


@settings(max_examples=50)
@given(st.randoms(use_true_random=False), st.sampled_from(["paged", "radix"]))
def test_what_moves_and_what_was_there_is_what_is_needed_block_by_block(rng: Random, prefix_cache: str) -> None:
    found, requests = random_case(rng)
    served(Watched, with_cache(found, prefix_cache), requests)


def test_fixed_examples_contain_hits_and_cancelled_transfers() -> None:
    used = cancelled = 0
    for seed in range(150):
        system = served(Watched, *random_case(Random(seed)))
        used += system.used > 0
        cancelled += system.cancelled > 0
    assert used >= 20 and cancelled >= 3, (used, cancelled)


def test_of_what_one_step_computes_no_layer_leaves_before_it_is_computed() -> None:
    """A and B are in one step, B hits 48 tokens that A computes in it: the last layer of all 64 leaves at its end."""
    sets = ("pd_separation.transfer.layerwise=true", "pd_separation.transfer.contention=none")
    rows = [Row(0.0, 0, 2, ((0, 48), (-1 - i, 16))) for i in range(2)]
    found = plan(sets=sets, times=coefficients(const_s=1.0), nic_bytes_per_s=64_000.0)
    table = by_request(served(PdSystem, found, workload(rows)))
    assert table["hit_tokens"].tolist() == [0, 48]
    assert table["transfer_s"].tolist() == pytest.approx([1 / 32, 1 / 32], abs=1e-9)
