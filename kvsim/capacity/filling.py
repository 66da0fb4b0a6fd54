"""How a system fills up from none in flight, and how long a window has to be for the rest of it to tell nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kvsim.capacity.decode_residency import DecodeResidency
from kvsim.record.windows import DEVIATIONS, MATERIAL
from kvsim.workload.workload import Floats

_LATES, _PLACES = 6, 300
"""Where the filling is looked at: so many times late E2E from the start on, at so many moments."""
_BATCHES = 16
"""Sizes of a batch whose steps are timed; between them steps are linear."""
_CHANCE = 2.0
"""Standard deviations that chance may add to what a window lacks."""


@dataclass(frozen=True)
class Decoding:
    """How the instances of a system decode, each as the others."""

    residency: DecodeResidency
    step_s: Callable[[float], float]
    """Seconds from one step of a batch to the next, prompts between them included."""
    seats: int
    instances: int


def window_s(decoding: Decoding, requests_per_s: float, late_s: float) -> float:
    """Seconds of a window from ``late_s`` on in which as many requests complete as come, as a steady run's do.

    What comes and does not complete is by how many more requests are in flight at the window's end. The system has to
    keep up.
    """
    num_seqs = filling(decoding, requests_per_s / decoding.instances, late_s) * decoding.instances
    at_start, full = float(num_seqs[_PLACES // _LATES]), float(num_seqs[-1])
    lacking = max(full - at_start, 0.0) + _CHANCE * math.sqrt(2 * full)
    return min((lacking / DEVIATIONS) ** 2, lacking / MATERIAL) / requests_per_s


def filling(decoding: Decoding, rate_per_s: float, late_s: float) -> Floats:
    """Requests that decode on one instance at equal moments up to ``_LATES`` x ``late_s``, from none on.

    A request that came at u is there at t while the steps between are fewer than its own: N(t) = rate x the integral
    over u of P(steps > V(t) - V(u)), where V counts steps, each as long as so many make it.
    """
    sizes = np.geomspace(1.0, max(decoding.seats, 2), _BATCHES)
    times_s = np.array([decoding.step_s(float(size)) for size in sizes])
    steps, apart_s = np.sort(decoding.residency.steps), _LATES * late_s / _PLACES
    done, found = np.zeros(_PLACES + 1), np.zeros(_PLACES)
    for place in range(_PLACES):
        left = 1 - np.searchsorted(steps, done[place] - done[: place + 1], side="right") / len(steps)
        found[place] = rate_per_s * apart_s * float(left.sum())
        done[place + 1] = done[place] + apart_s / float(np.interp(found[place], sizes, times_s))
    return found
