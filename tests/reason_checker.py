"""Whether each sentence of ``why`` is true of its run: every figure again, from requests, steps and counters.

No rule of ``kvsim.reasons`` is used for that. A sentence is read by a pattern; one that has none is a finding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from token_account import Account, account_of

from kvsim.modes.experiment import Experiment
from kvsim.plan.engine_settings import EngineSettings
from kvsim.plan.plan import Plan
from kvsim.reasons import Reason
from kvsim.record.result import COMPONENTS, SystemResult, Table

N = r"(\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?)"
P = r"([<>]?\d[\d,.]*%)"
PARTS = {
    "Lost attempts are": "retry_s",
    "The hop through the proxy is": "proxy_s",
    "Queueing is": "queue_s",
    "Others' work in the same steps (batch interference) is": "interference_s",
    (
        "Others' work in the same steps (batch interference), and loads of LoRA adapters before them, are"
    ): "interference_s",
    "Computing the prompt itself is": "prefill_s",
    "Preemption is": "preemption_s",
    "KV on its way to decode instances is": "transfer_s",
    "Loading KV from tiers is": "tier_load_s",
    "Waiting for room on the decode side and for a step there is": "decode_wait_s",
    "The first decode step is": "first_decode_s",
}
LABELS = dict(
    zip(
        ("lost attempts", "proxy", "queue", "batch interference", "preemption", "tier load", "prefill compute",
         "exposed transfer", "decode wait", "first decode step"),
        COMPONENTS,
        strict=True,
    )
)  # fmt: skip


def same(said: str, true: float) -> bool:
    """Whether a printed figure is ``true`` rounded: to its last digit, or as a share."""
    if said.startswith(("<", ">")):
        return (0 < true < 0.0005) if said[0] == "<" else (0.9995 <= true < 1)
    digits = said.rstrip("%").replace(",", "")
    scale = 100.0 if said.endswith("%") else 1.0
    return abs(float(digits) - true * scale) <= 1.0000002 * half_a_digit(said) + 1e-9


def half_a_digit(said: str) -> float:
    """By how much rounding may have changed a printed figure, in its own unit."""
    mantissa, _, exponent = said.rstrip("%").partition("e")
    return 0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def all_same(said: Sequence[str], *true: float) -> bool:
    return len(said) == len(true) and all(map(same, said, true))


@dataclass(frozen=True)
class Facts:
    """One result of an experiment."""

    experiment: Experiment
    index: int
    first: int | None = None
    """Requests that a sentence looked at, where not all."""

    @property
    def result(self) -> SystemResult:
        return self.experiment.results[self.index]

    @property
    def plan(self) -> Plan:
        return self.experiment.plans[self.index]

    @property
    def is_pd(self) -> bool:
        return self.result.transfer is not None

    @property
    def settings(self) -> EngineSettings:
        return self.plan.prefill_settings if self.is_pd else self.plan.colocated_settings

    @property
    def table(self) -> Table:
        return self.result.table

    @cached_property
    def measured(self) -> Table:
        return {name: column[self.result.measured] for name, column in self.table.items()}

    @cached_property
    def account(self) -> Account:
        settings = self.settings
        return account_of(
            self.experiment.workload,
            self.result,
            settings.block_size,
            enabled=settings.enable_prefix_caching,
            in_order=settings.scheduling_policy == "fcfs",
            forwards=self.plan.config.pd_separation.first_token == "prefill",
            first=self.first,
        )

    @property
    def lost_attempts(self) -> int:
        """Attempts of requests that came to nothing."""
        fleet = self.result.fleet
        return 0 if fleet is None else fleet.resent + fleet.retried + fleet.gave_up

    @property
    def prompt_tokens(self) -> int:
        return sum(each.prompt for each in self.account.served)

    @property
    def hits(self) -> float:
        return sum(each.hit for each in self.account.served) / self.prompt_tokens

    @property
    def unified(self) -> Facts:
        return next(each for each in facts_of(self.experiment) if not each.is_pd)

    def ttft_ms(self, part: str | None = None) -> float:
        table = self.measured
        return float((table["first_token_s"] - table["arrival_s"] if part is None else table[part]).mean()) * 1e3

    def late(self) -> np.ndarray:
        """The measured requests about p99 of TTFT, as the report's attribution takes them."""
        ttft_s = self.measured["first_token_s"] - self.measured["arrival_s"]
        low, middle, high = np.percentile(ttft_s, (98.5, 99.0, 99.5))
        rows = (ttft_s >= low) & (ttft_s <= high)
        return rows if rows.any() else np.abs(ttft_s - middle) == np.abs(ttft_s - middle).min()


def facts_of(experiment: Experiment) -> list[Facts]:
    return [Facts(experiment, index) for index in range(len(experiment.results))]


def findings(experiment: Experiment, reasons: Sequence[Reason]) -> list[str]:
    """What of ``reasons`` is not true, or not known here."""
    every = facts_of(experiment)
    found = []
    for reason in reasons:
        own = [each for each in every if each.result.name == reason.system] or [each for each in every if each.is_pd]
        said, facts = _looked_at(reason.sentence, own[0])
        rules = [(match, rule) for pattern, rule in RULES if (match := re.fullmatch(pattern, said))]
        if len(rules) != 1:
            found.append(f"{len(rules)} rules read: {reason.sentence}")
        elif not rules[0][1](facts, *rules[0][0].groups()):
            found.append(f"{reason.system}: not so: {reason.sentence}")
    return found


def _looked_at(said: str, facts: Facts) -> tuple[str, Facts]:
    """A sentence without the clause that not all requests were looked at, and the facts of those that were."""
    sentence, counts = without_sample(said)
    if counts is None:
        return said, facts
    first, whole = counts
    assert first < whole == len(facts.table["request_id"])
    return sentence, replace(facts, first=first)


def without_sample(said: str) -> tuple[str, tuple[int, int] | None]:
    """A sentence without that clause, and how many requests of how many it names."""
    some = re.search(rf" \(of the first {N} of {N} requests\)\.$", said)
    if some is None:
        return said, None
    first, whole = (int(count.replace(",", "")) for count in some.groups())
    return f"{said[: some.start()]}.", (first, whole)


Rule = Callable[..., bool]
RULES: list[tuple[str, Rule]] = []


def says(pattern: str) -> Callable[[Rule], Rule]:
    def take(rule: Rule) -> Rule:
        RULES.append((pattern, rule))
        return rule

    return take
