"""Which prefill:decode ratio serves most: every ratio is offered the same requests, more than any can take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from kvsim.capacity.demand import Demand, cache_facts, demand_of
from kvsim.capacity.gathered import served_demand
from kvsim.capacity.maximum_rates import balanced_pd_ratio, maximum_rate
from kvsim.capacity.steady import pd_residence
from kvsim.config import derived
from kvsim.errors import CapacityError
from kvsim.plan.plan import Plan
from kvsim.record.labels import number, ratio
from kvsim.record.plain import known
from kvsim.record.result import SystemResult
from kvsim.sim.run import Case
from kvsim.study.answer import StudyAnswer
from kvsim.study.catalogue import Study
from kvsim.study.context import StudyContext
from kvsim.study.intervals import Interval
from kvsim.study.measures import throughput_per_s
from kvsim.study.pictures import BLUE, GREY, ORANGE, bars_of, drawn, legend_below, plain_numbers
from kvsim.study.replication import SIGN, Apart, Figures, Replicated
from kvsim.study.words import change, plus_minus, sample_of, table_of
from kvsim.workload.workload import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Counts = tuple[int, int]
SERVED, ANALYTIC = "throughput_requests_per_s", "analytic_requests_per_s"

OVERLOAD = 1.15
"""Offered load over the largest analytic maximum rate of the grid."""
NEIGHBOURS = (-0.125, -0.0625, 0.0625, 0.125)
"""Points beside the balanced ratio, as shares of the instances that change sides."""
WITHIN = 0.8
"""Share of the first run's best throughput: points below it are not run again."""
_FILLED, _OUTLASTING = 3.0, 1.6
"""Length of a run in units of mean and of late E2E: decode fills up first, the window is in the rest."""
_FEWEST = 1_000
"""Requests of a run, where those units are short: what completes in a window of a few is chance."""
_PILOTS = 4
"""Hits depend on the ratio and the load, and both on hits, weakly."""
_CLOSE = 0.05
"""Pilots stop when the same ratio is balanced and its maximum rate is this near, relatively, to the one before."""


@dataclass(frozen=True, kw_only=True)
class RatioPoint:
    """A ratio at saturation."""

    ratio: Counts
    configured: bool
    analytic_requests_per_s: float
    """The maximum rate of what its own runs served, with what that hit; ``nan`` where that is not known."""
    throughput_requests_per_s: Interval
    difference_to_best: Apart
    best: bool
    runs: int
    tie: bool
    open: bool
    """Not told apart from the best."""
    balanced: bool
    """Where ``analytic_requests_per_s`` is highest."""

    @property
    def marks(self) -> list[str]:
        """What it is, in words."""
        marks = {
            "best": self.best,
            "tie": self.tie,
            "open": self.open,
            "balanced": self.balanced,
            "configured": self.configured,
        }
        return [word for word, is_so in marks.items() if is_so]


@dataclass(frozen=True, kw_only=True)
class RatioAnswer(StudyAnswer):
    """Every ratio, the one with the fewest prefill instances first."""

    requests: int
    """The mean of a run."""
    requests_needed: int
    """Requests of a run that a steady state takes."""
    offered_requests_per_s: float
    balanced: Counts
    best: Counts
    tied: tuple[Counts, ...]
    """With the best."""
    unsaturated: tuple[Counts, ...]
    """By arithmetic these could take more than they were offered."""
    points: tuple[RatioPoint, ...]


def pd_ratio_study(context: StudyContext) -> RatioAnswer:
    """The report's ``studies.pd_ratio``: throughput at saturation of every ratio, the best one, and its ties.

    Where ``requests`` is below ``requests_needed``, ``studies.max_requests`` or the configured sessions ended
    the runs before a steady state. Raises ``CapacityError`` where nothing completes.
    """
    plan = context.small
    asked = _asked(context, plan)
    grid = ratio_grid(plan, asked.balanced)
    found = _served(context, grid, asked)
    best = _best(found.figures)
    if not known(found.means(best, (SERVED,))[SERVED].mean):
        few = f"a steady state takes {asked.needed:,}, studies.max_requests is {plan.config.studies.max_requests:,}"
        raise CapacityError(f"none of {asked.requests:,} requests completes before the last one arrives: {few}")
    analytic = {counts: known(found.means(counts, (ANALYTIC,))[ANALYTIC].mean) or 0.0 for counts in grid}
    balanced = max(grid, key=analytic.__getitem__)
    points = tuple(_point(plan, found, counts, best, balanced) for counts in grid)
    return RatioAnswer(
        size=context.size(plan),
        runs=found.runs,
        requests=found.requests_a_run,
        requests_needed=asked.needed,
        offered_requests_per_s=asked.per_s,
        balanced=balanced,
        best=best,
        tied=tuple(point.ratio for point in points if point.tie),
        unsaturated=tuple(counts for counts in grid if analytic[counts] > asked.per_s),
        points=points,
    )


def _point(plan: Plan, found: Replicated[Counts], counts: Counts, best: Counts, balanced: Counts) -> RatioPoint:
    apart, means = found.apart(counts, best, SERVED), found.means(counts, (SERVED, ANALYTIC))
    return RatioPoint(
        ratio=counts,
        configured=counts == (plan.num_prefill, plan.num_decode),
        analytic_requests_per_s=means[ANALYTIC].mean,
        throughput_requests_per_s=means[SERVED],
        difference_to_best=apart,
        best=counts == best,
        runs=len(found.figures[counts]),
        tie=counts != best and apart.tie,
        open=counts != best and len(found.figures[counts]) > 1 and apart.verdict == "open",
        balanced=counts == balanced,
    )


def ratio_grid(plan: Plan, balanced: tuple[int, int]) -> list[tuple[int, int]]:
    """``pd_experiments.pd_ratios``, the plan's own ratio, the balanced one and its neighbours, in whole instances.

    In the order of their share of prefill instances.
    """
    total, gpus = plan.num_prefill + plan.num_decode, plan.num_gpus
    prefills = {balanced[0], plan.num_prefill}
    for asked in plan.config.pd_experiments.pd_ratios:
        prefills.add(derived.rounded_prefill(gpus, plan.degrees, asked))
    for share in NEIGHBOURS:
        step = math.copysign(max(1, round(abs(share) * total)), share)
        prefills.add(balanced[0] + int(step))
    possible = [prefill for prefill in sorted(prefills) if plan.cells <= prefill <= plan.most_prefill]
    return [(prefill, plan.decode_beside(prefill)) for prefill in possible]


@dataclass(frozen=True)
class _Asked:
    """What every ratio is offered."""

    balanced: Counts
    """The grid's middle."""
    per_s: float
    requests: int
    """Requests of a run."""
    needed: int
    """For a steady state."""


def _asked(context: StudyContext, plan: Plan) -> _Asked:
    """By pilots on these very instances, each at the ratio and the rate that the one before makes of its hits.

    The first takes caches to hit nothing, as that of :func:`kvsim.capacity.pilot.measured_maximum`. What the run that
    the study belongs to hit is of other instances at another load and, on a trace, of all of it: a part that begins
    with empty caches hits less.
    """
    population = context.traffic.population()
    asked = _at(context, plan, demand_of(population, plan))
    for _ in range(_PILOTS):
        at, seed = plan.with_counts(*asked.balanced), context.seeds[0]
        workload = context.workload(asked.per_s, asked.requests, seed)
        label = f"pilot {asked.balanced[0]}:{asked.balanced[1]}"
        (result,) = context.run(context.case(label, "pd", at, workload, seed, drains=False))
        rows = result.measured
        if not rows.any():
            break
        before, asked = asked, _at(context, plan, demand_of(population, at, cache_facts(result.table, rows, at)))
        if asked.balanced == before.balanced and abs(asked.per_s - before.per_s) <= _CLOSE * before.per_s:
            break
    return asked


def _at(context: StudyContext, plan: Plan, demand: Demand) -> _Asked:
    balanced = balanced_pd_ratio(plan, demand)
    at = plan.with_counts(*balanced)
    per_s = OVERLOAD * maximum_rate(at, demand, "pd")
    stay = pd_residence(at, demand, per_s)
    needed = math.ceil(max(_FILLED * stay.mean_s, _OUTLASTING * stay.late_s) * per_s)
    return _Asked(balanced, per_s, min(max(needed, _FEWEST), context.settings.max_requests), needed)


def _served(context: StudyContext, grid: list[Counts], asked: _Asked) -> Replicated[Counts]:
    """Throughput of each ratio. Who is far behind in the first run is in no other."""
    plans = {counts: context.small.with_counts(*counts) for counts in grid}

    def case_of(counts: Counts, workload: Workload, seed: int) -> Case:
        return context.case(f"P:D {counts[0]}:{counts[1]}", "pd", plans[counts], workload, seed, drains=False)

    def is_far_behind(counts: Counts, found: Mapping[Counts, Sequence[Figures]]) -> bool:
        return found[counts][0][SERVED] < WITHIN * max(values[0][SERVED] for values in found.values())

    return context.replicate(
        grid,
        lambda _, found: _best(found),
        lambda seed: context.workload(asked.per_s, asked.requests, seed),
        case_of,
        lambda counts, workload, result: _figures(plans[counts], workload, result),
        context.goal(SERVED, precision=SIGN, has_level=True),
        is_out=is_far_behind,
        own_windows=True,
    )


def _figures(plan: Plan, workload: Workload, result: SystemResult) -> Figures:
    """Completions, and what arithmetic makes of the requests that they were of; nan where there were none."""
    demand = served_demand(workload, plan, result)
    if demand is None:
        return {SERVED: throughput_per_s(result), ANALYTIC: math.nan}
    return {SERVED: throughput_per_s(result), ANALYTIC: maximum_rate(plan, demand, "pd")}


def _best(found: Mapping[Counts, Sequence[Figures]]) -> Counts:
    """Among the ratios that were run most often, the one with the highest mean."""
    most = max(len(values) for values in found.values())
    repeated = [counts for counts in found if len(found[counts]) == most]
    return max(repeated, key=lambda counts: sum(one[SERVED] for one in found[counts]))


def pd_ratio_sentence(study: RatioAnswer) -> str:
    """Which ratio serves most, and whether that is where the arithmetic puts it."""
    best = next(point for point in study.points if point.best)
    near = [
        f", {words} {', '.join(map(ratio, those))}"
        for those, words in (
            ([point.ratio for point in study.points if point.tie], "tied with"),
            ([point.ratio for point in study.points if point.open], "not told apart from"),
        )
        if those
    ]
    is_cut = study.requests < study.requests_needed
    cut = f"; runs of {study.requests:,} requests are not steady" if is_cut else ""
    more = ", ".join(map(ratio, study.unsaturated))
    offered = f"the {number(study.offered_requests_per_s)} requests/s offered"
    unfilled = f"; by arithmetic {more} could take more than {offered}" if more else ""
    return (
        f"P:D {ratio(best.ratio)} serves most at saturation, {plus_minus(best.throughput_requests_per_s)} "
        f"requests/s on {study.size.instances} instances{''.join(near)}; by arithmetic, each with its own "
        f"hits, {ratio(study.balanced)} does{unfilled}{cut}"
    )


def _table(study: RatioAnswer) -> Table:
    title = f"Prefill:decode ratio at saturation, {sample_of(study, study.requests)}"
    table = table_of(title, ("P:D", "requests/s", "behind the best", "analytic, own hits", ""))
    for point in study.points:
        table.add_row(
            ratio(point.ratio),
            plus_minus(point.throughput_requests_per_s),
            "" if point.best else change(point.difference_to_best),
            number(point.analytic_requests_per_s),
            ", ".join(point.marks),
        )
    return table


def _picture(study: RatioAnswer) -> Figure:
    figure, (axis,) = drawn("Throughput at saturation by prefill:decode ratio", study, requests=study.requests)
    points = study.points
    shares = [point.ratio[0] / sum(point.ratio) for point in points]
    means, errors = bars_of([point.throughput_requests_per_s for point in points])
    analytic = [point.analytic_requests_per_s for point in points]
    axis.plot(shares, analytic, "--", color=GREY, label="analytic maximum, own hits")
    axis.errorbar(shares, means, yerr=errors, fmt="o-", color=BLUE, capsize=3, label="simulated")
    for point, share, mean in zip(points, shares, means, strict=True):
        words = [word for word in point.marks if word not in ("tie", "open")]
        if words:
            axis.annotate(
                f"{ratio(point.ratio)}\n{', '.join(words)}", (share, mean), xytext=(0, -8),
                textcoords="offset points", ha="center", va="top", fontsize=8, color=ORANGE,
            )  # fmt: skip
    axis.set_xlabel("prefill share of the instances")
    axis.set_ylabel("throughput (requests/s)")
    axis.margins(x=0.12)
    # Room below the lowest point for what is written there; throughput begins at the line.
    axis.set_ylim(-0.2 * axis.get_ylim()[1], 1.05 * axis.get_ylim()[1])
    axis.axhline(0, color="0.3", linewidth=0.8)
    plain_numbers(axis.yaxis)
    axis.set_yticks([tick for tick in axis.get_yticks() if tick >= 0])
    legend_below(figure, axis)
    return figure


STUDY = Study(
    name="pd_ratio",
    places={"pd": 0},
    systems=frozenset({"pd"}),
    ask=pd_ratio_study,
    sentence=pd_ratio_sentence,
    table=_table,
    figure=_picture,
    rows=lambda study: study.points,
)
