"""What processes run of cases: whole ones, and the parts of others, whose results are put together again."""

from __future__ import annotations

from concurrent.futures import Future

from kvsim.sim.ended import Ended
from kvsim.sim.parts import Parts, parts_of
from kvsim.sim.run import Case, RunResult, result
from kvsim.sim.systems.size import least_cpu_s, needed_bytes


class CaseTasks:
    """One case as it is run: in one piece, or in the parts that it is made of. ``future`` has what comes of it."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.future: Future[RunResult] = Future()
        self.parts: Parts | None = None
        self.tasks = 0
        """How many processes may work on it."""
        try:
            self.parts = parts_of(case)
        except Exception as error:
            self.future.set_exception(error)
            return
        self.tasks = 1 if self.parts is None else len(self.parts)
        self._merge = None if self.parts is None else self.parts.merge()
        self._waiting: dict[int, Ended] = {}
        self._merged = 0
        """Parts that are put together: the first so many."""

    @property
    def least_cpu_s(self) -> float:
        """CPU seconds that a task takes, about."""
        return least_cpu_s(self.case.plan, self.case.workload) / max(self.tasks, 1)

    @property
    def needed_bytes(self) -> float:
        """Memory that a task takes, about."""
        return needed_bytes(self.case.plan, self.case.workload) / max(self.tasks, 1)

    def task(self, number: int) -> Case:
        """One of them."""
        return self.case if self.parts is None else self.parts.case(number)

    def requests(self, number: int) -> int:
        """How many requests it serves."""
        return len(self.case.workload) if self.parts is None else self.parts.requests(number)

    def failed(self, error: BaseException) -> None:
        """A task raised ``error``: so does the case."""
        if not self.future.done():
            self.future.set_exception(error)

    def done(self, number: int, found: RunResult | Ended) -> None:
        """A task is done. Of a part that was interrupted nothing is known of the whole."""
        if self.future.done():
            return
        if isinstance(found, RunResult):
            self.future.set_result(found)
        elif found.incomplete:
            self.future.cancel()
        else:
            self._waiting[number] = found
            self._put_together()

    def _put_together(self) -> None:
        """In the order of the parts: sums of floating-point numbers depend on it."""
        assert self.parts is not None and self._merge is not None
        while self._merged in self._waiting:
            self._merge.add(self._waiting.pop(self._merged), self.parts.numbers(self._merged))
            self._merged += 1
        if self._merged == self.tasks:
            self.future.set_result(result(self.case, self._merge.whole()))
