"""Whether what a report concludes is true: every figure and every claim again, from the CSV of its requests.

Nothing of kvsim is used for that: the sentences are read, and what they say is computed from the rows, the windows and
the counts of failed requests. Each part of a sentence needs a rule here; one without a rule is a finding.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

PARTS = {
    "queue": "queue_s",
    "batch interference": "interference_s",
    "preemption": "preemption_s",
    "tier load": "tier_load_s",
    "prefill compute": "prefill_s",
    "exposed transfer": "transfer_s",
    "decode wait": "decode_wait_s",
    "first decode step": "first_decode_s",
}
GOODPUT_TIE, LATENCY_TIE = 0.02, 0.05
GROWTH_S_PER_MIN = 1.2
N = r"(-|[\d,.]+(?:e[+-]\d+)?)"
P = r"([<>]?[\d.,]+%|-)"
NAME = r"([\w.:]+(?: (?:on|off))?)"
NAMES = r"((?:[\w.:]+(?: (?:on|off))?, )*[\w.:]+(?: (?:on|off))?(?: and [\w.:]+(?: (?:on|off))?)?)"
WHERE = (
    rf"(?:at {N} of (?:PD|unified)'s maximum rate \({N} requests/s\)|at {N} requests/s"
    rf"|at the workload's own {N} requests/s|for this workload)"
)
FACTS = rf"hits {P} of prompt tokens at a mean TTFT of {N} ms"
Rows = Iterable[Mapping[str, str]]


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def check_conclusion(report: Mapping[str, Any], csv_rows: Rows, conclusion: str | None = None) -> list[str]:
    """What of ``conclusion``, or of the figures it stands on, is not so; empty where all is true.

    ``report`` is the JSON report, ``csv_rows`` the file of its requests. Without ``conclusion``: the one that kvsim
    prints below this report.
    """
    systems = _systems(report, csv_rows)
    if conclusion is None:
        conclusion = concluded(report)
    found = _measured_alike(report, systems)
    if report["results"]:
        found += _Sentence(report, systems).check(" ".join(conclusion.split()))
    return found


def concluded(report: Mapping[str, Any]) -> str:
    from reports import read_back

    return read_back(report).conclusion


class _System:
    """One compared system, from its rows."""

    def __init__(self, result: Mapping[str, Any], slo: Mapping[str, float], rows: list[Mapping[str, str]]) -> None:
        self.name, self.result = result["name"], result
        self.label = "PD" if self.name == "pd" else self.name
        wanted = ("arrival_s", "first_token_s", "finish_s", "output_tokens", "prompt_tokens", "hit_tokens")
        wanted += ("loaded_tokens", "computed_tokens", *PARTS.values())
        self.of = {name: np.array([float(row[name]) for row in rows]) for name in wanted}
        measured = np.array([row["measured"] == "true" for row in rows], dtype=bool)
        of, window = self.of, result["window_s"]
        self.ttft_ms = (of["first_token_s"] - of["arrival_s"]) * 1e3
        later = of["output_tokens"] - 1
        self.tpot_ms = np.where(later > 0, (of["finish_s"] - of["first_token_s"]) / np.maximum(later, 1), np.nan) * 1e3
        self.e2e_s = of["finish_s"] - of["arrival_s"]
        self.measured = measured
        self.inside = (of["finish_s"] > window["start"]) & (of["finish_s"] <= window["end"])
        self.length_s = window["end"] - window["start"]
        self.failed = result["requests"]["failed_in_window"]
        self.in_ttft = self.ttft_ms <= slo["ttft_ms"]
        self.in_tpot = ~(self.tpot_ms > slo["tpot_ms"])

    @property
    def throughput(self) -> float:
        return float(self.inside.sum()) / self.length_s if self.length_s > 0 else np.nan

    def share(self, good: np.ndarray) -> float:
        judged = int(self.inside.sum()) + self.failed
        return float((good & self.inside).sum()) / judged if judged else np.nan

    @property
    def goodput(self) -> float:
        good = (self.in_ttft & self.in_tpot & self.inside).sum()
        return float(good) / self.length_s if self.length_s > 0 else 0.0

    def p99(self, key: str) -> float:
        values = (self.ttft_ms if key == "TTFT" else self.tpot_ms)[self.measured]
        values = values[~np.isnan(values)]
        return float(np.percentile(values, 99)) if values.size else np.nan

    @property
    def mean_ttft_ms(self) -> float:
        return float(self.ttft_ms[self.measured].mean()) if self.measured.any() else 0.0

    @property
    def hit_rate(self) -> float:
        prompts = float(self.of["prompt_tokens"].sum())
        return float((self.of["hit_tokens"] + self.of["loaded_tokens"]).sum()) / prompts if prompts else 0.0

    def at_p99(self) -> dict[str, float]:
        """The parts of TTFT, averaged over the requests between p98.5 and p99.5."""
        ttft_ms = self.ttft_ms[self.measured]
        low, middle, high = np.percentile(ttft_ms, (98.5, 99.0, 99.5))
        rows = (ttft_ms >= low) & (ttft_ms <= high)
        if not rows.any():
            distance = np.abs(ttft_ms - middle)
            rows = distance == distance.min()
        return {label: float(self.of[name][self.measured][rows].mean()) * 1e3 for label, name in PARTS.items()}

    @property
    def is_overloaded(self) -> bool:
        return bool(self.result["steady"]["overloaded"])


def _systems(report: Mapping[str, Any], csv_rows: Rows) -> dict[str, _System]:
    by_name: dict[str, list[Mapping[str, str]]] = {result["name"]: [] for result in report["results"]}
    for row in csv_rows:
        by_name[row["system"]].append(row)
    slo = report["config"]["slo"]
    found = {result["name"]: _System(result, slo, by_name[result["name"]]) for result in report["results"]}
    return {system.label: system for system in found.values()}


def _measured_alike(report: Mapping[str, Any], systems: Mapping[str, _System]) -> list[str]:
    """The figures of the report that sentences stand on, and what must hold of any report."""
    found: list[str] = []

    def must(holds: bool, words: str) -> None:
        if not holds:
            found.append(words)

    windows = {(s.result["window_s"]["start"], s.result["window_s"]["end"]) for s in systems.values()}
    must(len(windows) <= 1, f"compared systems are measured over windows of their own: {sorted(windows)}")
    factor = report["config"]["load"]["unsteady_factor"]
    late_of = {
        label: float(np.percentile(system.e2e_s[system.measured], 95)) if system.measured.any() else 0.0
        for label, system in systems.items()
    }
    waits = any(system.is_overloaded for system in systems.values())
    for label, system in systems.items():
        result, requests = system.result, system.result["requests"]
        must(len(system.ttft_ms) == requests["completed"], f"{label}: rows are not the completed requests")
        must(int(system.inside.sum()) == requests["completed_in_window"], f"{label}: completions in the window")
        rate = result["throughput"]["requests_per_s"]
        if rate is not None:
            must(_near(rate * system.length_s, int(system.inside.sum()), 1e-9), f"{label}: throughput x window")
            must(_near(result["goodput"]["requests_per_s"], system.goodput, 1e-9), f"{label}: goodput")
        for key, good in (
            ("share", system.in_ttft & system.in_tpot),
            ("ttft_share", system.in_ttft),
            ("tpot_share", system.in_tpot),
        ):
            told = result["goodput"][key]
            must(told is None or _near(told, system.share(good), 1e-9), f"{label}: goodput's {key}")
        parts_ms = sum(system.of[name] for name in PARTS.values()) * 1e3
        # As precise as the times are that they are differences of: thousands of years have no nanoseconds.
        rounding_ms = max(1e-6, 1e-11 * float(system.of["first_token_s"].max(initial=0.0)))
        must(bool(np.all(np.abs(parts_ms - system.ttft_ms) < rounding_ms)), f"{label}: parts of TTFT do not sum to it")
        if result["steady"]["ok"]:
            # Overloaded, a system has no late E2E to hold a window against: who stands beside it has its own.
            late_s = late_of[label] if waits else max(late_of.values())
            must(system.length_s >= factor * late_s * (1 - 1e-9), f"{label}: steady, and no {factor} x {late_s} s")
            must(not system.is_overloaded, f"{label}: steady and overloaded")
    return found


class _Sentence:
    """Reads a conclusion, clause by clause."""

    def __init__(self, report: Mapping[str, Any], systems: Mapping[str, _System]) -> None:
        self.report, self.systems = report, systems
        self.found: list[str] = []
        self.clause = ""
        self.first = next(iter(systems.values()))
        self.overloaded = any(system.is_overloaded for system in systems.values())

    def check(self, text: str) -> list[str]:
        prefix = re.match(r"\[(.*?)\] ", text)
        if prefix:
            self.clause = prefix.group(1)
            self.prefix(prefix.group(1))
            text = text[prefix.end() :]
        elif not self.overloaded and not all(s.result["steady"]["ok"] for s in self.systems.values()):
            self.found.append("no word on runs that are not steady")
        self.clause = text
        self.where(text)
        clauses = text.removesuffix(".").split("; ")
        if not clauses[0].startswith(tuple(self.systems)):
            clauses[0] = clauses[0][0].lower() + clauses[0][1:]
        for clause in clauses:
            self.clause = clause
            for pattern, rule in self.rules():
                match = re.fullmatch(pattern, clause)
                if match:
                    rule(*match.groups())
                    break
            else:
                self.found.append(f"no rule for: {clause}")
        return self.found

    def rules(self) -> list[tuple[str, Callable[..., None]]]:
        missed = rf"{NAME} misses the (TTFT|TPOT) limit of {N} ms in {P} of requests and {NAME} in {P}"
        completes = rf"{NAME} completes {N} requests/s and {NAME} {N}"
        because = rf", because (?:{missed}|{completes})"
        against = rf"\({N} against {N} requests/s within the SLO\)"
        lower = rf"the lower p99 (TTFT|TPOT) \({N} against {N} ms\)"
        rates = rf"{N} requests/s come, {N} possible"
        grows = rf"TTFT grows with the length of the run, by {N} s a minute"
        beyond = rf"{NAME}: (?:{rates})?(?:, and )?(?:{grows})?"
        part = rf"([\w ]+?) for {NAME} \({P} of {N} ms\)"
        return [
            (rf"{NAME} gives {N} requests/s within the SLO where {NAME} gives none {WHERE}{because}", self.over_none),
            (rf"{NAME} gives {N} times the goodput of {NAME} {against} {WHERE}{because}", self.times),
            (rf"{NAME} gives {P} more goodput than {NAME} {against} {WHERE}{because}", self.more),
            (rf"{NAME} and {NAME} tie in goodput \({N} and {N} requests/s within the SLO\) {WHERE}", self.tie),
            (rf"neither {NAME} nor {NAME} serves a request within the SLO {WHERE}", self.neither),
            (rf"{NAME} gives {N} requests/s within the SLO {WHERE}", self.alone),
            ("nothing to compare it with", lambda: self.must(len(self.systems) == 1)),
            (rf"{NAME} has {lower}(?: and {lower})?", self.lower),
            (r"their p99 TTFT and TPOT are within 5%", self.near),
            (rf"{P} of requests fit no instance of {NAMES}, and count against the SLO", self.misfits),
            (rf"rates are over the whole run of {N} s, its filling and draining included", self.whole),
            (rf"the largest part of p99 TTFT is {part}(?: and {part})?", self.largest),
            (r"P:D ([\d,]+):([\d,]+) is balanced for this workload", self.balanced),
            (r"P:D ([\d,]+):([\d,]+) would balance the two sides, where ([\d,]+):([\d,]+) was simulated", self.advice),
            (rf"{NAMES} (?:is|are) overloaded {WHERE}: {beyond}", self.overload),
            (rf"{NAMES} keeps? up", lambda names: self.must(not any(s.is_overloaded for s in self.named(names)))),
            (r"the run is too short to tell what each can complete", self.too_short),
            (r"requests completed a second: (.*)", self.completed),
            (beyond, self.beyond),
            *self.tier_rules(),
        ]

    def tier_rules(self) -> list[tuple[str, Callable[..., None]]]:
        return [
            (rf"{NAME} {FACTS} {WHERE}", lambda name, hits, ms, *_: self.facts(name, hits, ms)),
            (rf"{NAME} has the lowest mean TTFT {WHERE}: it {FACTS}, where {NAME} {FACTS}", self.lowest),
            (rf"{NAME} ties with {NAMES} in mean TTFT, within 5%: it {FACTS} {WHERE}", self.ties),
            (rf"{NAME} has the lowest mean TTFT beside {NAMES}, or ties, within 5%: it {FACTS} {WHERE}", self.no_lower),
            (rf"no other has a mean TTFT 5% or more below that of {NAME}, which {FACTS} {WHERE}", self.none_below),
            (rf"{NAMES} (?:is|are) within 5% of it", self.within),
            (rf"{NAMES} takes? longer, {N}(?: to {N})? ms", self.longer),
            (rf"the oracle hits {N} points (less|more) than {NAME}(: .*|, which is worth .*)", self.oracle),
            (rf"no policy can gain here: the oracle hits as much as {NAME}", self.oracle_tie),
            (rf"most of what {NAME} computes is ([\w :]+) \({P} of prompt tokens\)", self.misses),
            (rf"a cache without end would hit {P}, of which {NAME} has {P}", self.endless),
        ]

    # What every rule needs

    def must(self, holds: bool, why: str = "") -> None:
        if not holds:
            self.found.append(f"false: {self.clause}{f' ({why})' if why else ''}")

    def system(self, name: str) -> _System:
        return self.systems[name] if name in self.systems else self.systems[name.lower()]

    def named(self, names: str) -> list[_System]:
        return [self.system(name) for name in re.split(r", | and ", names)]

    def number(self, told: str, value: float) -> None:
        """Three significant digits."""
        if told == "-":
            self.must(not np.isfinite(value), f"{value}")
        else:
            self.must(_near(float(told.replace(",", "")), value, 6e-3), f"{value:.6g}")

    def percent(self, told: str, share: float, tolerance: float = 0.006) -> None:
        if told in ("<0.1%", ">99.9%"):
            self.must(0 < share < 1e-3 if told[0] == "<" else 0.999 <= share < 1, f"{share:.6g}")
        else:
            self.must(abs(float(told.rstrip("%").replace(",", "")) / 100 - share) <= tolerance, f"{share:.6g}")

    def where(self, text: str) -> None:
        """The load that all of it holds for."""
        workload = self.report["workload"]
        load = re.search(rf" at {N} of (PD|unified)'s maximum rate \({N} requests/s\)", text)
        if load:
            rho, of, rate = load.groups()
            asked = workload["load"]
            self.must((rho, of.lower()) == (f"{asked['rho']:g}", asked["of"]))
            self.number(rate, asked["rho"] * asked["max_requests_per_s"])
        asked = re.search(rf" at {N} requests/s(?: \({N} asked\))?", text)
        if asked:
            told = asked.group(2) or asked.group(1)
            self.must(told == f"{workload['asked_requests_per_s']:,.12g}")
            if asked.group(2):
                self.number(asked.group(1), self.report["results"][0]["steady"]["asked_requests_per_s"])
        own = re.search(rf" at the workload's own {N} requests/s", text)
        if own:
            self.number(own.group(1), workload["requests"] / workload["span_s"])

    # Goodput

    def ranked(self) -> None:
        self.must(not self.overloaded, "a ranking in overload")

    def better(self, best: _System, other: _System) -> None:
        self.ranked()
        self.must(not self.alike(best, other) and best.goodput > other.goodput, "goodput")

    @staticmethod
    def alike(one: _System, other: _System) -> bool:
        """Apart by less than the tie, or by where a window's edges fall among arrivals at random."""
        counts = [int(system.inside.sum()) for system in (one, other)]
        shares = [system.share(system.in_ttft & system.in_tpot) for system in (one, other)]
        edges = abs(counts[0] - counts[1]) <= 2 * max(counts) ** 0.5 and abs(shares[0] - shares[1]) < GOODPUT_TIE
        return bool(edges) or _apart(one.goodput, other.goodput) < GOODPUT_TIE

    def because(self, best: _System, *reason: str) -> None:
        loser, limit, limit_ms, told, winner, told_winner, slow, slow_rate, fast, fast_rate = reason
        if limit:
            pairs = ((loser, told), (winner, told_winner))
            for name, share in pairs:
                system = self.system(name)
                self.percent(share, 1 - system.share(system.in_ttft if limit == "TTFT" else system.in_tpot))
            self.number(limit_ms, self.report["config"]["slo"][f"{limit.lower()}_ms"])
            self.must(self.system(winner) is best)
        else:
            for name, rate in ((slow, slow_rate), (fast, fast_rate)):
                self.number(rate, self.system(name).throughput)
            self.must(self.system(fast) is best and best.throughput > self.system(slow).throughput)

    def over_none(self, best: str, rate: str, other: str, *rest: str) -> None:
        self.number(rate, self.system(best).goodput)
        self.must(self.system(other).goodput == 0)
        self.because(self.system(best), *rest[-10:])

    def times(self, best: str, times: str, other: str, high: str, low: str, *rest: str) -> None:
        one, two = self.system(best), self.system(other)
        self.better(one, two)
        for told, value in ((times, one.goodput / two.goodput), (high, one.goodput), (low, two.goodput)):
            self.number(told, value)
        self.because(one, *rest[-10:])

    def more(self, best: str, more: str, other: str, high: str, low: str, *rest: str) -> None:
        one, two = self.system(best), self.system(other)
        self.better(one, two)
        self.percent(more, one.goodput / two.goodput - 1)
        self.number(high, one.goodput)
        self.number(low, two.goodput)
        self.because(one, *rest[-10:])

    def tie(self, one: str, other: str, high: str, low: str, *_: str) -> None:
        self.ranked()
        self.number(high, self.system(one).goodput)
        self.number(low, self.system(other).goodput)
        self.must(self.alike(self.system(one), self.system(other)))

    def neither(self, one: str, other: str, *_: str) -> None:
        self.must(self.system(one).goodput == self.system(other).goodput == 0)

    def alone(self, name: str, rate: str, *_: str) -> None:
        self.ranked()
        self.number(rate, self.system(name).goodput)

    # Latencies

    def lower(self, name: str, *facts: str) -> None:
        self.ranked()
        one = self.system(name)
        others = [system for system in self.systems.values() if system is not one]
        for key, own, theirs in (facts[:3], facts[3:]):
            if key:
                self.number(own, one.p99(key))
                self.number(theirs, others[0].p99(key))
                self.must(one.p99(key) < others[0].p99(key) and _apart(one.p99(key), others[0].p99(key)) >= LATENCY_TIE)

    def near(self) -> None:
        self.ranked()
        one, other = list(self.systems.values())[:2]
        for key in ("TTFT", "TPOT"):
            values = one.p99(key), other.p99(key)
            self.must(bool(np.isnan(values).any()) or _apart(*values) < LATENCY_TIE, key)

    def largest(self, *facts: str) -> None:
        self.ranked()
        for label, name, share, total in (facts[:4], facts[4:]):
            if label:
                parts = self.system(name).at_p99()
                self.must(_near(parts[label], max(parts.values()), 1e-9), "another part is larger")
                self.number(total, sum(parts.values()))
                self.percent(share, parts[label] / sum(parts.values()))

    # Failures, windows, overload, balance

    def prefix(self, words: str) -> None:
        if words.startswith("Indicative only, not steady: "):
            for system in self.named(words.split(": ")[1]):
                self.must(not system.result["steady"]["ok"])
        elif words.startswith("Partial, interrupted: "):
            for system in self.named(words.split(": ")[1]):
                self.must(system.result["incomplete"])
        else:
            self.must(any(not system.result["conservation"]["ok"] for system in self.systems.values()))

    def misfits(self, share: str, names: str) -> None:
        for system in self.named(names):
            self.percent(share, system.failed / (system.failed + int(system.inside.sum())))

    def whole(self, length: str) -> None:
        for system in self.systems.values():
            self.number(length, system.length_s)
            last = system.of["finish_s"].max(initial=0.0)
            self.must(system.result["incomplete"] or last <= system.result["window_s"]["end"])

    def too_short(self) -> None:
        self.must(all(system.result["window_s"]["whole"] for system in self.systems.values()))

    def overload(self, names: str, *rest: str) -> None:
        for system in self.systems.values():
            self.must(system.is_overloaded == (system in self.named(names)), f"{system.label}")
        self.beyond(*rest[-4:])

    def beyond(self, name: str, asked: str | None, possible: str | None, growth: str | None) -> None:
        system = self.system(name)
        self.must(system.is_overloaded and bool(asked or growth))
        if asked and possible:
            steady = system.result["steady"]
            arrivals_s = system.of["arrival_s"]
            self.number(asked, steady["asked_requests_per_s"])
            self.number(possible, steady["possible_requests_per_s"])
            self.must(steady["asked_requests_per_s"] > steady["possible_requests_per_s"])
            if not system.result["incomplete"] and len(arrivals_s) > 30:
                came = (len(arrivals_s) - 1) / float(np.ptp(arrivals_s))
                self.must(_near(steady["asked_requests_per_s"], came, 0.1), f"{came:.4g} requests/s came")
        if growth:
            rows = system.measured
            slope = float(np.polyfit(system.of["arrival_s"][rows], system.ttft_ms[rows] / 1e3, 1)[0]) * 60
            self.number(growth, slope)
            self.must(slope >= GROWTH_S_PER_MIN)

    def completed(self, listed: str) -> None:
        told = [text.rsplit(" ", 1) for text in listed.split(", ")]
        self.must({self.system(name).label for name, _ in told} == set(self.systems))
        for name, rate in told:
            self.number(rate, self.system(name).throughput)
        rates = [self.system(name).throughput for name, _ in told]
        self.must(rates == sorted(rates, reverse=True))

    def balanced(self, prefill: str, decode: str) -> None:
        cluster = self.report["cluster"]
        told = [_count(prefill), _count(decode)]
        self.must(told == [cluster["prefill_instances"], cluster["decode_instances"]])
        best = cluster["balanced_pd_ratio"]
        self.must(_apart(best[0] / best[1], told[0] / told[1]) < 0.1 and not self.overloaded)

    def advice(self, prefill: str, decode: str, own_prefill: str, own_decode: str) -> None:
        cluster = self.report["cluster"]
        self.must([_count(prefill), _count(decode)] == cluster["balanced_pd_ratio"])
        own = [_count(own_prefill), _count(own_decode)]
        self.must(own == [cluster["prefill_instances"], cluster["decode_instances"]])

    # Policies and memories

    def facts(self, name: str, hits: str, ms: str) -> None:
        self.ranked()
        self.percent(hits, self.system(name).hit_rate, 0.011)
        self.number(ms, self.system(name).mean_ttft_ms)

    def real(self) -> list[_System]:
        return [system for system in self.systems.values() if system.name != "belady"]

    def lowest(self, name: str, *rest: str) -> None:
        hits, ms, other, other_hits, other_ms = rest[-5:]
        self.facts(name, hits, ms)
        self.facts(other, other_hits, other_ms)
        mine = self.system(name).mean_ttft_ms
        self.must(all(mine <= system.mean_ttft_ms for system in self.real()), "another is lower")
        self.must(self.system(other) is self.first and _apart(mine, self.first.mean_ttft_ms) >= LATENCY_TIE)

    def ties(self, name: str, names: str, hits: str, ms: str, *_: str) -> None:
        self.facts(name, hits, ms)
        mine = self.system(name).mean_ttft_ms
        self.must(all(_apart(mine, system.mean_ttft_ms) < LATENCY_TIE for system in self.named(names)))

    def no_lower(self, name: str, _: str, hits: str, ms: str, *__: str) -> None:
        self.none_below(name, hits, ms)

    def none_below(self, name: str, hits: str, ms: str, *_: str) -> None:
        self.facts(name, hits, ms)
        mine = self.system(name).mean_ttft_ms
        for other in self.real():
            self.must(other.mean_ttft_ms >= mine or _apart(mine, other.mean_ttft_ms) < LATENCY_TIE, other.name)

    def within(self, names: str) -> None:
        for system in self.named(names):
            self.must(_apart(system.mean_ttft_ms, self.first.mean_ttft_ms) < LATENCY_TIE, system.name)

    def longer(self, names: str, least: str, most: str | None) -> None:
        times = sorted(system.mean_ttft_ms for system in self.named(names))
        self.number(least, times[0])
        self.number(most or least, times[-1])
        self.must(times[0] > self.first.mean_ttft_ms)

    def oracle(self, points: str, which: str, name: str, worth: str) -> None:
        oracle, best = self.systems["belady"], self.system(name)
        ahead = 100 * (oracle.hit_rate - best.hit_rate) * (1 if which == "more" else -1)
        self.must(abs(float(points) - ahead) <= 1.1, f"{ahead:.3g}")
        if worth.startswith(", which is worth "):
            told = float(re.findall(r"-?\d[\d,.]*(?:e[+-]\d+)?", worth)[0].replace(",", ""))
            self.must(abs(told - (best.mean_ttft_ms - oracle.mean_ttft_ms)) <= 0.006 * abs(told) + 0.01)

    def oracle_tie(self, name: str) -> None:
        self.must(abs(self.systems["belady"].hit_rate - self.system(name).hit_rate) < 0.012)

    def misses(self, name: str, _: str, share: str) -> None:
        known = [value for value in self.system(name).result["cache"]["misses"].values() if value]
        self.percent(share, max(known))

    def endless(self, share: str, name: str, own: str) -> None:
        infinite = self.report["workload"]["infinite_cache_hit_rate_tokens"]
        self.percent(share, infinite)
        self.percent(own, self.system(name).hit_rate / infinite, 0.02)


def _count(text: str) -> int:
    """A number as it is printed."""
    return int(text.replace(",", ""))


def _near(a: float, b: float, tolerance: float) -> bool:
    return abs(a - b) <= tolerance * max(abs(a), abs(b)) + 1e-12


def _apart(a: float, b: float) -> float:
    larger = max(abs(a), abs(b))
    return abs(a - b) / larger if larger else 0.0
