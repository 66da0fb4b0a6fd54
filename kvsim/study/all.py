"""Which studies there are, and running those that are wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from kvsim.config.comparison import Comparison
from kvsim.config.schema_studies import Studies
from kvsim.failures import Failures
from kvsim.study.context import Bed
from kvsim.study.questions.compare import compare_study
from kvsim.study.questions.context import context_study
from kvsim.study.questions.pd_ratio import pd_ratio_study
from kvsim.study.questions.transfer import transfer_study
from kvsim.study.questions.unified_budget import unified_budget_study
from kvsim.workload.traffic import Traffic
from kvsim.workload.workload import Workload

STUDIES: Mapping[str, Callable[[Bed], dict[str, Any]]] = {
    "pd_ratio": pd_ratio_study,
    "transfer": transfer_study,
    "unified_budget": unified_budget_study,
    "context": context_study,
}


class Studied(NamedTuple):
    """What came of studies."""

    found: dict[str, Any]
    """The report's ``studies``."""
    cut_short: bool
    """By an interrupt."""


def why_none(workload: Workload, traffic: Traffic, settings: Studies) -> str | None:
    """Why there is nothing to study, if so: traffic without a rate, or of too few requests.

    ``workload`` is what the run served.
    """
    if not math.isfinite(workload.mean_rate_per_s):
        return workload.without_rate
    distinct, fewest = traffic.most_requests, settings.fewest_requests
    if distinct is not None and traffic.copies_at(workload.mean_rate_per_s) is not None:
        distinct = min(distinct, len(workload))
    if distinct is None or distinct >= fewest:
        return None
    return f"too few requests ({distinct:,}; needs at least {fewest:,})"


def run_studies(bed: Bed, names: Sequence[str], failures: Failures, comparisons: Sequence[Comparison] = ()) -> Studied:
    """Each of ``names``, after the comparisons."""
    questions: dict[str, Callable[[], dict[str, Any]]] = {name: partial(STUDIES[name], bed) for name in names}
    if comparisons:
        questions = {"compare": partial(compare_study, bed, comparisons), **questions}
    return answered(questions, failures)


def answered(questions: Mapping[str, Callable[[], dict[str, Any]]], failures: Failures) -> Studied:
    """One after the other; one that cannot be answered leaves the others and the run before them their results."""
    found: dict[str, Any] = {}
    try:
        for name, ask in questions.items():
            study = failures.attempt(f"study {name}", ask)
            if study is not None:
                found[name] = study
    except KeyboardInterrupt:
        return Studied(found, True)
    return Studied(found, False)
