"""What a reader must know before believing a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kvsim.record.labels import percent, ratio, system_label
from kvsim.report.conclusion import is_overloaded

UNBALANCED = 0.4
"""A side used less than this share of the other is worth a warning."""
LONG_CPU_S = 30.0
"""CPU seconds of a run in pure Python, from which on compiling is worth a word."""


def violations(report: Mapping[str, Any]) -> list[str]:
    """Conservation laws that do not hold: the simulation itself is wrong."""
    return [
        f"{system_label(result['name'])}: {check['name']}: expected {check['expected']!r}, found {check['found']!r}"
        for result in report["results"]
        for check in result["conservation"]["checks"]
        if not check["ok"]
    ]


def warnings(report: Mapping[str, Any]) -> list[str]:
    """Sentences on what limits the figures: interruption, unsteadiness, imbalance, what failed or had no effect,
    calibration, the trace.
    """
    found: list[str] = []
    for result in report["results"]:
        label = system_label(result["name"])
        if result["incomplete"]:
            requests = result["requests"]
            found.append(
                f"{label}: incomplete, interrupted with {requests['completed']:,} of {requests['arrived']:,} arrived "
                f"requests done"
            )
        if not result["steady"]["ok"]:
            kind = "" if is_overloaded(result) else "not steady: "
            found.append(f"{label}: {kind}{result['steady']['why']}")
        if result["requests"]["failed"]:
            failed = f"{result['requests']['failed']:,} requests failed"
            why = "longer than model.max_model_len or the KV blocks of an instance allow"
            found.append(f"{label}: {failed}: {why}; they count against the SLO")
        found += _imbalance(result, report["cluster"])
    for failure in report["run"].get("failures") or ():
        defect = ", a defect of kvsim" if failure["is_defect"] else ""
        found.append(f"{failure['part']} failed{defect}: {failure['why']}")
    found += report["cluster"].get("warnings") or ()
    found += [f"calibration: {text}" for text in report["calibration"]["warnings"] or ()]
    return found + [f"trace: {text}" for text in report["workload"]["lint"] or ()]


def notes(report: Mapping[str, Any]) -> list[str]:
    """Plain sentences for the reader, each once."""
    every = [*(report["workload"]["notes"] or ()), *(note for r in report["results"] for note in r["notes"])]
    run = report["run"]
    if run.get("engine") == "pure" and run["cpu_s"] > LONG_CPU_S:
        every.append(
            f"{run['cpu_s']:,.0f} s of CPU in pure Python; compiled, simulating takes about half: 'make compile' in a "
            "checkout, or KVSIM_COMPILE=1 in pip's environment where it builds kvsim from its sources"
        )
    return list(dict.fromkeys(every))


def _imbalance(result: Mapping[str, Any], cluster: Mapping[str, Any]) -> Iterator[str]:
    sides = result["utilisation"]
    if "prefill" not in sides or "decode" not in sides:
        return
    measure = "load" if all(sides[side]["load"] is not None for side in ("prefill", "decode")) else "busy"
    shares = {side: sides[side][measure] for side in ("prefill", "decode")}
    idle, used = sorted(shares, key=lambda side: shares[side] or 0.0)
    if None in shares.values() or shares[idle] >= UNBALANCED * shares[used]:
        return
    word = "loaded to" if measure == "load" else "busy"
    balanced, actual = cluster["balanced_pd_ratio"], [cluster["prefill_instances"], cluster["decode_instances"]]
    others = balanced and list(balanced) != actual
    advice = f"; P:D {ratio(balanced)} would balance them" if others else "; no other ratio is nearer to balance"
    yield (
        f"{system_label(result['name'])}: unbalanced sides, {idle} {word} {percent(shares[idle])} and {used} "
        f"{percent(shares[used])} (P:D {ratio(actual)})"
        f"{advice}"
    )
