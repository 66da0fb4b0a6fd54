"""All rules, by subject, and what they say of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kvsim.modes.experiment import Experiment
from kvsim.reasons import arrivals, hit_rate, offload, pd, rounds, scaling, ttft
from kvsim.reasons.evidence import Evidence
from kvsim.reasons.reason import Reason
from kvsim.record.figures import SystemSummary

Rule = Callable[[Evidence], Reason | None]
RULES: tuple[Rule, ...] = (
    *hit_rate.RULES, *ttft.RULES, *arrivals.RULES, *pd.RULES, *offload.RULES, *scaling.RULES, *rounds.RULES,
)  # fmt: skip


def reasons_of(experiment: Experiment, summaries: Sequence[SystemSummary]) -> tuple[Reason, ...]:
    """Why its results came out as they did, what explains most first; ``summaries`` are of ``experiment.results``."""
    found = sorted(_found(experiment, summaries), key=lambda reason: -reason.weight)
    return tuple(found)


def _found(experiment: Experiment, summaries: Sequence[SystemSummary]) -> Iterator[Reason]:
    for plan, result, summary in zip(experiment.plans, experiment.results, summaries, strict=True):
        if not len(result.table["request_id"]):
            continue
        others = [each for each in summaries if each is not summary]
        evidence = Evidence(experiment, plan, result, summary, others)
        for rule in RULES:
            reason = rule(evidence)
            if reason is not None:
                yield reason
