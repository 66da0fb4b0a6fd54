"""Training: how many trees is settled on a later part of the trace than they are grown on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kvsim.errors import WorkloadError
from kvsim.learned.examples import Asked, Examples, asked_by, examples_of
from kvsim.learned.features import Runs
from kvsim.learned.gittins import Floats
from kvsim.learned.model import COLUMNS, Model
from kvsim.workload.accesses import Accesses

if TYPE_CHECKING:
    import lightgbm

TREES = 150
"""Where nothing is set aside to settle it."""
MOST_TREES, PATIENCE_TREES = TREES, 40
"""With more, cross-entropy still falls and hits become fewer: seen within the first 70% of Mooncake's hour."""
LEAST_EXAMPLES = 50
"""Examples of either outcome: with fewer nothing is learned."""
LEAF_SHARE, LEAST_LEAF, MOST_LEAF = 0.01, 20, 2000
"""Examples in a leaf: a share of all, within bounds. They are of far fewer prompts: small leaves learn by heart."""
PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.5,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


@dataclass(frozen=True)
class Parts:
    """Prompts ``[0, tune)`` train, ``[tune, score)`` tune, the rest score."""

    tune: int
    score: int

    @classmethod
    def of(cls, prompts: int, train_fraction: float, tune_fraction: float) -> Parts:
        """Shares of the prompts, rounded down."""
        return cls(int(prompts * train_fraction), int(prompts * (train_fraction + tune_fraction)))


@dataclass(frozen=True)
class Training:
    """A model and how it came about."""

    model: Model
    parts: Parts
    trees: int
    examples: int
    tuning_loss: float | None
    """Mean binary cross-entropy on the tuning part, of a model that was grown on the training part alone."""
    baseline_loss: float | None
    """Cross-entropy on that part of a model without a tree: the mean chance."""


def train_on(
    accesses: Accesses,
    train_fraction: float = 1.0,
    tune_fraction: float = 0.0,
    seed: int = 0,
) -> Training:
    """A model of when blocks are asked for again, from the first prompts of ``accesses``.

    Trees are grown on the first ``train_fraction`` of the prompts, and as many are kept as the next ``tune_fraction``
    likes best; then that many are grown anew on both together. Without a tuning part there are 150. What comes after is
    not looked at. The same arguments give the same model, byte by byte. A policy that trains while it runs passes the
    prompts that it has seen. Raises ``WorkloadError`` where there is too little to learn from.
    """
    parts = Parts.of(len(accesses.time_s), train_fraction, tune_fraction)
    asked = asked_by(first_prompts(accesses, parts.score))
    if parts.score == parts.tune:
        return _grown_on_all(asked, parts, TREES, seed)
    border = accesses.offsets[parts.tune]
    border_s = accesses.time_s[parts.tune]
    early = examples_of(asked.before(border), end_s=border_s)
    late = examples_of(asked, first=border)
    _check(early, parts.tune)
    _check(late, parts.score - parts.tune)
    trees, loss, baseline = _settled(early, late, seed)
    return _grown_on_all(asked, parts, trees, seed, loss, baseline)


def train_online(runs: list[Runs], keys: list[int], time_s: Floats, prompts: int, seed: int = 0) -> Model:
    """The model of a run that learns from its own first ``prompts``: 150 trees on all of ``runs``.

    ``keys`` are the blocks of the runs and ``time_s`` when each was asked for. Raises ``WorkloadError`` where there is
    too little to learn from.
    """
    return _grown_on_all(Asked.of(runs, keys, time_s), Parts(prompts, prompts), TREES, seed).model


def first_prompts(accesses: Accesses, count: int) -> Accesses:
    """The first ``count`` prompts and nothing of the others."""
    return Accesses(
        keys=accesses.keys[: accesses.offsets[count]],
        offsets=accesses.offsets[: count + 1],
        time_s=accesses.time_s[:count],
        session_id=accesses.session_id[:count],
        turn=accesses.turn[:count],
    )


def _grown_on_all(
    asked: Asked, parts: Parts, trees: int, seed: int, loss: float | None = None, baseline: float | None = None
) -> Training:
    import lightgbm

    examples = examples_of(asked)
    _check(examples, parts.score)
    booster = lightgbm.train(_parameters(seed, len(examples)), _dataset(examples), trees)
    return Training(Model(booster, "just trained"), parts, trees, len(examples), loss, baseline)


def _settled(early: Examples, late: Examples, seed: int) -> tuple[int, float, float]:
    """The number of trees that fits ``late`` best, its loss, and that of the mean chance of ``early``."""
    import lightgbm

    grown_on = _dataset(early)
    booster = lightgbm.train(
        _parameters(seed, len(early)),
        grown_on,
        MOST_TREES,
        valid_sets=[_dataset(late, grown_on)],
        callbacks=[lightgbm.early_stopping(PATIENCE_TREES, verbose=False)],
    )
    loss = float(booster.best_score["valid_0"]["binary_logloss"])
    chance = float(np.average(early.asked, weights=early.weight))
    losses = np.where(late.asked, -np.log(chance), -np.log1p(-chance))
    return booster.best_iteration, loss, float(np.average(losses, weights=late.weight))


def _dataset(examples: Examples, reference: lightgbm.Dataset | None = None) -> lightgbm.Dataset:
    import lightgbm

    return lightgbm.Dataset(
        examples.table,
        examples.asked.astype(np.float32),
        weight=examples.weight,
        reference=reference,
        feature_name=list(COLUMNS),
        params={"verbose": -1, "max_bin": PARAMETERS["max_bin"], "num_threads": 1},
    )


def least_leaf(examples: int) -> int:
    """The fewest examples in a leaf of trees that are grown on so many."""
    return max(LEAST_LEAF, min(int(LEAF_SHARE * examples), MOST_LEAF))


def _parameters(seed: int, examples: int) -> dict[str, Any]:
    return {**PARAMETERS, "min_data_in_leaf": least_leaf(examples), "seed": seed}


def _check(examples: Examples, prompts: int) -> None:
    asked = int(np.count_nonzero(examples.asked))
    fewest = min(asked, len(examples) - asked)
    if fewest < LEAST_EXAMPLES:
        raise WorkloadError(
            f"too short to learn from: {prompts:,} prompts give {asked:,} examples of blocks that were asked for again "
            f"and {len(examples) - asked:,} of blocks that were not; at least {LEAST_EXAMPLES} of each are needed"
        )
