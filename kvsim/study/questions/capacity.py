"""How much host memory pays: hit rate and TTFT over the size of one tier, under several eviction policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from kvsim.plan.plan import Plan
from kvsim.record.labels import number, percent
from kvsim.record.plain import spliced
from kvsim.study.answer import StudyAnswer
from kvsim.study.catalogue import Study
from kvsim.study.context import StudyContext
from kvsim.study.memory import BASE, BEST, MemoryFigures, changed, figures, replicated
from kvsim.study.pictures import PALETTE, figure_of, hits_and_ttfts, legend_below, plain_powers
from kvsim.study.replication import Apart, Runs
from kvsim.study.words import budget_spent, growing_there, ran_on, runs_of, said_of, scale_of, table_of
from kvsim.units import GB

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KNEE_SHARE = 0.1
"""A curve that bends by less than this share of its rise is called straight."""
ENOUGH = 0.98
"""More than this share of the hits that memory without end would give is called all of them."""


@dataclass(frozen=True, kw_only=True)
class SizeRow:
    """One size of host memory under every policy."""

    share: float
    """Size over what hosts without an end hold."""
    capacity_gb_per_host: float
    policies: Mapping[str, MemoryFigures]


@dataclass(frozen=True, kw_only=True)
class Gap:
    """How far a policy is from the oracle, in points of hit rate and in mean TTFT."""

    hit_points: float
    ttft_mean_ms: float


@dataclass(frozen=True, kw_only=True)
class WidestGap:
    """The oracle less LRU at the size where single runs are farthest apart."""

    capacity_gb_per_host: float
    runs: Runs = field(metadata=spliced())
    hit_rate: Apart
    ttft_mean_ms: Apart


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What each further GB a host buys, from the size before."""

    to_gb_per_host: float
    hit_points_per_gb: float
    ttft_mean_ms_per_gb: float


@dataclass(frozen=True, kw_only=True)
class CapacityAnswer(StudyAnswer):
    """Every size, beside none and beside memory without an end."""

    runs: Runs = field(metadata=spliced("tie_share"))
    """Each cell is one."""
    hosts: int
    requests: int
    requests_per_s: float
    footprint_gb: float
    """What all hosts hold that have no end."""
    without: MemoryFigures
    whole: MemoryFigures
    rows: tuple[SizeRow, ...]
    knee_gb_per_host: float | None
    gap_to_belady: tuple[Mapping[str, Gap], ...]
    """By policy, a size each."""
    noise_hit_points: float
    widest_gap: WidestGap | None
    """``None`` where the gap may be noise."""
    gain_per_gb: tuple[Gain, ...]


def capacity_study(context: StudyContext) -> CapacityAnswer:
    """Hit rate and TTFT over the size of one tier of host memory, with nothing below it, per policy.

    Every cell is one run; where LRU is farthest from the oracle there, the two are run again on other requests.
    """
    plan = context.sample
    endless = changed(plan, ("dram",), hardware__dram__capacity_gb=1e9)
    without, whole = _singles(context, ["no tier", "memory without end"], [changed(plan, ()), endless])
    hosts = len({place.host for place in plan.unified_places()})
    footprint_gb = whole.held_gb["dram"]
    own = plan.config.policies.eviction
    policies = list(dict.fromkeys([BASE, own, *context.settings.evictions, BEST]))
    rows = _rows(context, footprint_gb / hosts, policies) if footprint_gb else ()
    gaps, noise = tuple(_gaps(row) for row in rows), _noise(rows, without)
    requests = len(context.first_part)
    return CapacityAnswer(
        size=context.size(plan),
        runs=context.single_runs(requests * (2 + len(rows) * len(policies))),
        hosts=hosts,
        requests=requests,
        requests_per_s=context.sample_requests_per_s,
        footprint_gb=footprint_gb,
        without=without,
        whole=whole,
        rows=rows,
        knee_gb_per_host=_knee(rows, without, BASE),
        gap_to_belady=gaps,
        noise_hit_points=noise,
        widest_gap=_widest_gap(context, rows, gaps, noise),
        gain_per_gb=_gains(rows, without, BASE),
    )


def _singles(context: StudyContext, labels: Sequence[str], plans: Sequence[Plan]) -> list[MemoryFigures]:
    """What one run each of the same requests gives."""
    workload, seed = context.first_part, context.seed
    cases = [context.case(label, "unified", plan, workload, seed) for label, plan in zip(labels, plans, strict=True)]
    return [figures(result) for result in context.run(*cases)]


def _rows(context: StudyContext, footprint_gb: float, policies: Sequence[str]) -> tuple[SizeRow, ...]:
    """Every policy at every size, ``footprint_gb`` being what hosts without an end hold each."""
    plan = context.sample
    shares: dict[float, float] = {}
    for share in sorted(set(context.settings.capacity_shares)):
        shares.setdefault(max(share * footprint_gb, 2 * _chunk_gb(plan)), share)
    plans = [
        changed(plan, ("dram",), hardware__dram__capacity_gb=capacity_gb, policies__eviction=policy)
        for capacity_gb in shares
        for policy in policies
    ]
    labels = [f"{policy} {capacity_gb:,.0f} GB" for capacity_gb in shares for policy in policies]
    found = iter(_singles(context, labels, plans))
    return tuple(
        SizeRow(share=share, capacity_gb_per_host=capacity_gb, policies={name: next(found) for name in policies})
        for capacity_gb, share in shares.items()
    )


def _widest_gap(
    context: StudyContext, rows: Sequence[SizeRow], gaps: Sequence[Mapping[str, Gap]], noise: float
) -> WidestGap | None:
    """The oracle less LRU at the size where single runs are farthest apart; ``None`` where that may be noise."""
    at = max(range(len(rows)), key=lambda row: gaps[row][BASE].hit_points, default=None)
    if at is None or gaps[at][BASE].hit_points <= noise:
        return None
    capacity_gb = rows[at].capacity_gb_per_host
    plans = {
        policy: changed(context.sample, ("dram",), hardware__dram__capacity_gb=capacity_gb, policies__eviction=policy)
        for policy in (BASE, BEST)
    }
    found = replicated(context, plans, lambda _: BASE, context.goal("hit_rate"))
    return WidestGap(
        capacity_gb_per_host=capacity_gb,
        runs=found.runs,
        hit_rate=found.apart(BEST, BASE, "hit_rate"),
        ttft_mean_ms=found.apart(BEST, BASE, "ttft_mean_ms"),
    )


def _chunk_gb(plan: Plan) -> float:
    return plan.config.cache.chunk_tokens * plan.spec.kv_bytes_per_token / GB


def _knee(rows: Sequence[SizeRow], without: MemoryFigures, policy: str) -> float | None:
    """Where the curve of hit rate over capacity is farthest above its chord (Satopää et al. 2011); linear capacity.

    The curve begins without any. One that stays within ``KNEE_SHARE`` of its rise of the chord, or below it, has none.
    """
    x = np.array([0.0, *(row.capacity_gb_per_host for row in rows)])
    y = np.array([without.hit_rate, *(row.policies[policy].hit_rate for row in rows)])
    if y[-1] - y[0] < 1e-3:
        return None
    above = (y - y[0]) / (y[-1] - y[0]) - x / x[-1]
    return float(x[int(np.argmax(above))]) if np.max(above) > KNEE_SHARE else None


def _gaps(row: SizeRow) -> dict[str, Gap]:
    """By policy."""
    best = row.policies[BEST]
    return {
        policy: Gap(
            hit_points=100 * (best.hit_rate - found.hit_rate), ttft_mean_ms=found.ttft_mean_ms - best.ttft_mean_ms
        )
        for policy, found in row.policies.items()
    }


def _noise(rows: Sequence[SizeRow], without: MemoryFigures) -> float:
    """The most, in points, that a hit rate falls where more memory can only raise it, or that a policy is above the
    oracle: what one run does not tell.

    Requests are routed by what caches hold: two runs that differ a little do not send an instance the same prompts.
    """
    if not rows:
        return 0.0
    policies = list(rows[0].policies)
    rates = np.array([[row.policies[policy].hit_rate for policy in policies] for row in rows])
    rates = np.vstack((np.full(len(policies), without.hit_rate), rates))
    falls = np.max(np.maximum.accumulate(rates, axis=0) - rates)
    above = np.max(rates - rates[:, policies.index(BEST)][:, None])
    return float(100 * max(falls, above))


def _gains(rows: Sequence[SizeRow], without: MemoryFigures, policy: str) -> tuple[Gain, ...]:
    found, before_gb, before = [], 0.0, without
    for row in rows:
        here, capacity_gb = row.policies[policy], row.capacity_gb_per_host
        more_gb = capacity_gb - before_gb
        gain = Gain(
            to_gb_per_host=capacity_gb,
            hit_points_per_gb=100 * (here.hit_rate - before.hit_rate) / more_gb,
            ttft_mean_ms_per_gb=(before.ttft_mean_ms - here.ttft_mean_ms) / more_gb,
        )
        found.append(gain)
        before_gb, before = capacity_gb, here
    return tuple(found)


def capacity_sentence(study: CapacityAnswer) -> str:
    """Where the knee is, what all of it would give, and the widest gap to the oracle."""
    rows, knee = study.rows, study.knee_gb_per_host
    base, whole = study.without.hit_rate, study.whole.hit_rate
    if not rows:
        return "nothing reaches host memory: no chunk of a prompt was written to it"
    if whole - base < 0.005:
        return "host memory adds next to nothing: the instances' own caches hold what is asked for again"
    wanted = base + ENOUGH * (whole - base)
    enough = next((row for row in rows if row.policies[BASE].hit_rate >= wanted), None)
    full = "no size tried" if enough is None else f"{number(enough.capacity_gb_per_host)} GB a host"
    growing = growing_there(("without host memory", study.without.growing_share))
    bend = "there is no knee" if knee is None else f"the curve bends at {number(knee)} GB a host"
    return (
        f"in one run each, under LRU {bend}, and {full} gives all that memory without end would ({percent(whole)} "
        f"against {percent(base)} without); {_gap(study)}{growing}"
    )


def _gap(study: CapacityAnswer) -> str:
    """What the policies are from the oracle."""
    widest = study.widest_gap
    if widest is None:
        return (
            f"policies are not told apart: hit rates fall by up to {study.noise_hit_points:.1f} points where more "
            "memory can only raise them, and LRU is nowhere farther from the oracle"
        )
    where = f"at {number(widest.capacity_gb_per_host)} GB, where LRU is farthest from the oracle"
    hits, often, spent = widest.hit_rate, runs_of(widest.runs), budget_spent(widest.runs)
    if hits.verdict not in ("lower", "higher"):
        words = "tie in hit rate" if hits.tie else "are not told apart"
        return f"{where}, the two {words} in {often}{spent}"
    return (
        f"{where}, {often} give the oracle {said_of(hits.scaled(100), ' points')} of hit rate; mean TTFT: "
        f"{said_of(widest.ttft_mean_ms)}{spent}"
    )


def _table(study: CapacityAnswer) -> Table:
    policies = list(study.rows[0].policies) if study.rows else ["any policy"]
    ran = f"{scale_of(study.size, study.requests)}, one run each"
    title = f"Hit rate and mean TTFT (ms) over host memory, nothing below it\n{ran}"
    table = table_of(title, ("GB a host", *policies), names=False)
    without = f"{percent(study.without.hit_rate)} {number(study.without.ttft_mean_ms)}"
    table.add_row("0", *[without for _ in policies])
    for row in study.rows:
        cells = [f"{percent(found.hit_rate)} {number(found.ttft_mean_ms)}" for found in row.policies.values()]
        table.add_row(number(row.capacity_gb_per_host), *cells)
    return table


def _picture(study: CapacityAnswer) -> Figure:
    figure, (hits, ttfts) = figure_of("Host memory, nothing below it", ran_on(study.size, study.requests), 2)
    sizes_gb = [row.capacity_gb_per_host for row in study.rows]
    for policy, colour in zip(study.rows[0].policies, PALETTE, strict=False):
        found = [row.policies[policy] for row in study.rows]
        style = "--" if policy == BEST else "-"
        hits.plot(sizes_gb, [100 * each.hit_rate for each in found], style, marker="o", color=colour, label=policy)
        ttfts.plot(sizes_gb, [each.ttft_mean_ms for each in found], style, marker="o", color=colour)
    hits.axhline(100 * study.without.hit_rate, color="0.5", linestyle=":", label="without")
    ttfts.axhline(study.without.ttft_mean_ms, color="0.5", linestyle=":")
    if study.knee_gb_per_host is not None:
        for axis in (hits, ttfts):
            axis.axvline(study.knee_gb_per_host, color="0.7", linewidth=1)
        hits.annotate("knee", (study.knee_gb_per_host, 0), xytext=(3, 3), textcoords="offset points", color="0.3")
    for axis in (hits, ttfts):
        axis.set_xscale("log")
        plain_powers(axis.xaxis, *axis.get_xlim())
        axis.set_xlabel("GB a host")
    hits_and_ttfts(hits, ttfts)
    legend_below(figure, hits)
    return figure


STUDY = Study(
    name="capacity",
    places={"single": 0, "cluster": 2},
    systems=frozenset({"unified"}),
    ask=capacity_study,
    sentence=capacity_sentence,
    table=_table,
    figure=_picture,
    rows=lambda study: study.rows,
)
