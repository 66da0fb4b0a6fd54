"""Which way to move KV: TTFT of each strategy against the configured one."""

from __future__ import annotations

from kvsim.experiments.standalone import standing_alone
from kvsim.plan.mode import PD
from kvsim.study.questions.transfer import STUDY as TRANSFER

STUDY = standing_alone(
    TRANSFER,
    __name__,
    PD,
    lambda answer: answer.rows,
    smoke=("studies.replications=4", "studies.most_replications=8", "studies.budget_requests=16000"),
    at_load=True,
)
