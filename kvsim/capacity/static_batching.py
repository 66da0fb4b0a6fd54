"""A saturated instance that batches statically: whoever comes while a batch decodes waits until all of it has ended."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kvsim.capacity.decode_residency import DecodeResidency
from kvsim.capacity.decoding import Decoding, mixed_s, pure_s
from kvsim.capacity.demand import Demand
from kvsim.capacity.kv_saturation import ADMISSIONS, evenly
from kvsim.plan.engine_settings import EngineSettings
from kvsim.steptime import Coefficients
from kvsim.workload.workload import Floats, Ints


@dataclass(frozen=True, eq=False)
class _Requests:
    """In the order in which they are served; tokens."""

    needs: Floats
    """Room that a prompt takes."""
    computed: Floats
    contexts: Floats
    steps: Floats
    """Decode steps, behind the step that completes the prompt."""


def static_requests_per_s(
    c: Coefficients, settings: EngineSettings, demand: Demand, residency: DecodeResidency, needs: Floats, seed: int
) -> float:
    """Requests/s: batch after batch, the requests of all over the time of all.

    An empty instance takes prompts, in their order, as far as the token budget, the seats and the pool go, step after
    step until one of them is complete; no further one is let in then. A prompt that the budget has cut is computed on
    beside those that decode. The batch ends with its longest answer. ``needs``: room that each prompt takes; that
    growing answers could exhaust the pool is left out.
    """
    random = np.random.default_rng(seed)
    rows = evenly(demand.prompt_tokens + demand.output_tokens, random, ADMISSIONS)
    computed = np.maximum(demand.computed_tokens, 1.0)
    requests = _Requests(needs[rows], computed[rows], residency.context_tokens[rows], residency.steps[rows])
    first, time_s = 0, 0.0
    while first < len(rows):
        last, cut = _admitted(settings, requests, first)
        batch = np.arange(first, last)
        time_s += _prompts_s(c, settings, requests, batch, cut) + _answers_s(c, settings, requests, batch, cut)
        first = last
    work_s = c.b_s_per_token2 * float(c.attention_work(computed[rows], demand.hit_tokens[rows]).sum())
    return len(rows) / (time_s + work_s + c.s_s_per_seq * len(rows))


def _admitted(settings: EngineSettings, requests: _Requests, first: int) -> tuple[int, float]:
    """The end of the batch that begins with request ``first``, and what is left to compute of its last prompt."""
    budget, most = float(settings.max_num_batched_tokens), min(first + settings.max_num_seqs, len(requests.needs))
    # The steps before the first prompt is complete hold nothing else: what the last of them has left is for others.
    left = budget - (requests.computed[first] - 1) % budget - 1
    room_tokens, last = settings.room_tokens - requests.needs[first], first + 1
    while last < most and left > 0 and requests.needs[last] <= room_tokens:
        room_tokens -= requests.needs[last]
        left -= requests.computed[last]
        last += 1
    return last, max(-left, 0.0)


def _prompts_s(c: Coefficients, settings: EngineSettings, requests: _Requests, batch: Ints, cut: float) -> float:
    """The dense time of the steps in which nobody decodes."""
    budget, tokens = float(settings.max_num_batched_tokens), float(requests.computed[batch].sum()) - cut
    full, rest = divmod(tokens, budget)
    dense_s = full * float(c.dense_s(np.array(budget)))
    return dense_s + (float(c.dense_s(np.array(rest))) if rest else 0.0)


def _answers_s(c: Coefficients, settings: EngineSettings, requests: _Requests, batch: Ints, cut: float) -> float:
    """From the first decode step to the last: what is left of a prompt first, then pure decode steps."""
    starts = np.zeros(len(batch))
    beside_s = 0.0
    decoding = len(batch) - 1 if cut else len(batch)
    while cut > 0:
        chunk = min(cut, settings.max_num_batched_tokens - float(decoding))
        beside_s += _mixed_s(c, requests, batch[:decoding], float(starts[-1]), chunk)
        starts[-1] += 1
        cut -= chunk
    ends = starts + requests.steps[batch]
    places = np.unique(np.concatenate((starts, ends)))
    places = places[places >= starts[-1]]
    for begin, end in pairwise(places):
        there = (starts <= begin) & (ends >= end)
        contexts = requests.contexts[batch][there] + (begin + end - 1) / 2 - starts[there]
        beside_s += float((end - begin) * pure_s(c, _decoding(contexts)))
    return beside_s


def _mixed_s(c: Coefficients, requests: _Requests, batch: Ints, step: float, chunk: float) -> float:
    decoding = _decoding((requests.contexts[batch] + step)[requests.steps[batch] > step])
    return float(mixed_s(c, decoding, np.array(chunk))) + c.s_s_per_seq


def _decoding(contexts: Floats) -> Decoding:
    if not len(contexts):
        return Decoding(np.array(0.0), np.array(0.0), np.array(0.0))
    return Decoding(np.array(float(len(contexts))), contexts.mean(), contexts.max())
