"""What ``predict`` adds to a run of one deployment: what binds it, and the largest rate within the SLO."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from kvsim.capacity.binding import binding_of
from kvsim.capacity.pilot import Trial
from kvsim.capacity.slo_rate import Attainment, attained, slo_rate
from kvsim.failures import Failures
from kvsim.modes.cluster import DeployedCluster
from kvsim.modes.experiment import Experiment, ExperimentSpec, run_experiment
from kvsim.sim.executor import Executor

_SLO_STREAM = 9
"""Which of the seed's children the search for a rate draws from; a run takes the first ones."""


@dataclass(frozen=True)
class PredictionSpec:
    """What is asked of a prediction beside the run itself."""

    run: ExperimentSpec
    """An experiment of the mode ``PREDICT``, with one variant."""
    searches_rate: bool = True
    """Whether the largest rate within the SLO is looked for, which takes a dozen short runs."""
    finds_binding: bool = True
    """Whether what binds the deployment is found, which may take longer than a short run."""


def run_prediction(spec: PredictionSpec, executor: Executor) -> Experiment:
    """Run the deployment, then ask what binds it and how much it can serve; what of that fails leaves the rest.

    Raises as :func:`kvsim.modes.experiment.run_experiment` does.
    """
    experiment = run_experiment(spec.run, executor)
    cluster = experiment.cluster
    if not isinstance(cluster, DeployedCluster) or experiment.incomplete:
        return experiment
    failures = Failures()
    plan, demand = experiment.plan, experiment.demand
    # What of a stage's time is whose the data sheet of a whole instance does not tell.
    # Nor is there one thing that binds instances of several kinds.
    is_told = spec.finds_binding and not plan.spec.pipeline_layers and not plan.pools
    binding = failures.attempt("what binds", partial(binding_of, plan, demand)) if is_told else None
    rate = None
    if spec.searches_rate:
        seed = int(np.random.SeedSequence(plan.config.seed).spawn(_SLO_STREAM + 1)[_SLO_STREAM].generate_state(1)[0])
        source = experiment.source
        trial = Trial(plan, source.traffic, seed, executor, source.requests_at)
        rate = failures.attempt("the largest rate within the SLO", partial(slo_rate, trial, demand, _seen(experiment)))
    found = replace(cluster, binding=binding, slo_rate=rate)
    return replace(experiment, cluster=found, failures=(*experiment.failures, *failures.found))


def _seen(experiment: Experiment) -> Attainment | None:
    """What the run itself showed of its rate, where it surely misses the SLO; ``None`` also where answers decide when
    requests come. Shorter than the search's runs, it may miss by chance: by less than three standard errors."""
    workload = experiment.workload
    if workload.is_closed or not experiment.results or not math.isfinite(workload.mean_rate_per_s):
        return None
    result, wanted = experiment.results[0], experiment.plan.config.slo.share
    found, judged = attained(result, workload.mean_rate_per_s, experiment.plan), max(int(result.measured.sum()), 1)
    error = 3 * math.sqrt(wanted * (1 - wanted) / judged)
    return found if found.share < wanted - error else None
