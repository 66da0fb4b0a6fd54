"""How large a rack's memory pool has to be: hits and TTFT without one and with several sizes."""

from __future__ import annotations

from kvsim.experiments.standalone import standing_alone
from kvsim.plan.mode import CLUSTER
from kvsim.study.questions.eic import STUDY as EIC

STUDY = standing_alone(
    EIC,
    __name__,
    CLUSTER,
    lambda answer: answer.rows,
    sets=("cluster.gpu.kv_capacity_gb=10",),
    smoke=("studies.replications=4", "studies.most_replications=6", "studies.tier_budget_requests=10000"),
    at_load=True,
)
