"""From one system's result to the figures that a report has of it."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from kvsim.record.detail import DraftUse
from kvsim.record.figures import (
    Active,
    Attribution,
    Cache,
    Conservation,
    Drafts,
    Goodput,
    KindUse,
    Quantiles,
    RequestCounts,
    SideUse,
    SloLimits,
    Steadiness,
    SystemSummary,
    Throughput,
    WindowBounds,
)
from kvsim.record.percentiles import Floats, distribution, percentiles
from kvsim.record.plain import known
from kvsim.record.result import COMPONENTS, Distribution, Pace, PoolUse, RoleUse, SystemResult, Table
from kvsim.record.scaling_figures import scaling_figures

BAND = 1.0
"""Percentiles of TTFT around one, between which requests stand for "a request at p99" in the attribution."""


def ttft_s(table: Table) -> Floats:
    """Time to first token, from arrival."""
    return table["first_token_s"] - table["arrival_s"]


def e2e_s(table: Table) -> Floats:
    """Time to last token, from arrival."""
    return table["finish_s"] - table["arrival_s"]


def tpot_s(table: Table) -> Floats:
    """Mean time per output token after the first, ``(E2E - TTFT) / (n - 1)``; ``nan`` for answers of one token."""
    later_tokens = table["output_tokens"] - 1
    decoding_s = table["finish_s"] - table["first_token_s"]
    per_token_s = np.full(decoding_s.shape, math.nan)
    np.divide(decoding_s, later_tokens, out=per_token_s, where=later_tokens > 0)
    return per_token_s


def mean_tpot_s(table: Table, *, weighs_tokens: bool = False) -> float | None:
    """Over requests; ``weighs_tokens``: over tokens, ``sum(E2E - TTFT) / sum(n - 1)``. ``None``: all have one token."""
    each_s = tpot_s(table)
    if np.isnan(each_s).all():
        return None
    if weighs_tokens:
        return float((table["finish_s"] - table["first_token_s"]).sum() / (table["output_tokens"] - 1).sum())
    return float(each_s[~np.isnan(each_s)].mean())


def within_limits(
    table: Table, slo_ttft_s: float, slo_tpot_s: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Whether each request is within the limit of TTFT, and within that of TPOT; the limits themselves are.

    An answer of one token has no TPOT and is judged by its TTFT alone.
    """
    in_tpot = (tpot_s(table) <= slo_tpot_s) | (table["output_tokens"] <= 1)
    return ttft_s(table) <= slo_ttft_s, in_tpot


def rows_of(result: SystemResult, rows: npt.NDArray[np.bool_]) -> Table:
    """The columns that latencies are made of, for some ``rows``; the other columns are not copied."""
    return {name: result.table[name][rows] for name in ("arrival_s", "first_token_s", "finish_s", "output_tokens")}


def summarise(result: SystemResult, *, slo_ttft_s: float, slo_tpot_s: float, gpus: int) -> SystemSummary:
    """What ``result`` shows; latencies in milliseconds over measured requests.

    Throughput and goodput count the completions inside the measured window, divided by its length; ``gpus`` is what
    the whole system uses.
    """
    table = rows_of(result, result.measured)
    tpots_s = tpot_s(table)
    throughput, goodput = _rates(result, slo_ttft_s, slo_tpot_s, gpus)
    return SystemSummary(
        name=result.name,
        requests=_counts(result),
        ttft_ms=_in_ms(distribution(ttft_s(table))),
        tpot_ms=_in_ms(distribution(tpots_s[~np.isnan(tpots_s)])),
        itl_ms=_in_ms(result.itl),
        e2e_ms=_in_ms(distribution(e2e_s(table))),
        throughput=throughput,
        goodput=goodput,
        cache=_cache(result),
        transfer=result.transfer,
        preemptions=result.cache.preemptions,
        attribution_ms=_attribution_ms(result, ttft_s(table)),
        utilisation={role.role: _use(role) for role in result.roles},
        conservation=Conservation(ok=all(check.ok for check in result.checks), checks=result.checks),
        steady=_steadiness(result),
        incomplete=result.incomplete,
        window_s=WindowBounds(start=result.window_s[0], end=result.window_s[1], whole=result.window_is_whole),
        simulated_s=result.end_s,
        notes=result.notes,
        drafts=_drafts(result.drafts),
        adapters=result.adapters,
        scaling=scaling_figures(result.fleet),
        events_left_out=result.events_left_out or None,
    )


def _drafts(use: DraftUse | None) -> Drafts | None:
    if use is None:
        return None
    drafted, accepted, number = sum(use.drafted), sum(use.accepted), use.num_drafts
    return Drafts(
        num_drafts=number,
        num_draft_tokens=drafted,
        num_accepted_tokens=accepted,
        acceptance_rate=accepted / drafted if drafted else None,
        mean_acceptance_length=1 + accepted / number if number else None,
        acceptance_by_position=tuple(each / number if number else None for each in use.accepted),
    )


def _counts(result: SystemResult) -> RequestCounts:
    return RequestCounts(
        arrived=result.arrived,
        completed=result.completed,
        failed=result.failed,
        in_flight=result.in_flight,
        measured=int(result.measured.sum()),
        completed_in_window=int(in_window(result, result.window_s).sum()),
        failed_in_window=_failed_in_window(result),
    )


def _in_ms(latency: Distribution) -> Quantiles:
    return Quantiles(**{name: known(value * 1e3) for name, value in asdict(latency).items() if name != "count"})


def _rates(result: SystemResult, slo_ttft_s: float, slo_tpot_s: float, gpus: int) -> tuple[Throughput, Goodput]:
    """Completions in the window ``(start, end]``, and those of them within the SLO.

    The shares are of the completions in the window and of the requests that came in it and fit no instance: these are
    within no limit.
    """
    start_s, end_s = result.window_s
    rows = in_window(result, result.window_s)
    table = rows_of(result, rows)
    in_ttft, in_tpot = within_limits(table, slo_ttft_s, slo_tpot_s)
    judged = int(rows.sum()) + _failed_in_window(result)
    length_s = end_s - start_s if end_s > start_s else math.nan
    output_tokens_per_s = float(table["output_tokens"].sum()) / length_s
    throughput = Throughput(
        requests_per_s=known(int(rows.sum()) / length_s),
        output_tokens_per_s=known(output_tokens_per_s),
        tokens_per_s_per_gpu=known(output_tokens_per_s / gpus),
    )
    goodput = Goodput(
        requests_per_s=known(int((in_ttft & in_tpot).sum()) / length_s),
        share=_share(int((in_ttft & in_tpot).sum()), judged),
        ttft_share=_share(int(in_ttft.sum()), judged),
        tpot_share=_share(int(in_tpot.sum()), judged),
        slo=SloLimits(ttft_ms=slo_ttft_s * 1e3, tpot_ms=slo_tpot_s * 1e3),
    )
    return throughput, goodput


def in_window(result: SystemResult, window_s: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """The rows of requests whose last token came after the window's start and up to its end.

    A whole run's begins with its first arrival, at which nothing can complete.
    """
    finish_s = result.table["finish_s"]
    return np.asarray((finish_s > window_s[0]) & (finish_s <= window_s[1]), dtype=np.bool_)


def _failed_in_window(result: SystemResult) -> int:
    start_s, end_s = result.window_s
    return int(((result.failed_arrival_s >= start_s) & (result.failed_arrival_s <= end_s)).sum())


def _steadiness(result: SystemResult) -> Steadiness:
    pace = result.pace or Pace(overloaded=False, ttft_growth=math.nan, asked_per_s=math.nan, possible_per_s=math.nan)
    return Steadiness(
        ok=result.steady,
        why=result.steady_why,
        overloaded=pace.overloaded,
        ttft_growth_s_per_min=known(pace.ttft_growth * 60),
        asked_requests_per_s=known(pace.asked_per_s),
        possible_requests_per_s=known(pace.possible_per_s),
    )


def _cache(result: SystemResult) -> Cache:
    use = result.cache
    own_tokens = use.hit_tokens - sum(tier.loaded_tokens for tier in use.tiers)
    return Cache(
        prefix_hit_rate=_share(use.hit_tokens, use.query_tokens),
        by_tier={"hbm": _share(own_tokens, use.query_tokens)}
        | {tier.name: _share(tier.loaded_tokens, use.query_tokens) for tier in use.tiers},
        query_tokens=use.query_tokens,
        hit_tokens=use.hit_tokens,
        evictions=use.evicted_blocks,
        blocks_per_instance=use.blocks_per_instance,
        recomputed_tokens=int(result.table["recomputed_tokens"].sum()),
        active=Active(instances=use.active_instances, racks=use.active_racks),
        loads=use.loads,
        tiers={tier.name: tier for tier in use.tiers},
        misses={reason: _share(tokens, use.query_tokens) for reason, tokens in use.misses.items()},
        movements=use.movements,
    )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _use(role: RoleUse) -> SideUse:
    return SideUse(
        instances=role.instances,
        gpus=role.gpus,
        busy=known(role.busy),
        kv_usage=known(role.kv_usage),
        load=known(role.load),
        kinds=tuple(_kind(pool) for pool in role.pools) or None,
    )


def _kind(pool: PoolUse) -> KindUse:
    use = pool.use
    return KindUse(
        gpu=pool.gpu,
        gpus_per_instance=use.gpus // use.instances,
        instances=use.instances,
        gpus=use.gpus,
        busy=known(use.busy),
        kv_usage=known(use.kv_usage),
        requests=pool.requests,
        prefix_hit_rate=_share(pool.hit_tokens, pool.query_tokens),
    )


def _attribution_ms(result: SystemResult, ttfts_s: Floats) -> Attribution:
    """The parts of TTFT, averaged over all measured requests and over those at p99."""
    at_p99 = p99_rows(ttfts_s)
    parts_s = {name.removesuffix("_s"): result.table[name][result.measured] for name in COMPONENTS}
    return Attribution(
        mean={name: _mean_ms(part_s) for name, part_s in parts_s.items()},
        p99={name: _mean_ms(part_s[at_p99]) for name, part_s in parts_s.items()},
    )


def _mean_ms(values_s: Floats) -> float | None:
    return float(values_s.mean()) * 1e3 if values_s.size else None


def p99_rows(ttfts_s: Floats) -> npt.NDArray[np.bool_]:
    """The requests that stand for those at p99, as :func:`rows_around` has them."""
    return rows_around(ttfts_s, 99.0)


def rows_around(ttfts_s: Floats, percent: float) -> npt.NDArray[np.bool_]:
    """The requests whose TTFT lies within half a percentile of ``percent``, both ends included.

    In a sample too small to have one there (fewer than about 200), the request or requests nearest to that percentile.
    """
    low_s, middle_s, high_s = percentiles(ttfts_s, (percent - BAND / 2, percent, percent + BAND / 2))
    rows = (ttfts_s >= low_s) & (ttfts_s <= high_s)
    if ttfts_s.size and not rows.any():
        distance_s = np.abs(ttfts_s - middle_s)
        rows = distance_s == distance_s.min()
    return np.asarray(rows, dtype=np.bool_)
