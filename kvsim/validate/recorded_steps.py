"""Step times out of a recorded run, without a model of any.

An engine tells the first and the last token of a request when the step that made it ends. So the time between two such
moments is a whole number of steps, and between the two of a request that was not preempted there are as many as it has
tokens, less one. From both together follow the number of steps between all neighbours, and how long one took.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from kvsim.record.result import Table
from kvsim.steptime import StepTime
from kvsim.validate.accuracy import Floats

Ints = npt.NDArray[np.int64]
TOGETHER_S = 1e-3
"""What one step has made is told within; no step is shorter."""
MOST_REQUESTS = 500
"""A longer run counts with the first so many that were scheduled."""
ROUNDS = 8
MOST_SPREAD = 0.03
"""Median distance of decode steps from others of batches as large, from which on the times are no ends of steps."""
LEAST_MOMENTS = 3
LEAST_STRETCHES = 10
"""Fewer stretches of decode steps alone do not say how long those of their size take: nothing is told of such a run."""
NEAR = 0.05
"""Batches differ by less, or by two."""
MOST_NODES = 1_000
"""The search for whole numbers ends there; a limit of time would make what is found a matter of the machine."""
PROMPTS_WEIGHT = 0.2


@dataclass(frozen=True)
class Stretches:
    """What lies between neighbouring moments at which requests had first or last tokens; one entry each."""

    begin_s: Floats
    seconds: Floats
    steps: Ints
    decodes: Ints
    """Sequences that decode in all of its steps."""
    kv_tokens: Floats
    """Tokens that these read in a step, the mean."""
    longest_tokens: Floats
    prompt_tokens: Floats
    """All tokens of the prompts whose computing its last step ends."""
    prefills: npt.NDArray[np.bool_]
    """Whether some of its steps may compute prompts too."""
    usual: Floats
    """A decode step's time in it over what is predicted, by stretches of batches as large."""
    decode_s: Floats
    """What is predicted for one of its decode steps."""

    @property
    def is_decode(self) -> npt.NDArray[np.bool_]:
        """Which ones only decode."""
        return ~self.prefills & (self.decodes > 0)

    def only(self, kept: npt.NDArray[np.bool_]) -> Stretches:
        return Stretches(*(getattr(self, each.name)[kept] for each in fields(self)))


@dataclass(frozen=True)
class Moments:
    """Ends of steps, in order, and the places at which requests had their first and last tokens there."""

    times_s: Floats
    first: Ints
    last: Ints


class StepsUnknownError(Exception):
    """A run's times do not say how long its steps took; the message says why."""


def stretches_of(requests: Table, step_time: StepTime) -> Stretches:
    """``requests``: as of a ``MeasuredRun``, of one engine. ``step_time`` only says which numbers of steps are likely.

    Raises ``StepsUnknownError`` where the times are no ends of steps, or not known.
    """
    if "scheduled_s" not in requests:
        raise StepsUnknownError("without scheduled_ts it is not known which of them compute prompts")
    requests, until_s = _first_of(requests)
    moments = moments_of(requests)
    if len(moments.times_s) < LEAST_MOMENTS:
        raise StepsUnknownError(
            f"first and last tokens came at {len(moments.times_s)} moments alone; {LEAST_MOMENTS} are needed"
        )
    prefills = _prefills(requests, moments)
    known = _consistent(moments, requests["output_tokens"].astype(np.int64) - 1)
    steps = np.ones(len(moments.times_s) - 1, dtype=np.int64)
    found = _described(requests, moments, steps, prefills, step_time)
    found = replace(found, usual=np.ones(len(steps)))
    for _ in range(ROUNDS):
        steps = _whole_steps(found, moments, requests["output_tokens"] - 1, known)
        if (steps == found.steps).all():
            break
        found = _described(requests, moments, steps, prefills, step_time)
    _check(found)
    return found.only((moments.times_s[1:] <= until_s) & ~(found.is_decode & (_spread(found) > 2 * MOST_SPREAD)))


def _first_of(requests: Table) -> tuple[Table, float]:
    """The first ``MOST_REQUESTS`` that were scheduled, and until when no other was."""
    order = np.argsort(requests["scheduled_s"], kind="stable")
    others_s = requests["scheduled_s"][order[MOST_REQUESTS:]]
    kept = {name: column[order[:MOST_REQUESTS]] for name, column in requests.items()}
    return kept, float(others_s[0]) if len(others_s) else np.inf


def _check(found: Stretches) -> None:
    """Raise ``StepsUnknownError`` unless decode steps of batches as large took as long; they would not if the times
    were a client's."""
    pure = found.is_decode
    count = int(pure.sum())
    if count < LEAST_STRETCHES:
        raise StepsUnknownError(
            f"decode steps alone lie between {count} neighbouring tokens; {LEAST_STRETCHES} are needed"
        )
    spread = float(np.median(_spread(found)[pure]))
    if spread >= MOST_SPREAD:
        raise StepsUnknownError(
            f"its times are no ends of steps: those of batches as large differ by {spread:.0%} in the median, where "
            f"less than {MOST_SPREAD:.0%} is (a client's clock?)"
        )


def _spread(found: Stretches) -> Floats:
    """How far the decode steps of each are from those of batches as large; far where a request was preempted."""
    return np.abs(found.seconds / found.steps / found.decode_s / found.usual - 1)


def moments_of(requests: Table) -> Moments:
    """First and last tokens that came together are of one step."""
    told_s = np.concatenate((requests["first_token_s"], requests["finish_s"]))
    order = np.argsort(told_s, kind="stable")
    place = np.empty(len(told_s), dtype=np.int64)
    place[order] = np.cumsum(np.diff(told_s[order], prepend=told_s[order[0]]) > TOGETHER_S)
    times_s = np.full(int(place.max()) + 1, -np.inf)
    np.maximum.at(times_s, place, told_s)
    count = len(requests["first_token_s"])
    return Moments(times_s, place[:count], place[count:])


def _prefills(requests: Table, moments: Moments) -> npt.NDArray[np.bool_]:
    """Between a request's start and its first token its prompt is computed."""
    found = np.zeros(len(moments.times_s) - 1, dtype=bool)
    begun = np.searchsorted(moments.times_s, requests["scheduled_s"] - TOGETHER_S / 10) - 1
    for start, end in zip(np.maximum(begun, 0), moments.first, strict=True):
        found[start:end] = True
    return found


def _consistent(moments: Moments, steps: Ints) -> npt.NDArray[np.bool_]:
    """Requests whose steps do not contradict those of the ones before: preempted ones took more than they have
    tokens."""
    root, offset = np.arange(len(moments.times_s)), np.zeros(len(moments.times_s), dtype=np.int64)

    def find(place: int) -> tuple[int, int]:
        distance = 0
        while root[place] != place:
            distance, place = distance + int(offset[place]), int(root[place])
        return place, distance

    known = np.ones(len(steps), dtype=bool)
    for request, (first, last, between) in enumerate(zip(moments.first, moments.last, steps, strict=True)):
        (left, before), (right, after) = find(int(first)), find(int(last))
        if left == right:
            known[request] = after - before == between
        else:
            root[right], offset[right] = left, before + between - after
    return known


def _described(
    requests: Table, moments: Moments, steps: Ints, prefills: npt.NDArray[np.bool_], step_time: StepTime
) -> Stretches:
    count = len(steps)
    begin = np.concatenate(([0], np.cumsum(steps)))
    decodes, kv, longest, decode_s = np.zeros(count, np.int64), np.zeros(count), np.zeros(count), np.zeros(count)
    for place in range(count):
        runs = (moments.first <= place) & (moments.last > place)
        context = requests["prompt_tokens"][runs] + begin[place] - begin[moments.first[runs]] + (steps[place] + 1) / 2
        decodes[place] = n = int(runs.sum())
        if n:
            kv[place], longest[place] = context.sum(), context.max()
        decode_s[place] = step_time.decode_span(max(n, 1), max(int(kv[place]), 1), max(int(longest[place]), 1))[0]
    times_s = moments.times_s
    prompts = np.bincount(moments.first, requests["prompt_tokens"], len(times_s))[1:].astype(np.float64)
    ones = np.ones(count)
    found = Stretches(times_s[:-1], np.diff(times_s), steps, decodes, kv, longest, prompts, prefills, ones, decode_s)
    return replace(found, usual=_usual(found))


def _usual(found: Stretches) -> Floats:
    ratio = found.seconds / found.steps / found.decode_s
    pure = found.is_decode
    usual = np.ones(len(ratio))
    for place, n in enumerate(found.decodes):
        near = pure & (np.abs(found.decodes - n) <= max(2, NEAR * n))
        if near.any():
            usual[place] = np.median(ratio[near])
    return usual


def _whole_steps(found: Stretches, moments: Moments, between: Floats, known: npt.NDArray[np.bool_]) -> Ints:
    """Whole numbers of steps that agree with every known request's and come nearest to the times.

    Variables: steps of each stretch, then the steps that each is off by. Stretches with prompts count for less.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, hstack, identity

    count = len(found.steps)
    step_s = found.decode_s * found.usual
    took = (found.seconds - _prompts_s(found, step_s)) / step_s
    used = known & (moments.last > moments.first)
    places = np.arange(count)
    spans = (moments.first[used, None] <= places) & (places < moments.last[used, None])
    off = identity(count)
    limits = [
        LinearConstraint(hstack((off, -off)).tocsr(), -np.inf, took),
        LinearConstraint(hstack((off, off)).tocsr(), took, np.inf),
        LinearConstraint(hstack((csr_array(spans, dtype=float), csr_array(spans.shape))).tocsr(), *[between[used]] * 2),
    ]
    with _silent():
        solved = milp(
            np.concatenate((np.zeros(count), np.where(found.prefills, PROMPTS_WEIGHT, 1.0))),
            constraints=limits,
            integrality=np.repeat([1, 0], count),
            bounds=Bounds(np.repeat([1.0, 0.0], count), np.inf),
            options={"node_limit": MOST_NODES},
        )
    return found.steps if solved.x is None else np.rint(solved.x[:count]).astype(np.int64)


@contextmanager
def _silent() -> Iterator[None]:
    """HiGHS writes a line of its own to the process's output when it mends a solution."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _prompts_s(found: Stretches, step_s: Floats) -> Floats:
    """What prompts add to a stretch, by their tokens: in the mean over all that compute some."""
    tokens = np.where(found.prefills, found.prompt_tokens, 0.0)
    if not tokens.any():
        return tokens
    more_s = float((found.seconds - found.steps * step_s)[found.prefills].sum())
    return max(0.0, more_s) / float(tokens.sum()) * tokens
