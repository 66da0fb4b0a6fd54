"""How prompts that never stop coming are laid into prefill steps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kvsim.workload.workload import Floats


class PackedChunks(NamedTuple):
    """Chunks of prompts, in the order they are computed."""

    tokens: Floats
    prefix_tokens: Floats
    """Tokens of the prompt before the chunk: cached or computed."""


def packed(computed: Floats, hits: Floats, step_tokens: float) -> PackedChunks:
    """Prompts laid end to end and cut every ``step_tokens``: the chunks of steps that are always full."""
    ends = np.cumsum(computed)
    cuts = np.arange(1, int(ends[-1] / step_tokens) + 1) * step_tokens
    stops = np.union1d(ends, cuts[cuts < ends[-1]])
    starts = np.concatenate(([0.0], stops[:-1]))
    prompt = np.searchsorted(ends, starts, side="right")
    begun = starts - (ends - computed)[prompt]
    return PackedChunks(stops - starts, hits[prompt] + begun)


def packed_whole(computed: Floats, room_tokens: float, seats: int) -> Floats:
    """Tokens of each step when prompts go in whole and in order, until the next one does not fit."""
    ends = np.concatenate(([0.0], np.cumsum(computed)))
    steps, first = [], 0
    while first < len(computed):
        last = int(np.searchsorted(ends, ends[first] + room_tokens, side="right")) - 1
        last = min(max(last, first + 1), first + seats)
        steps.append(ends[last] - ends[first])
        first = last
    return np.array(steps)
