"""The load that ``vllm bench serve`` offers: random prompts of given lengths, a rate or a fixed concurrency."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from kvsim import room
from kvsim.errors import WorkloadError
from kvsim.workload.synthetic.arrivals import arrival_times
from kvsim.workload.synthetic.assembled import Assembly
from kvsim.workload.workload import Workload

REQUEST_BYTES = 560
"""Memory that drawing takes."""


def bench(
    num_requests: int,
    rate_per_s: float,
    input_tokens: int,
    output_tokens: int,
    seed: int,
    *,
    range_ratio: float = 0.0,
    shared_prefix_tokens: int = 0,
    burstiness: float = 1.0,
    max_concurrency: int | None = None,
) -> Workload:
    """Lengths are uniform within ``range_ratio`` of those given; all prompts begin with the same shared prefix.

    Gaps are gamma with shape ``burstiness`` (1: Poisson; an infinite one: constant); an infinite ``rate_per_s`` sends
    everything at once. ``max_concurrency`` keeps at most so many in flight. The options are vLLM's.
    """
    if num_requests < 1 or input_tokens < 1 or output_tokens < 1:
        raise WorkloadError("requests, input and output tokens: allowed: 1 or more of each")
    if not 0 <= range_ratio < 1:
        raise WorkloadError(f"range ratio is {range_ratio}; allowed: 0 <= ratio < 1")
    most = room.about(room.most(REQUEST_BYTES))
    room.require(num_requests * REQUEST_BYTES, f"{num_requests:,} requests", f"up to about {most} would fit")
    random = np.random.default_rng(seed)
    kind = "constant" if math.isinf(burstiness) else "gamma"
    cv = 1.0 if math.isinf(burstiness) else 1 / math.sqrt(burstiness)
    times_s = arrival_times(kind, num_requests, rate_per_s, random, cv=cv)
    inputs = _around(input_tokens, range_ratio, num_requests, random)
    outputs = _around(output_tokens, range_ratio, num_requests, random)
    found = Assembly()
    for i in range(num_requests):
        found.add(float(times_s[i]), [("prefix", shared_prefix_tokens), (None, int(inputs[i]))], int(outputs[i]))
    notes = (f"lengths uniform within {range_ratio:.0%} of {input_tokens:,} and {output_tokens:,} tokens",)
    return replace(found.workload("synthetic benchmark", notes, closed=False), max_concurrency=max_concurrency)


def _around(tokens: int, ratio: float, size: int, random: np.random.Generator) -> np.ndarray:
    low, high = max(1, math.floor(tokens * (1 - ratio))), math.ceil(tokens * (1 + ratio))
    return random.integers(low, high, size, endpoint=True)
