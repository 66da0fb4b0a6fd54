"""Sweeps whose runs take no time, for what surrounds a run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from kvsim.sweep.plan import Plan, Run
from kvsim.sweep.sweep import read_sweep
from kvsim.sweep.tasks import Done, Task, head_of, line_of

SERVER = "server: vllm serve meta-llama/Llama-3.1-8B-Instruct\n"


def plan_of(folder: Path, text: str, *, head: str = SERVER) -> Plan:
    """The plan of a file that says this."""
    path = folder / "s.yaml"
    path.write_text(head + text)
    return Plan(read_sweep(path))


def row_of(run: Run, goodput: float | None = 1.0, error: str | None = None) -> dict[str, object]:
    """What such a run's row says."""
    figures = {"goodput_requests_per_s": goodput, "overloaded": False, "steady": True}
    found = {} if error else {f"unified.{name}": value for name, value in figures.items()}
    return head_of(run) | {"error": error} | found


class Toy:
    """Threads that end each run when ``perform`` does; an ``EOFError`` of its is a worker's death."""

    ahead = 2

    def __init__(self, slots: int, perform: Callable[[Task], Done]) -> None:
        self.slots, self._perform = slots, perform
        self._pool = ThreadPoolExecutor(slots)

    def __enter__(self) -> Toy:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def submit(self, task: Task) -> Future[Done]:
        return self._pool.submit(self._perform, task)

    def is_death(self, error: BaseException) -> bool:
        return isinstance(error, EOFError)


def done(task: Task) -> Done:
    """The run has ended well."""
    return Done(task.run, line_of(row_of(task.run, float(task.run.number))), False, 0.5, "toy")
