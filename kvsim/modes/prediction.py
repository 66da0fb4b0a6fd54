"""What ``predict`` adds to a run of one deployment: what binds it, and the largest rate within the SLO."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from kvsim.capacity.binding import binding_of
from kvsim.capacity.pilot import Trial
from kvsim.capacity.slo_rate import slo_rate
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
    binding = failures.attempt("what binds", partial(binding_of, plan, demand))
    rate = None
    if spec.searches_rate:
        seed = int(np.random.SeedSequence(plan.config.seed).spawn(_SLO_STREAM + 1)[_SLO_STREAM].generate_state(1)[0])
        source = experiment.source
        trial = Trial(plan, source.traffic, seed, executor, source.requests_at)
        rate = failures.attempt("the largest rate within the SLO", partial(slo_rate, trial, demand))
    found = replace(cluster, binding=binding, slo_rate=rate)
    return replace(experiment, cluster=found, failures=(*experiment.failures, *failures.found))
