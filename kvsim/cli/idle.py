"""Flags that a run has no use for, and why: said, so that nobody counts on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Uses:
    """What a run makes use of, as far as flags hang on it."""

    mode: str
    """``pd``, ``cluster`` or ``single``."""
    studies: tuple[str, ...]
    """To be made, those included that a flag skips."""
    folder: bool
    """Something is written into the folder of pictures."""
    learned: bool
    """A policy that is run evicts by a model."""
    trainable: bool
    """One does that may be trained on the run's own requests."""


def _pd(run: Uses) -> bool:
    return run.mode == "pd"


def _unlearned(run: Uses) -> bool:
    return run.mode != "pd" and not run.learned


def _untrainable(run: Uses) -> bool:
    return run.mode != "pd" and run.learned and not run.trainable


_ELSEWHERE = "give policies.eviction with --set, or --compare policies.eviction=A,B, beside pd_separation.tiers"
_TRAINING = ("learned_train_mode", "learned_train_fraction")
_NO_SWEEP = ": no study of context lengths is among those of this run"
IDLE: tuple[tuple[str, Callable[[Uses], bool], str], ...] = (
    ("policy", _pd, f" with --pd: {_ELSEWHERE}"),
    *((name, _pd, " with --pd: it trains nothing") for name in ("no_train", *_TRAINING)),
    *((name, _unlearned, ": no policy of this run is a learned one") for name in ("no_train", *_TRAINING)),
    *((name, _untrainable, ": policies.learned_model names the model") for name in _TRAINING),
    ("skip_context_sweep", lambda run: "context" not in run.studies, _NO_SWEEP),
    ("out", lambda run: not run.folder, ": nothing is written there without pictures"),
)
"""A flag's parameter, when it is idle, and what follows upon "has no effect"; at most one row of a flag holds.

Flags that contradict a mode altogether are refused (``kvsim.cli.described``), as are those without one they need.
"""


def idle(given: Mapping[str, str], uses: Uses) -> tuple[str, ...]:
    """A sentence on each of the flags ``given``, as parameter to spelling, that does nothing in such a run."""
    return tuple(f"{given[name]} has no effect{why}" for name, when, why in IDLE if name in given and when(uses))
