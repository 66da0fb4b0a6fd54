"""Which prefill:decode ratio serves most: every ratio is offered more than any can take."""

from __future__ import annotations

from kvsim.experiments.standalone import standing_alone
from kvsim.plan.mode import PD
from kvsim.study.questions.pd_ratio import STUDY as RATIO

STUDY = standing_alone(
    RATIO,
    __name__,
    PD,
    lambda answer: answer.points,
    smoke=("studies.max_requests=2000", "studies.budget_requests=24000"),
)
