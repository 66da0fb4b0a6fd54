"""An instance whose KV blocks are the limit: how much of them stands empty, and how admissions fall into steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kvsim.workload.workload import Floats

ADMISSIONS = 3000
"""Admissions averaged over: the mean room is known within a few percent, and it is a few percent of the pool."""


@dataclass(frozen=True, eq=False)
class Churn:
    """What comes and goes in a full pool; tokens, one entry a request for arrays."""

    needs: Floats
    """Room a request must find to be admitted."""
    releases: Floats
    """Room it leaves behind."""
    computed: Floats
    """Tokens of it that steps here must compute before it decodes; 0 where KV arrives from elsewhere."""
    completions_per_step: float
    growth_per_step: float
    """Room that those inside take each step without asking."""
    step_tokens: float
    """Prompt tokens a step can compute beside its decodes."""
    preempts: bool
    """Whether growth is met by preemption; not where room is a promise, and overrunning it costs nobody a block."""


@dataclass
class Occupancy:
    """Averages over steps."""

    steps: int = 0
    empty_tokens: float = 0.0
    """Sum over steps of room that is free, because the next request does not fit."""
    prefilling_tokens: float = 0.0
    """Sum over steps of what requests hold that do not decode yet."""
    recomputed_tokens: float = 0.0
    mixed: list[tuple[float, int]] = field(default_factory=list)
    """Prompt tokens and chunks of every step that computed some."""


def occupancy(churn: Churn, seed: int) -> Occupancy:
    """Play vLLM's admission rule on a pool that is always full, step after step, with time left out.

    Completions are Poisson in steps, since answers end independently; what they release goes to the first in the queue
    as soon as it fits *whole*, and nobody overtakes it. What is left over is too little for the head of the queue: for
    needs L and steady releases E[L^2] / (2 E[L]) on average, but releases come in lumps, so the recursion is run.
    Where growth exhausts the room, the youngest gives its blocks back and is first in the queue, and what growth takes
    from it before its return must be computed again.
    """
    random = np.random.default_rng(seed)
    entering, leaving = evenly(churn.computed + churn.needs, random), evenly(churn.releases, random)
    gaps = random.exponential(1.0, ADMISSIONS)
    at_step = np.floor(np.cumsum(gaps) * (ADMISSIONS / gaps.sum() / churn.completions_per_step)).astype(np.int64)
    pool = _Pool(churn, churn.needs[entering].tolist(), churn.computed[entering].tolist())
    return pool.played(at_step.tolist(), churn.releases[leaving].tolist())


def evenly(values: Floats, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """``ADMISSIONS`` rows in random order, as many from every quantile: lengths have heavy tails, and the mean of a
    plain sample would be percents off."""
    order = np.argsort(values, kind="stable")
    place = (np.arange(ADMISSIONS) + random.random(ADMISSIONS)) * (len(values) / ADMISSIONS)
    return random.permutation(order[place.astype(np.int64)])


class _Pool:
    def __init__(self, churn: Churn, needs: list[float], computed: list[float]) -> None:
        self._growth, self._step_tokens, self._preempts = churn.growth_per_step, churn.step_tokens, churn.preempts
        self._heads = list(zip(reversed(needs), reversed(computed), strict=True))
        """Those that wait, the first in the queue last."""
        self._youngest = (0.0, 0.0)
        self._evicted = 0.0
        self._preempted = False
        self._empty = 0.0
        self._unfinished, self._unfinished_need = 0.0, 0.0
        self.result = Occupancy()

    def played(self, at_step: Sequence[int], releases: Sequence[float]) -> Occupancy:
        step, event = 0, 0
        while event < len(at_step) and self._heads:
            quiet = 0 if self._unfinished else at_step[event] - step
            if quiet > 0:
                self._grow(quiet)
                self._observe(quiet, self._empty + self._growth * quiet / 2)
                step += quiet
            while event < len(at_step) and at_step[event] <= step:
                self._empty += releases[event]
                event += 1
            if not self._grow(1):
                self._admit()
            self._observe(1, self._empty)
            step += 1
        return self.result

    def _observe(self, steps: int, empty_tokens: float) -> None:
        self.result.steps += steps
        self.result.empty_tokens += max(empty_tokens, 0.0) * steps

    def _grow(self, steps: int) -> bool:
        """Those inside take their room; whether somebody had to give his back for it."""
        need = self._growth * steps
        self._empty -= need
        if self._preempted:
            self._evicted += need
        if self._empty >= 0 or not self._preempts:
            return False
        if self._preempted or not self._youngest[0]:
            return True
        self._evicted = -self._empty
        self._empty += self._youngest[0]
        self._heads.append((self._youngest[0], 0.0))
        self._preempted = True
        return True

    def _admit(self) -> None:
        left, chunks = self._step_tokens, 0
        if self._unfinished:
            tokens = min(self._unfinished, left)
            self._unfinished -= tokens
            left -= tokens
            chunks += 1
            self.result.prefilling_tokens += self._unfinished_need
        while left > 0 and not self._unfinished and self._heads and self._heads[-1][0] <= self._empty:
            need, tokens = self._heads.pop()
            if self._preempted:
                tokens = min(self._evicted, need)
                self.result.recomputed_tokens += tokens
                self._preempted = False
            self._empty -= need
            self._youngest = need, tokens
            self.result.prefilling_tokens += need
            self._unfinished = max(tokens - left, 0.0)
            self._unfinished_need = need
            left -= min(tokens, left)
            chunks += 1
        if chunks:
            self.result.mixed.append((self._step_tokens - left, chunks))
