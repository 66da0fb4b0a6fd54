"""Step times out of what clients saw: simulate, see which steps each request waited for, solve, and again.

A simulation with any step times says of every request which steps ran between its sending and its first token, and
between that and its last, and what was in them. What the client measured is then a sum of terms with unknown numbers:
least squares, not negative, robust against the odd request that a busy host held up. Other numbers make another
schedule, so it is done again until nothing changes; the best by what the simulation itself then says is taken, and
moved a little further by a search on that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kvsim.errors import ConfigError
from kvsim.live.forms import Form
from kvsim.live.robust import robust
from kvsim.live.served import Chosen, Predicted, Served, metrics_of, predict
from kvsim.record.detail import Detail
from kvsim.validate.accuracy import Floats

FEWEST = 20
"""Requests that a fit takes at least."""
ROUNDS = 8
SHARES = (1.0, 0.5, 0.2)
"""Parts of the way to what a round has solved, on which it is looked whether the simulation agrees better."""
SETTLED = 1e-3
"""A round that gains less is the last."""
MOST_CALLS = 60
"""Simulations of the search at the end."""
SPREAD = 0.05
"""What the spread over requests weighs beside the error of the mean, which is what a few numbers can mend."""
WEIGHTS = {"ttft": 0.5, "decoding": 1.0, "e2e": 1.0}
"""TTFT of a busy engine is mostly a queue's: it says less of the steps."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """The numbers that agree best with what was measured."""

    values: Floats
    """By ``Form.names``."""
    front_end_s: float
    """Seconds of a request outside the engine, before it."""
    predictions: list[Predicted]
    """A prediction of each run, with all of its requests."""
    misfit: float


def fit(runs: Sequence[Served], form: Form, learned: Sequence[Chosen]) -> Fitted:
    """``learned``: of each run the requests that may be looked at; the others are served beside them and no more.

    Raises ``ConfigError`` where these are too few.
    """
    count = int(sum(chosen.sum() for chosen in learned))
    if count < FEWEST:
        raise ConfigError(f"a fit takes {FEWEST} answered requests or more, not {count}")
    best = _tried(runs, form, learned, form.first(runs, learned), 0.0)
    for _ in range(ROUNDS):
        values, front_end_s = _solved(runs, form, learned, best)
        nearer = _nearer(runs, form, learned, best, np.append(values, front_end_s))
        if nearer is None:
            break
        best = nearer
    return _polished(runs, form, learned, best)


def _nearer(
    runs: Sequence[Served], form: Form, learned: Sequence[Chosen], best: Fitted, towards: Floats
) -> Fitted | None:
    """What is on the way ``towards`` other numbers and agrees better, the whole way first."""
    start = np.append(best.values, best.front_end_s)
    for share in SHARES:
        at = start + share * (towards - start)
        tried = _tried(runs, form, learned, at[:-1], float(at[-1]))
        if tried.misfit < best.misfit * (1 - SETTLED):
            return tried
    return None


def _tried(runs: Sequence[Served], form: Form, learned: Sequence[Chosen], values: Floats, front_end_s: float) -> Fitted:
    plan = form.plan(values)
    predictions = [predict(run, plan, front_end_s) for run in runs]
    off = np.concatenate(
        [_off(run, found, chosen) for run, found, chosen in zip(runs, predictions, learned, strict=True)]
    )
    return Fitted(values, front_end_s, predictions, float((off**2).sum()))


def _off(run: Served, found: Predicted, chosen: Chosen) -> Floats:
    """Errors of means and of requests, each relative to the mean that was measured, weighted; far ones are tamed."""
    parts: list[Floats] = []
    for name, weight in WEIGHTS.items():
        theirs = _measures(run.requests, name)[chosen]
        off = (_measures(found.requests, name)[chosen] - theirs) / max(float(np.mean(theirs)), 1e-9)
        off = np.where(np.isfinite(off), off, 1.0)
        tamed = np.sign(off) * np.sqrt(2 * (np.sqrt(1 + off**2) - 1))
        each = np.sqrt(weight * SPREAD / len(off)) * tamed
        parts += [np.array([np.sqrt(weight) * tamed.mean()]), each]
    return np.concatenate(parts)


def _measures(requests: dict[str, Floats], name: str) -> Floats:
    if name == "decoding":
        return requests["finish_s"] - requests["first_token_s"]
    return metrics_of(requests)[name]


def _solved(runs: Sequence[Served], form: Form, learned: Sequence[Chosen], tried: Fitted) -> tuple[Floats, float]:
    """Least squares over waiting and decoding of the requests, on the schedule of ``tried``."""
    rows, seconds, scales = [], [], []
    for run, found, chosen in zip(runs, tried.predictions, learned, strict=True):
        terms = form.terms(found.detail, tried.values)
        sent_s = run.requests["arrival_s"] + tried.front_end_s
        ends = [sent_s, *(found.requests[name] - tried.front_end_s for name in ("first_token_s", "finish_s"))]
        known = chosen & np.isfinite(ends[2])
        passed = [_passed(found.detail, terms, end[known]) for end in ends]
        for part, (name, weight) in enumerate((("ttft", WEIGHTS["ttft"]), ("decoding", WEIGHTS["decoding"]))):
            measured = _measures(run.requests, name)[known]
            if not measured.any():
                continue
            outside = np.full((len(measured), 1), 1.0 - part)
            rows.append(np.hstack((passed[part + 1] - passed[part], outside)))
            seconds.append(measured)
            scales.append(np.full(len(measured), np.sqrt(weight) / measured.mean()))
    solved = robust(np.vstack(rows), np.concatenate(seconds), np.concatenate(scales), np.append(form.least, 0.0))
    return solved[:-1], float(solved[-1])


def _passed(detail: Detail, terms: Floats, times_s: Floats) -> Floats:
    """Terms of the steps that have run by each time, those of the one that runs then by the share of it that has."""
    steps = detail.steps
    edges = np.column_stack((steps["start_s"], steps["end_s"])).ravel()
    sums = np.vstack((np.zeros(terms.shape[1]), np.cumsum(terms, axis=0)))
    levels = np.repeat(sums, 2, axis=0)[1:-1]
    return np.column_stack([np.interp(times_s, edges, levels[:, place]) for place in range(terms.shape[1])])


def _polished(runs: Sequence[Served], form: Form, learned: Sequence[Chosen], found: Fitted) -> Fitted:
    """The numbers moved together and apart as long as the simulation comes nearer to what was measured."""
    from scipy.optimize import minimize

    best = found
    start = np.append(found.values, found.front_end_s)
    moved = np.flatnonzero(start > np.append(form.least, 0.0))

    def misfit(steps: Floats) -> float:
        nonlocal best
        at = start.copy()
        at[moved] *= np.exp(np.clip(steps, -2.0, 2.0))
        at[:-1] = np.maximum(at[:-1], form.least)
        tried = _tried(runs, form, learned, at[:-1], float(at[-1]))
        if tried.misfit < best.misfit:
            best = tried
        return tried.misfit

    simplex = np.vstack((np.zeros(len(moved)), 0.05 * np.eye(len(moved))))
    options = {"maxfev": MOST_CALLS, "initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-9}
    minimize(misfit, simplex[0], method="Nelder-Mead", options=options)
    return best
