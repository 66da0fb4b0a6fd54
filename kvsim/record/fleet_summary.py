"""From what became of a fleet to the figures that a report has of it."""

from __future__ import annotations

import math

import numpy as np

from kvsim.record.fleet import FleetUse, Incident, RoleFleet
from kvsim.record.fleet_figures import (
    AttemptsBin,
    FleetFigures,
    IncidentFigures,
    RoleService,
    Storm,
    TtftOverTime,
)
from kvsim.record.percentiles import percentiles
from kvsim.record.plain import known
from kvsim.record.recovery import Came, Windows, came, phases
from kvsim.record.result import SystemResult
from kvsim.units import SECONDS_PER_HOUR

STORM_S, STORM_PARTS, STORM_REQUESTS = 60.0, 10, 10
"""Attempts are compared with requests over a minute, or a tenth of the arrivals' time where that is less; of the bins
those are judged in which so many requests came."""
BINS, BIN_REQUESTS = 100, 20
"""TTFT over time has so many bins at the most, of so many requests in the mean at the least."""


def fleet_figures(result: SystemResult, slo_ttft_s: float, slo_share: float) -> FleetFigures | None:
    """What became of the instances and requests of a run; ``None`` where nothing could happen to them.

    ``slo_share`` of requests have to have their first token within ``slo_ttft_s``.
    """
    use = result.fleet
    if use is None:
        return None
    requests = came(result, slo_ttft_s, slo_share)
    windows = Windows(requests)
    start_s, end_s = result.window_s
    failed = (use.failed_arrival_s >= start_s) & (use.failed_arrival_s <= end_s)
    return FleetFigures(
        requests_hit=use.requests_hit,
        resent=use.resent,
        router_gave_up=use.router_gave_up,
        timed_out=use.timed_out,
        retried=use.retried,
        gave_up=use.gave_up,
        unserved=use.unserved,
        failed_in_window=int(failed.sum()),
        held=use.held,
        lost_prefill_tokens=use.lost_prefill_tokens,
        storm=_storm(use, requests),
        instances={role.role: _service(role, result.window_s) for role in use.roles},
        window_requests=requests.window,
        slo_share=slo_share,
        incidents=tuple(_incident(windows, each) for each in use.incidents),
        over_time=_over_time(requests, use),
    )


def _service(role: RoleFleet, window_s: tuple[float, float]) -> RoleService:
    paid = known(role.mean(role.paid, window_s))
    hours = (window_s[1] - window_s[0]) / SECONDS_PER_HOUR
    return RoleService(
        instances=role.instances,
        mean_serving=known(role.mean(role.serving, window_s)),
        fewest_serving=min(role.serving),
        mean_paid=paid,
        gpu_hours=None if paid is None else role.mean(role.paid_gpus, window_s) * hours,
        times_s=role.times_s,
        serving=role.serving,
        paid=role.paid,
    )


def _incident(windows: Windows, incident: Incident) -> IncidentFigures:
    begin_s, end_s = incident.begin_s, incident.end_s
    recovery, recovery_s = windows.recovery(begin_s, end_s)
    until_s = end_s
    if math.isnan(end_s):
        until_s = begin_s + recovery_s if recovery_s else math.inf
    elif recovery_s is not None:
        until_s = max(end_s, begin_s + recovery_s)
    elif recovery == "not_by_the_end":
        until_s = math.inf
    before, during, after = phases(windows.requests, begin_s, until_s)
    return IncidentFigures(
        kind=incident.kind,
        where=incident.where,
        begin_s=begin_s,
        end_s=known(end_s),
        instances=incident.instances,
        requests_hit=incident.requests_hit,
        lost_prefill_tokens=incident.lost_prefill_tokens,
        recovery=recovery,
        recovery_s=recovery_s,
        before=before,
        during=during,
        after=after,
    )


def _storm(use: FleetUse, requests: Came) -> Storm:
    """Attempts over requests, in all and in the worst bin of those in which enough came."""
    worst = None
    arrival_s = requests.arrival_s
    if len(arrival_s) and len(use.again_s):
        first_s, last_s = float(arrival_s[0]), float(arrival_s[-1])
        length_s = min(STORM_S, (last_s - first_s) / STORM_PARTS)
        if length_s > 0:
            bins = math.ceil((last_s - first_s) / length_s)
            edges = first_s + length_s * np.arange(bins + 1)
            arrived, again = (np.histogram(times_s, edges)[0] for times_s in (arrival_s, use.again_s))
            ratio = np.where(arrived >= STORM_REQUESTS, (arrived + again) / np.maximum(arrived, 1), 0.0)
            place = int(ratio.argmax())
            if ratio[place] > use.amplification:
                worst = AttemptsBin(
                    begin_s=float(edges[place]),
                    length_s=length_s,
                    requests=int(arrived[place]),
                    sent_again=int(again[place]),
                    amplification=float(ratio[place]),
                )
    return Storm(amplification=known(use.amplification), worst=worst)


def _over_time(requests: Came, use: FleetUse) -> TtftOverTime | None:
    """By arrival, in equal bins from 0 to the last one; ``None`` where nothing came."""
    arrival_s = requests.arrival_s
    if not len(arrival_s) or arrival_s[-1] <= 0:
        return None
    bins = max(1, min(BINS, len(arrival_s) // BIN_REQUESTS))
    bin_s = float(arrival_s[-1]) / bins
    starts = np.searchsorted(arrival_s, bin_s * np.arange(1, bins), side="left")
    groups = np.split(requests.ttft_s, starts)
    answered = [group[np.isfinite(group)] for group in groups]
    quantiles = [[known(each * 1e3) for each in percentiles(group, (50.0, 99.0)).tolist()] for group in answered]
    edges = np.append(bin_s * np.arange(bins), math.inf)
    return TtftOverTime(
        bin_s=bin_s,
        requests=tuple(len(group) for group in groups),
        failed=tuple(len(group) - len(known_s) for group, known_s in zip(groups, answered, strict=True)),
        sent_again=tuple(np.histogram(use.again_s, edges)[0].tolist()),
        ttft_p50_ms=tuple(each[0] for each in quantiles),
        ttft_p99_ms=tuple(each[1] for each in quantiles),
    )
