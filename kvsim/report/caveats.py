"""What a reader must know before believing a report."""

from __future__ import annotations

from collections.abc import Iterator

from kvsim.config.disturbed import disturbances
from kvsim.modes.cluster import Cluster
from kvsim.reasons.reason import most_important
from kvsim.record.figures import SystemSummary
from kvsim.record.labels import counted, listed, percent, ratio, system_label
from kvsim.record.plain import plain
from kvsim.report.conclusion import is_overloaded
from kvsim.report.sections import Sections
from kvsim.workload.info import NONE_ALIKE

UNBALANCED = 0.4
"""A side used less than this share of the other is worth a warning."""
_REASONS_OF = {NONE_ALIKE: "nothing_shared"}
"""Notes, and the rules whose reasons say the same."""
LONG_CPU_S = 30.0
"""CPU seconds of a run in pure Python, from which on compiling is worth a word."""


def violations(report: Sections) -> list[str]:
    """Conservation laws that do not hold: the simulation itself is wrong."""
    return [
        f"{system_label(result.name)}: {check.name}: expected {plain(check.expected)!r}, found {plain(check.found)!r}"
        for result in report.results
        for check in result.conservation.checks
        if not check.ok
    ]


def warnings(report: Sections) -> list[str]:
    """Sentences on what limits the figures: interruption, unsteadiness, imbalance, what failed or had no effect,
    calibration, the trace.
    """
    found: list[str] = []
    for result in report.results:
        label = system_label(result.name)
        requests = result.requests
        if result.incomplete:
            found.append(
                f"{label}: incomplete, interrupted with {requests.completed:,} of {requests.arrived:,} arrived "
                f"requests done"
            )
        if not result.steady.ok:
            kind = "" if is_overloaded(result) else "not steady: "
            found.append(f"{label}: {kind}{result.steady.why}")
        found += [f"{label}: {failed}" for failed in _failed(result)]
        found += [f"{label}: {left_out}" for left_out in _left_out(result, report)]
        found += _imbalance(result, report.cluster)
    found += [failure.sentence() for failure in report.run.failures]
    found += report.cluster.warnings
    found += report.launch.warnings if report.launch is not None else ()
    found += [f"calibration: {text}" for text in report.calibration.warnings]
    return found + [f"trace: {text}" for text in report.workload.lint]


def _failed(result: SystemSummary) -> Iterator[str]:
    """How many requests have no answer, and why; misfits are all that the fleet did not lose."""
    fleet = result.fleet
    gave_up, unserved = (0, 0) if fleet is None else (fleet.gave_up, fleet.unserved)
    reasons = {
        "longer than model.max_model_len or the KV blocks of an instance allow": result.misfits,
        "their clients gave them up": gave_up,
        "no instance was left to serve them, and none was to come": unserved,
    }
    for why, count in reasons.items():
        if count:
            told = why.replace("their clients gave them", "its client gave it").replace("them", "it")
            yield (
                f"{counted(count, 'request')} failed: {told if count == 1 else why}; "
                f"{'it counts' if count == 1 else 'they count'} against the SLO"
            )


def _left_out(result: SystemSummary, report: Sections) -> Iterator[str]:
    """What happens to parts that this system lacks."""
    numbers = result.events_left_out
    if numbers:
        events = report.config.fleet.events
        told = listed([f"fleet.events[{number}] ({events[number].kind})" for number in numbers])
        concern, it = ("concerns", "it") if len(numbers) == 1 else ("concern", "them")
        yield f"{told} {concern} no part of this system, which ran without {it}"


def _calm(report: Sections) -> Iterator[str]:
    """What is not told of a fleet to which something happens."""
    keys = disturbances(report.config)
    if keys:
        studies = ["studies"] if report.studies else []
        whose = listed([*studies, "maximum rates", "loads", "rates that are searched for"])
        yield f"{whose} are without {listed(keys)}: of instances that all serve, and clients that wait"


def of_run(report: Sections) -> Iterator[str]:
    """What there is to say of the command itself, whatever it simulated."""
    run = report.run
    if run.engine == "pure" and run.cpu_s > LONG_CPU_S:
        yield (
            f"{run.cpu_s:,.0f} s of CPU in pure Python; compiled, simulating takes a third to a half: 'make compile' "
            "in a checkout, or KVSIM_COMPILE=1 in pip's environment where it builds kvsim from its sources"
        )


def notes(report: Sections, *, with_run: bool = True) -> list[str]:
    """Plain sentences for the reader, each once; none that a reason says that is told, too.

    ``with_run``: what :func:`of_run` says as well, which of several reports of one command would be said of each.
    """
    every = [
        *(report.launch.notes if report.launch is not None else ()),
        *report.workload.notes,
        *(note for result in report.results for note in result.notes),
    ]
    every += of_run(report) if with_run else ()
    every += _calm(report)
    told = {reason.rule for reason in most_important(report.why)}
    return [note for note in dict.fromkeys(every) if _REASONS_OF.get(note) not in told]


def _imbalance(result: SystemSummary, cluster: Cluster) -> Iterator[str]:
    sides = result.utilisation
    if "prefill" not in sides or "decode" not in sides:
        return
    prefill, decode = sides["prefill"], sides["decode"]
    is_loaded = prefill.load is not None and decode.load is not None
    given = (prefill.load, decode.load) if is_loaded else (prefill.busy, decode.busy)
    if given[0] is None or given[1] is None:
        return
    shares = {"prefill": given[0], "decode": given[1]}
    idle, used = sorted(shares, key=lambda side: shares[side])
    if shares[idle] >= UNBALANCED * shares[used]:
        return
    word = "loaded to" if is_loaded else "busy"
    balanced, actual = cluster.balanced_pd_ratio, (cluster.prefill_instances, cluster.decode_instances)
    others = balanced if balanced != actual else None
    advice = f"; P:D {ratio(others)} would balance them" if others else "; no other ratio is nearer to balance"
    yield (
        f"{system_label(result.name)}: unbalanced sides, {idle} {word} {percent(shares[idle])} and {used} "
        f"{percent(shares[used])} (P:D {ratio(actual)})"
        f"{advice}"
    )
