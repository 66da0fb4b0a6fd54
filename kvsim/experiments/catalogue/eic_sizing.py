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
    sets=("cluster.gpu.kv_capacity_gb=10", "load.rho=0.4"),
    smoke=(
        "studies.replications=5",
        "studies.most_replications=5",
        "studies.max_requests=300",
        "studies.tier_budget_requests=12000",
    ),
    at_load=True,
)
