"""A queue, scheduled: every budget and scheduler that was asked for, its table, and the files that tell of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvsim._version import __version__
from kvsim.experiments.files import Writer, csv_of, write_each, write_text
from kvsim.failures import Failures
from kvsim.lab.kv.queue.budget import Budget, within
from kvsim.lab.kv.queue.conclusion import conclusion
from kvsim.lab.kv.queue.ground import check_lengths, plan_of
from kvsim.lab.kv.queue.lifecycle import Course, course_of
from kvsim.lab.kv.queue.outcome import Outcome, outcome_of
from kvsim.lab.kv.queue.pictures import one_budget, several_budgets
from kvsim.lab.kv.queue.schedulers import SCHEDULERS, VLLM
from kvsim.lab.kv.queue.served_workload import Sent
from kvsim.plan.plan import Plan
from kvsim.record.labels import NOTHING, number, percent
from kvsim.report.json_report import write_json
from kvsim.report.plots import write_figure
from kvsim.study.words import table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

WAITS = ("memory", "seat")
NAME = "schedule"
"""How its files begin."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is scheduled, by whom and where."""

    sent: Sent
    server: str
    """``vllm serve MODEL ...``."""
    gpu: str | None
    budgets: tuple[Budget, ...]
    schedulers: tuple[str, ...]
    seats: int | None = None
    """Requests in the engine at most; ``None``: as the line says."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of ``timeline.csv``: what holds from that time on."""

    budget: str
    scheduler: str
    time_ms: float
    kv_bytes: int
    """Footprints kept, or pages of the engine's own rules."""
    running: int
    waiting: int


@dataclass(frozen=True)
class Scheduled:
    """What came of it, budget by budget, and of each scheduler by scheduler."""

    asked: Asked
    courses: tuple[Course, ...]
    outcomes: tuple[Outcome, ...]

    @property
    def sentence(self) -> str:
        """The conclusion."""
        return conclusion(self.outcomes)

    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures should know."""
        rate = self.asked.sent.tokenise_us_per_token
        said = [
            "a footprint is of prompt and answer in whole blocks, shared prefixes in each of those who share them",
            f"tokenising takes {rate:g} us a token, each prompt beside the others"
            if rate
            else "tokenising takes no time: no rate was given (--tokenise-us-per-token)",
        ]
        if VLLM in self.asked.schedulers:
            said.append("vllm: pages and requests are as each step was scheduled; what they wait for is not told")
        return tuple(said)

    def table(self) -> Table:
        """A row a budget and scheduler; a single budget stands in the title, and leaves room for what is waited for."""
        several = len(self.asked.budgets) > 1
        under = "a KV budget" if several else self.asked.budgets[0].name
        what = "latency, and queueing for memory or a seat, in seconds; shares of memory"
        title = f"A queue under {under}: {self.asked.sent.name}\n{what}"
        heads = ("scheduler", "mean", "p95", "queue", *WAITS, "req/s", "missed", "peak", "mean")
        left_out = WAITS if several else ("req/s",)
        shown = [name for name in heads if name not in left_out]
        table = table_of(title, (*(("budget",) if several else ()), *shown))
        for one in self.outcomes:
            cells = [cell for name, cell in zip(heads, _cells(one), strict=True) if name in shown]
            table.add_row(*((one.budget,) if several else ()), *cells)
        for column in table.columns:
            column.no_wrap = True
        table.columns[several].justify = "left"
        return table

    def as_json(self) -> dict[str, object]:
        """Everything but the timeline."""
        return {
            "lab": NAME,
            "version": __version__,
            "conclusion": self.sentence,
            "notes": list(self.notes()),
            "workload": self.asked.sent.name,
            "server": self.asked.server,
            "gpu": self.asked.gpu,
            "tokenise_us_per_token": self.asked.sent.tokenise_us_per_token,
            "block_bytes": self.courses[0].block_bytes,
            "schedulers": {name: SCHEDULERS[name].about for name in self.asked.schedulers},
            "rows": [asdict(one) for one in self.outcomes],
            "requests": [asdict(life) for course in self.courses for life in course.lives],
        }

    def timeline(self) -> Iterator[Row]:
        """Rows of all runs, one after the other."""
        for course in self.courses:
            held = course.held
            columns = (held.times_s.tolist(), held.blocks.tolist(), held.running.tolist(), held.waiting.tolist())
            for time_s, blocks, running, waiting in zip(*columns, strict=True):
                yield Row(
                    budget=course.budget.name,
                    scheduler=course.scheduler,
                    time_ms=round(time_s * 1e3, 6),
                    kv_bytes=round(blocks * course.block_bytes),
                    running=running,
                    waiting=waiting,
                )

    def figure(self) -> Figure:
        """Over time under one budget, by budget under several."""
        name = self.asked.sent.name
        if len(self.asked.budgets) > 1:
            return several_budgets(name, self.outcomes)
        return one_budget(name, self.courses, self.outcomes)

    def write(self, folder: Path, failures: Failures, *, plots: bool = True) -> list[Path]:
        """All files into the existing ``folder``; returns what was written."""
        writers: dict[str, Writer] = {
            f"{NAME}.json": lambda path: write_json(path, self.as_json()),
            f"{NAME}.csv": lambda path: write_text(path, csv_of(self.outcomes)),
            "requests.csv": lambda path: write_text(path, csv_of([each for one in self.courses for each in one.lives])),
            "timeline.csv": lambda path: write_text(path, csv_of(list(self.timeline()))),
        }
        if plots:
            writers[f"{NAME}.png"] = lambda path: write_figure(path, self.figure())
        return write_each(folder, writers, failures)


def schedule(asked: Asked) -> Scheduled:
    """Run every scheduler under every budget. Raises a ``KvsimError`` before anything runs where one cannot be."""
    plan = plan_of(asked.server, asked.gpu, asked.seats)
    return scheduled_on(asked, plan)


def scheduled_on(asked: Asked, plan: Plan) -> Scheduled:
    """Run them on a plan of one plain engine with the seats that are asked for."""
    check_lengths(asked.sent.requests, plan)
    largest = max(asked.sent.requests, key=lambda one: one.footprint_tokens)
    blocks = plan.colocated_settings.blocks_of(largest.footprint_tokens)
    plans = [(budget, within(plan, budget, blocks, largest.id)) for budget in asked.budgets]
    courses = [course_of(asked.sent, own, budget, name) for budget, own in plans for name in asked.schedulers]
    return Scheduled(asked, tuple(courses), tuple(outcome_of(course) for course in courses))


def _cells(one: Outcome) -> Sequence[str]:
    return (
        one.scheduler,
        number(one.latency_mean_ms / 1e3),
        number(one.latency_p95_ms / 1e3),
        number(one.queue_mean_ms / 1e3),
        _s(one.wait_memory_mean_ms),
        _s(one.wait_seats_mean_ms),
        number(one.requests_per_s),
        f"{one.deadline_misses}/{one.deadlines}" if one.deadlines else NOTHING,
        percent(one.memory_peak_share),
        percent(one.memory_mean_share),
    )


def _s(time_ms: float | None) -> str:
    return NOTHING if time_ms is None else number(time_ms / 1e3)
