"""How much host memory pays: hit rate and TTFT over the size of one tier, under several eviction policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from kvsim.plan.plan import Plan
from kvsim.record.labels import number, percent
from kvsim.study.catalogue import Found, Study
from kvsim.study.context import StudyContext
from kvsim.study.memory import BASE, BEST, changed, figures, replicated
from kvsim.study.pictures import PALETTE, figure_of, hits_and_ttfts, legend_below, plain_powers
from kvsim.study.words import budget_spent, growing_there, ran_on, runs_of, said_of, scale_of, table_of
from kvsim.units import GB

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KNEE_SHARE = 0.1
"""A curve that bends by less than this share of its rise is called straight."""
ENOUGH = 0.98
"""More than this share of the hits that memory without end would give is called all of them."""


def capacity_study(context: StudyContext) -> dict[str, Any]:
    """Hit rate and TTFT over the size of one tier of host memory, with nothing below it, per policy.

    Every cell is one run; where LRU is farthest from the oracle there, the two are run again on other requests.
    """
    plan = context.sample
    endless = changed(plan, ("dram",), hardware__dram__capacity_gb=1e9)
    without, whole = _singles(context, ["no tier", "memory without end"], [changed(plan, ()), endless])
    hosts = len({place.host for place in plan.unified_places()})
    footprint_gb = whole["held_gb"]["dram"]
    own = plan.config.policies.eviction
    policies = list(dict.fromkeys([BASE, own, *context.settings.evictions, BEST]))
    rows = _rows(context, footprint_gb / hosts, policies) if footprint_gb else []
    gaps, noise = [_gaps(row) for row in rows], _noise(rows, without)
    return {
        **context.sizes(context.sample),
        "tie_share": context.settings.tie_share,
        "hosts": hosts,
        "requests": len(context.first_part),
        "requests_per_s": context.sample_requests_per_s,
        "footprint_gb": footprint_gb,
        "without": without,
        "whole": whole,
        "rows": rows,
        "knee_gb_per_host": _knee(rows, without, BASE),
        "gap_to_belady": gaps,
        "noise_hit_points": noise,
        "widest_gap": _widest_gap(context, rows, gaps, noise),
        "gain_per_gb": _gains(rows, without, BASE),
    }


def _singles(context: StudyContext, labels: Sequence[str], plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """What one run each of the same requests gives."""
    workload, seed = context.first_part, context.seed
    cases = [context.case(label, "unified", plan, workload, seed) for label, plan in zip(labels, plans, strict=True)]
    return [figures(result) for result in context.run(*cases)]


def _rows(context: StudyContext, footprint_gb: float, policies: Sequence[str]) -> list[dict[str, Any]]:
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
    return [
        {"share": share, "capacity_gb_per_host": capacity_gb, "policies": {name: next(found) for name in policies}}
        for capacity_gb, share in shares.items()
    ]


def _widest_gap(
    context: StudyContext, rows: Sequence[Mapping[str, Any]], gaps: Sequence[Mapping[str, Any]], noise: float
) -> dict[str, Any] | None:
    """The oracle less LRU at the size where single runs are farthest apart; ``None`` where that may be noise."""
    at = max(range(len(rows)), key=lambda row: gaps[row][BASE]["hit_points"], default=None)
    if at is None or gaps[at][BASE]["hit_points"] <= noise:
        return None
    capacity_gb = rows[at]["capacity_gb_per_host"]
    plans = {
        policy: changed(context.sample, ("dram",), hardware__dram__capacity_gb=capacity_gb, policies__eviction=policy)
        for policy in (BASE, BEST)
    }
    found = replicated(context, plans, lambda _: BASE, context.goal("hit_rate"))
    apart = {metric: found.apart(BEST, BASE, metric).report() for metric in ("hit_rate", "ttft_mean_ms")}
    return {"capacity_gb_per_host": capacity_gb, **found.report(), **apart}


def _chunk_gb(plan: Plan) -> float:
    return plan.config.cache.chunk_tokens * plan.spec.kv_bytes_per_token / GB


def _knee(rows: Sequence[Mapping[str, Any]], without: Mapping[str, Any], policy: str) -> float | None:
    """Where the curve of hit rate over capacity is farthest above its chord (Satopää et al. 2011); linear capacity.

    The curve begins without any. One that stays within ``KNEE_SHARE`` of its rise of the chord, or below it, has none.
    """
    x = np.array([0.0, *(row["capacity_gb_per_host"] for row in rows)])
    y = np.array([without["hit_rate"], *(row["policies"][policy]["hit_rate"] for row in rows)])
    if y[-1] - y[0] < 1e-3:
        return None
    above = (y - y[0]) / (y[-1] - y[0]) - x / x[-1]
    return float(x[int(np.argmax(above))]) if np.max(above) > KNEE_SHARE else None


def _gaps(row: Mapping[str, Any]) -> dict[str, Any]:
    """How far each policy is from the oracle, in points of hit rate and in milliseconds of mean TTFT."""
    best = row["policies"][BEST]
    return {
        policy: {
            "hit_points": 100 * (best["hit_rate"] - found["hit_rate"]),
            "ttft_mean_ms": found["ttft_mean_ms"] - best["ttft_mean_ms"],
        }
        for policy, found in row["policies"].items()
    }


def _noise(rows: Sequence[Mapping[str, Any]], without: Mapping[str, Any]) -> float:
    """The most, in points, that a hit rate falls where more memory can only raise it, or that a policy is above the
    oracle: what one run does not tell.

    Requests are routed by what caches hold: two runs that differ a little do not send an instance the same prompts.
    """
    if not rows:
        return 0.0
    policies = list(rows[0]["policies"])
    rates = np.array([[row["policies"][policy]["hit_rate"] for policy in policies] for row in rows])
    rates = np.vstack((np.full(len(policies), without["hit_rate"]), rates))
    falls = np.max(np.maximum.accumulate(rates, axis=0) - rates)
    above = np.max(rates - rates[:, policies.index(BEST)][:, None])
    return float(100 * max(falls, above))


def _gains(rows: Sequence[Mapping[str, Any]], without: Mapping[str, Any], policy: str) -> list[dict[str, float]]:
    """What each further GB a host buys, from one capacity to the next."""
    found, before_gb, before = [], 0.0, without
    for row in rows:
        here, capacity_gb = row["policies"][policy], row["capacity_gb_per_host"]
        more_gb = capacity_gb - before_gb
        found.append(
            {
                "to_gb_per_host": capacity_gb,
                "hit_points_per_gb": 100 * (here["hit_rate"] - before["hit_rate"]) / more_gb,
                "ttft_mean_ms_per_gb": (before["ttft_mean_ms"] - here["ttft_mean_ms"]) / more_gb,
            }
        )
        before_gb, before = capacity_gb, here
    return found


def capacity_sentence(study: Found) -> str:
    """Where the knee is, what all of it would give, and the widest gap to the oracle."""
    rows, knee = study["rows"], study["knee_gb_per_host"]
    base, whole = study["without"]["hit_rate"], study["whole"]["hit_rate"]
    if not rows:
        return "nothing reaches host memory: no chunk of a prompt was written to it"
    if whole - base < 0.005:
        return "host memory adds next to nothing: the instances' own caches hold what is asked for again"
    wanted = base + ENOUGH * (whole - base)
    enough = next((row for row in rows if row["policies"]["lru"]["hit_rate"] >= wanted), None)
    full = "no size tried" if enough is None else f"{number(enough['capacity_gb_per_host'])} GB a host"
    bend = "there is no knee" if knee is None else f"the curve bends at {number(knee)} GB a host"
    return (
        f"in one run each, under LRU {bend}, and {full} gives all that memory without end would ({percent(whole)} "
        f"against {percent(base)} without); {_gap(study)}{growing_there(('without host memory', study['without']))}"
    )


def _gap(study: Found) -> str:
    """What the policies are from the oracle."""
    widest = study["widest_gap"]
    if widest is None:
        return (
            f"policies are not told apart: hit rates fall by up to {study['noise_hit_points']:.1f} points where more "
            "memory can only raise them, and LRU is nowhere farther from the oracle"
        )
    where = f"at {number(widest['capacity_gb_per_host'])} GB, where LRU is farthest from the oracle"
    hits, ttft = widest["hit_rate"], widest["ttft_mean_ms"]
    if hits["verdict"] not in ("lower", "higher"):
        words = "tie in hit rate" if hits["tie"] else "are not told apart"
        return f"{where}, the two {words} in {runs_of(widest)}{budget_spent(widest)}"
    points = {**hits, **{name: 100 * hits[name] for name in ("mean", "half_width")}}
    return (
        f"{where}, {runs_of(widest)} give the oracle {said_of(points, ' points')} of hit rate; mean TTFT: "
        f"{said_of(ttft)}{budget_spent(widest)}"
    )


def _table(study: Found) -> Table:
    policies = list(study["rows"][0]["policies"]) if study["rows"] else ["any policy"]
    title = f"Hit rate and mean TTFT (ms) over host memory, nothing below it\n{scale_of(study)}, one run each"
    table = table_of(title, ("GB a host", *policies), names=False)
    without = f"{percent(study['without']['hit_rate'])} {number(study['without']['ttft_mean_ms'])}"
    table.add_row("0", *[without for _ in policies])
    for row in study["rows"]:
        cells = [f"{percent(f['hit_rate'])} {number(f['ttft_mean_ms'])}" for f in row["policies"].values()]
        table.add_row(number(row["capacity_gb_per_host"]), *cells)
    return table


def _picture(study: Found) -> Figure:
    figure, (hits, ttfts) = figure_of("Host memory, nothing below it", ran_on(study), 2)
    rows = study["rows"]
    sizes_gb = [row["capacity_gb_per_host"] for row in rows]
    for policy, colour in zip(rows[0]["policies"], PALETTE, strict=False):
        found = [row["policies"][policy] for row in rows]
        style = "--" if policy == "belady" else "-"
        hits.plot(sizes_gb, [100 * f["hit_rate"] for f in found], style, marker="o", color=colour, label=policy)
        ttfts.plot(sizes_gb, [f["ttft_mean_ms"] for f in found], style, marker="o", color=colour)
    hits.axhline(100 * study["without"]["hit_rate"], color="0.5", linestyle=":", label="without")
    ttfts.axhline(study["without"]["ttft_mean_ms"], color="0.5", linestyle=":")
    if study["knee_gb_per_host"] is not None:
        for axis in (hits, ttfts):
            axis.axvline(study["knee_gb_per_host"], color="0.7", linewidth=1)
        hits.annotate("knee", (study["knee_gb_per_host"], 0), xytext=(3, 3), textcoords="offset points", color="0.3")
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
)
