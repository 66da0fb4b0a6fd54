"""One engine and a log of what it tells the system: ``(time, event)``, exactly. A step takes a second."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import Row, coefficients, plan, workload

from kvsim.sim.clock import Clock
from kvsim.sim.engine.engine import Engine
from kvsim.sim.engine.listener import Role
from kvsim.sim.engine.sequence import RequestState, Sequence, block_path
from kvsim.sim.log.steps import StepLog
from kvsim.steptime import AffineStepTime

pytestmark = pytest.mark.sources

Log = list[tuple[float, str]]


class Recorder:
    """A listener that writes down what it is told."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.log: Log = []

    def prefilled(self, engine: Engine, sequence: Sequence) -> None:
        self.log.append((self.clock.now, f"{_name(sequence)} has {sequence.ready}"))

    def preempted(self, engine: Engine, sequence: Sequence) -> None:
        self.log.append((self.clock.now, f"{_name(sequence)} preempted"))

    def finished(self, engine: Engine, sequence: Sequence) -> None:
        self.log.append((self.clock.now, f"{_name(sequence)} done"))


def _name(sequence: Sequence) -> str:
    return "abcdef"[sequence.state.request.request_id]


class Bench:
    """An engine with its clock; requests are (arrival, prompt, output)."""

    def __init__(self, role: Role, requests: list[tuple[float, int, int]], **engine_settings: object) -> None:
        chosen = {"num_blocks": 100, "block_size": 4, "max_num_batched_tokens": 8, **engine_settings}
        self.settings = replace(plan().colocated_settings, **chosen)
        self.clock = Clock()
        self.listener = Recorder(self.clock)
        self.steps = StepLog()
        step_time = AffineStepTime(coefficients(const_s=1.0))
        self.engine = Engine(self.clock, 0, role, self.settings, step_time, self.listener, self.steps)
        rows = workload([Row(*request) for request in requests])
        self.states = [RequestState(r, block_path(r, self.settings.block_size), r.output_tokens) for r in rows]

    def submit_all(self) -> None:
        for state in self.states:
            request = state.request
            sequence = Sequence(state, request.prompt_tokens, state.output_tokens)
            self.clock.schedule(request.arrival_s, callback=lambda _, s=sequence: self.engine.submit(s))

    def log(self) -> Log:
        self.clock.run_to_stop()
        self.engine.pool.check_integrity()
        return self.listener.log


def test_a_prompt_in_two_chunks_then_an_answer() -> None:
    bench = Bench("colocated", [(0.5, 10, 3)])
    bench.submit_all()
    assert bench.log() == [(1.5, "a has 8"), (2.5, "a has 10"), (4.5, "a done")]
    assert bench.states[0].first_token_s == 2.5


def test_a_later_prompt_joins_at_the_next_step_boundary() -> None:
    bench = Bench("colocated", [(0.0, 4, 6), (2.3, 4, 2)])
    bench.submit_all()
    assert bench.log() == [(1.0, "a has 4"), (4.0, "b has 4"), (5.0, "b done"), (6.0, "a done")]


def test_at_one_instant_the_arrival_comes_before_the_boundary() -> None:
    bench = Bench("colocated", [(0.0, 4, 6), (2.0, 4, 2)])
    bench.submit_all()
    assert bench.log() == [(1.0, "a has 4"), (3.0, "b has 4"), (4.0, "b done"), (6.0, "a done")]


def test_an_answer_of_one_token_ends_with_its_prompt() -> None:
    bench = Bench("colocated", [(0.0, 4, 4), (1.5, 4, 1)])
    bench.submit_all()
    assert bench.log() == [(1.0, "a has 4"), (3.0, "b has 4"), (3.0, "b done"), (4.0, "a done")]


def test_the_younger_is_preempted_and_comes_back_when_there_is_room() -> None:
    bench = Bench("colocated", [(0.0, 4, 8), (0.0, 4, 8)], num_blocks=4)
    bench.submit_all()
    assert bench.log() == [
        (1.0, "a has 4"),
        (1.0, "b has 4"),
        (5.0, "b preempted"),
        (8.0, "a done"),
        (9.0, "b has 9"),
        (11.0, "b done"),
    ]
    assert (bench.states[1].preemptions, bench.states[1].recomputed_tokens) == (1, 4)


def test_asynchronous_an_arrival_in_a_step_joins_the_one_after_the_next() -> None:
    bench = Bench("colocated", [(0.0, 4, 6), (2.3, 4, 2)], async_scheduling=True)
    bench.submit_all()
    assert bench.log() == [(1.0, "a has 4"), (5.0, "b has 4"), (6.0, "a done"), (6.0, "b done")]


@pytest.mark.parametrize(("asynchronous", "done_s"), [(False, 3.0), (True, 4.0)])
def test_asynchronous_a_seat_is_free_a_step_later(asynchronous: bool, done_s: float) -> None:
    requests = [(0.0, 4, 2), (0.0, 4, 8), (0.0, 4, 1)]
    bench = Bench("colocated", requests, max_num_seqs=2, async_scheduling=asynchronous)
    bench.submit_all()
    assert (2.0, "a done") in bench.log() and (done_s, "c done") in bench.log()


@pytest.mark.parametrize(("asynchronous", "done_s"), [(False, 4.0), (True, 5.0)])
def test_asynchronous_freed_blocks_serve_a_step_later(asynchronous: bool, done_s: float) -> None:
    requests = [(0.0, 4, 3), (0.0, 4, 8), (1.5, 9, 1)]
    bench = Bench("colocated", requests, num_blocks=6, max_num_batched_tokens=16, async_scheduling=asynchronous)
    bench.submit_all()
    assert (3.0, "a done") in bench.log() and (done_s, "c done") in bench.log()


def test_asynchronous_an_idle_engine_starts_at_once() -> None:
    bench = Bench("colocated", [(0.5, 10, 3), (9.25, 4, 1)], async_scheduling=True)
    bench.submit_all()
    assert bench.log() == [
        (1.5, "a has 8"),
        (2.5, "a has 10"),
        (4.5, "a done"),
        (10.25, "b has 4"),
        (10.25, "b done"),
    ]


def test_asynchronous_a_token_on_its_way_survives_a_preemption() -> None:
    """b's fifth token comes from a step under way when its blocks go; it need not be generated again."""
    bench = Bench("colocated", [(0.0, 4, 8), (0.0, 4, 8)], num_blocks=4, async_scheduling=True)
    bench.submit_all()
    log = bench.log()
    assert [event for _, event in log].count("b preempted") == 1
    bench.steps.flush()
    assert (8.0, "a done") in log and bench.steps.itl.distribution().count + 2 == 16


def test_a_static_batch_lets_nobody_join_once_it_decodes() -> None:
    bench = Bench("colocated", [(0.0, 4, 3), (0.0, 4, 2), (1.5, 4, 1)], batching="static")
    bench.submit_all()
    assert bench.log() == [
        (1.0, "a has 4"),
        (1.0, "b has 4"),
        (2.0, "b done"),
        (3.0, "a done"),
        (4.0, "c has 4"),
        (4.0, "c done"),
    ]


def test_seats_are_limited() -> None:
    bench = Bench("colocated", [(0.0, 4, 2), (0.0, 4, 1)], max_num_seqs=1)
    bench.submit_all()
    assert bench.log() == [(1.0, "a has 4"), (2.0, "a done"), (3.0, "b has 4"), (3.0, "b done")]


def test_a_prefill_engine_keeps_the_blocks_until_they_are_released() -> None:
    bench = Bench("prefill", [(0.0, 8, 0), (0.0, 8, 0)], num_blocks=3)
    bench.submit_all()
    released: list[Sequence] = []
    bench.listener.prefilled = lambda engine, sequence: (  # type: ignore[method-assign]
        Recorder.prefilled(bench.listener, engine, sequence),
        released.append(sequence),
    )
    bench.clock.schedule(5.0, callback=lambda _: bench.engine.release(released[0]))
    assert bench.log() == [(1.0, "a has 8"), (6.0, "b has 8")]
    assert bench.engine.pool.num_free == 1


def test_a_decode_engine_reserves_then_runs_the_last_prompt_token() -> None:
    bench = Bench("decode", [(0.0, 9, 3)])
    sequence = Sequence(bench.states[0], 9, 3)
    assert bench.engine.reserve(sequence) == 0
    assert bench.engine.pool.num_free == 97
    bench.clock.schedule(2.5, callback=lambda _: bench.engine.join(sequence))
    assert bench.log() == [(5.5, "a done")]
    assert bench.states[0].first_token_s == 3.5
    assert bench.engine.pool.num_free == 100


def test_a_decode_engine_turns_down_what_does_not_fit_beside_the_reservations() -> None:
    """12 blocks: a takes 3 and keeps 2 for its answer; b needs 5 and 2."""
    for num_blocks, fits in ((12, True), (11, False)):
        bench = Bench("decode", [(0.0, 9, 3), (0.0, 17, 3)], num_blocks=num_blocks, output_margin_tokens=8)
        first, second = Sequence(bench.states[0], 9, 3), Sequence(bench.states[1], 17, 3)
        assert bench.engine.reserve(first) == 0
        assert (bench.engine.reserve(second) is not None) == fits


def test_a_step_that_preempts_admits_nobody_not_even_whose_kv_has_come() -> None:
    """At 1 s a needs a third block and takes it from b; c, which came at 0.5 s, starts at 2 s."""
    bench = Bench("decode", [(0.0, 8, 3), (0.0, 5, 3), (0.5, 8, 1)], num_blocks=6)
    sequences = [Sequence(j, j.request.prompt_tokens, j.output_tokens) for j in bench.states]
    for sequence in sequences:
        assert bench.engine.reserve(sequence) == 0
        bench.clock.schedule(sequence.state.request.arrival_s, callback=lambda _, s=sequence: bench.engine.join(s))
    assert bench.log() == [
        (1.0, "b preempted"),
        (3.0, "a done"),
        (3.0, "c done"),
        (4.0, "b has 6"),
        (5.0, "b done"),
    ]


def test_a_cancelled_reservation_gives_its_blocks_back() -> None:
    bench = Bench("decode", [(0.0, 9, 3)])
    sequence = Sequence(bench.states[0], 9, 3)
    bench.engine.reserve(sequence)
    bench.engine.cancel(sequence)
    assert bench.engine.pool.num_free == 100
    assert bench.log() == []


def test_steps_and_intervals_are_logged_without_a_row_per_token() -> None:
    bench = Bench("colocated", [(0.0, 8, 1001)], num_blocks=300)
    bench.submit_all()
    bench.log()
    bench.steps.flush()
    assert (bench.steps.steps, bench.steps.busy_s) == (1001, 1001.0)
    assert bench.steps.itl.distribution().count == 1000
    assert bench.steps.itl.distribution().mean == pytest.approx(1.0)
    assert bench.clock.num_events < 20
