"""What a terminal says of instances that came and went, and of requests that were sent more than once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.table import Table

from kvsim.record.figures import SystemSummary
from kvsim.record.fleet_figures import FleetFigures, IncidentFigures
from kvsim.record.labels import number, percent, system_label
from kvsim.study.words import table_of

MOST_INCIDENTS = 8
"""Incidents that a terminal shows of a system; the JSON report has all."""

_COUNTS: tuple[tuple[str, Callable[[FleetFigures], int]], ...] = (
    ("times a request lost its instance", lambda fleet: fleet.requests_hit),
    ("sent again by the router", lambda fleet: fleet.resent),
    ("given up by the router", lambda fleet: fleet.router_gave_up),
    ("attempts timed out", lambda fleet: fleet.timed_out),
    ("sent again by clients", lambda fleet: fleet.retried),
    ("requests given up", lambda fleet: fleet.gave_up),
    ("requests that nobody was left to serve", lambda fleet: fleet.unserved),
    ("times held at the router", lambda fleet: fleet.held),
    ("prompt tokens computed in vain", lambda fleet: fleet.lost_prefill_tokens),
)


def fleet_tables(results: Sequence[SystemSummary]) -> Iterator[Table]:
    """One of counts, all systems side by side, and one of incidents for each system that had some."""
    known = [(result, result.fleet) for result in results if result.fleet is not None]
    if not known:
        return
    yield _counts(known)
    for result, fleet in known:
        if fleet.incidents:
            yield _incidents(system_label(result.name), fleet)


def _counts(known: Sequence[tuple[SystemSummary, FleetFigures]]) -> Table:
    """Rows in which all are nothing are left out."""
    table = table_of("The fleet, over the whole run", ["", *(system_label(result.name) for result, _ in known)])
    fleets = [fleet for _, fleet in known]
    for role in dict.fromkeys(role for fleet in fleets for role in fleet.instances):
        table.add_row(f"{role} instances in service, fewest", *(_in_service(fleet, role) for fleet in fleets))
    for label, read in _COUNTS:
        if any(map(read, fleets)):
            table.add_row(label, *(f"{read(fleet):,}" for fleet in fleets))
    table.add_row("attempts a request", *(number(fleet.storm.amplification) for fleet in fleets))
    if any(fleet.storm.worst is not None for fleet in fleets):
        table.add_row("at worst", *map(_worst, fleets))
    return table


def _in_service(fleet: FleetFigures, role: str) -> str:
    found = fleet.instances.get(role)
    return "" if found is None else f"{found.fewest_serving:,} of {found.instances:,}"


def _worst(fleet: FleetFigures) -> str:
    worst = fleet.storm.worst
    if worst is None:
        return ""
    return f"{number(worst.amplification)} in {number(worst.length_s)} s from {number(worst.begin_s)} s on"


def _incidents(label: str, fleet: FleetFigures) -> Table:
    """Three rows each: who it hit and how requests fared before, during and after."""
    shown = _gravest(fleet.incidents)
    of = f", {len(shown)} of {len(fleet.incidents):,}" if len(shown) < len(fleet.incidents) else ""
    asked = f"{100 * fleet.slo_share:.4g}% of {fleet.window_requests} requests in a row"
    title = f"{label}: TTFT around incidents{of}\nwithin the SLO: that of {asked}"
    table = table_of(title, ["", "", "came", "in SLO", "failed", "p50 ms", "p99 ms"])
    for incident in shown:
        phases = (("before", incident.before), ("during", incident.during), ("after", incident.after))
        for words, (phase, found) in zip(_told(incident), phases, strict=True):
            cells = (
                f"{found.requests:,}",
                percent(found.within_ttft),
                f"{found.failed:,}",
                number(found.ttft_p50_ms),
                number(found.ttft_p99_ms),
            )
            table.add_row(words, phase, *cells, end_section=phase == "after")
    return table


def _gravest(incidents: Sequence[IncidentFigures]) -> list[IncidentFigures]:
    """In their order, those from which requests took longest to come back, and then those that hit most of them."""
    if len(incidents) <= MOST_INCIDENTS:
        return list(incidents)
    worst = sorted(range(len(incidents)), key=lambda place: _grave(incidents[place]), reverse=True)[:MOST_INCIDENTS]
    return [incidents[place] for place in sorted(worst)]


def _grave(incident: IncidentFigures) -> tuple[bool, float, int]:
    return incident.recovery == "not_by_the_end", incident.recovery_s or 0.0, incident.requests_hit


def _told(incident: IncidentFigures) -> tuple[str, str, str]:
    """What and where, from when to when, when requests were within the SLO again."""
    when = f"from {number(incident.begin_s)} s on"
    if incident.end_s is not None:
        when = f"{number(incident.begin_s)} to {number(incident.end_s)} s"
    hit = f", {incident.requests_hit:,} hit" if incident.requests_hit else ""
    return f"{incident.kind} {incident.where}", f"{when}{hit}", recovery_words(incident)


def recovery_words(incident: IncidentFigures) -> str:
    """When requests were within the SLO's TTFT again."""
    if incident.recovery == "recovered":
        return f"within the SLO after {number(incident.recovery_s)} s"
    words = {
        "never_outside": "never outside the SLO",
        "not_by_the_end": "outside the SLO to the end",
        "too_few_requests": "too few requests to tell",
    }
    return words[incident.recovery]
