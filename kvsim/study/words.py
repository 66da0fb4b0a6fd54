"""How studies are told: their words, and the frame of their tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from kvsim.record.labels import counted, number, percent
from kvsim.study.answer import DrivenAnswer, StudyAnswer
from kvsim.study.context import Size
from kvsim.study.intervals import Interval
from kvsim.study.replication import Apart, Runs

LABELLED = (("unified", "unified"), ("pd", "PD"))
"""Names and labels."""


def plus_minus(found: Interval) -> str:
    """Mean and half width, in one unit."""
    known = math.isfinite(found.half_width)
    return f"{number(found.mean)} ± {number(found.half_width)}" if known else number(found.mean)


def preamble(studies: Mapping[str, StudyAnswer]) -> str:
    """How to read all of them."""
    shares = {study.runs.tie_share for study in studies.values()}
    said = [f"Studies: a tie is a difference surely below {100 * max(shares):g}%, an open one is not told apart."]
    if any(study.size.instances < study.size.of_instances for study in studies.values()):
        said.append("They run on fewer instances than the run above, so compare within a table only.")
    trace = max(study.size.trace_requests or 0 for study in studies.values())
    if trace:
        laid = ", which is laid end to end where that is too short"
        said.append(f"Each run serves another part of the {trace:,} requests of the trace{laid}.")
    return " ".join(said)


def said_of(apart: Apart, unit: str = " ms") -> str:
    """A difference in words; with its half width where that is not as narrow as was wanted."""
    if apart.tie:
        return "a tie"
    if apart.verdict == "open":
        return "not told apart"
    width = "" if apart.precise else f" ± {number(apart.half_width)}"
    return f"{signed(apart.mean)}{width}{unit}"


def budget_spent(runs: Runs) -> str:
    """What to add to a sentence where the budget ended the runs."""
    if runs.within_budget:
        return ""
    return f"; the budget of runs ended before each difference was known to {100 * runs.precision:g}% of itself"


def overloaded_there(study: DrivenAnswer) -> str:
    """What to add to a sentence where the run's rate is more than the study's own runs can take."""
    beyond = [f"{label} {percent(load)}" for label, load in _loads(study) if load > 1]
    if not beyond:
        return ""
    asked = f"by arithmetic these runs ask for more than they can serve ({', '.join(beyond)})"
    return f"; {asked}: times grow with their length"


def _loads(study: DrivenAnswer) -> list[tuple[str, float]]:
    return [(label, study.loads[name]) for name, label in LABELLED if name in study.loads]


def signed(value: float) -> str:
    """With its sign, plus included."""
    return f"{'+' if value > 0 else ''}{number(value)}"


def table_of(title: str, columns: Sequence[str], *, names: bool = True) -> Table:
    """An empty table; ``names``: its first column has words, else numbers."""
    table = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="",
        pad_edge=False,
        padding=(0, 1, 0, 0),
        min_width=max(map(len, title.splitlines())),
    )
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index or not names else "left", overflow="fold")
    return table


def ran_on(size: Size, requests: int) -> str:
    """On what, with how many requests, in a picture of single runs or of means."""
    return f"{size.instances} instances, {requests:,} requests"


def ran_of(study: StudyAnswer, requests: int | None = None) -> str:
    """On how many instances, how often, with how many ``requests`` a run."""
    return f"{instances_of(study.size)}, {runs_of(study.runs, requests)}"


def sample_of(study: StudyAnswer, requests: int | None = None) -> str:
    """As ``ran_of``, with the confidence of what stands in the table."""
    runs = runs_of(study.runs, requests)
    return f"{instances_of(study.size)}\n{runs}, {percent(study.runs.confidence)} intervals"


def instances_of(size: Size) -> str:
    """How many of the cluster's."""
    here, whole = size.instances, size.of_instances
    if whole == 1:
        return "on one instance"
    return f"on {here:,} of the {whole:,} instances" if here < whole else f"on all {whole:,} instances"


def runs_of(runs: Runs, requests: int | None = None) -> str:
    """How often each variant was run, with how many ``requests`` where they are the same."""
    fewest, most = runs.fewest_replications, runs.replications
    often = f"{counted(fewest, 'run')} of each" if fewest == most else f"{fewest} to {most} runs of each"
    return often if requests is None else f"{often}, {requests:,} requests a run"


def scale_of(size: Size, requests: int) -> str:
    """On how many instances, with how many requests."""
    return f"{instances_of(size)}, {requests:,} requests a run"


def at_rate(study: DrivenAnswer) -> str:
    """How hard the rate of the run above drives these runs, by their own hits."""
    loads = ", ".join(f"{label} {percent(load)}" for label, load in _loads(study))
    return f"at the run's rate, there {loads} of the maximum,\n{sample_of(study, study.requests)}"


def change(apart: Apart) -> str:
    """A difference in a table."""
    if apart.tie:
        return apart.verdict
    if math.isnan(apart.mean):
        return number(None)
    width = f" ± {number(apart.half_width)}" if math.isfinite(apart.half_width) else ", one run"
    return f"{signed(apart.mean)}{width}"


def growing_there(*shares: tuple[str, float]) -> str:
    """What to add to a sentence where most runs of some memory, by its name, were overloaded."""
    over = [name for name, growing_share in shares if growing_share >= 0.5]
    if not over:
        return ""
    return f"; {', '.join(over)}: the run's rate is too much there, and TTFT grows with the length of runs"


def saved_width(saved: Apart) -> str:
    """What is saved, as a number above zero; with its half width where that is not as narrow as was wanted."""
    width = "" if saved.precise else f" ± {number(saved.half_width)}"
    return f"{number(-saved.mean)}{width}"
