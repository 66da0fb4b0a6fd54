"""What a workload will ask for, interval by interval, and what an instance can do: for those who plan instances."""

from __future__ import annotations

import math

import numpy as np

from kvsim.plan.instance import Instance, Role
from kvsim.plan.plan import Plan
from kvsim.steptime.curves.lockstep import times_of_engine
from kvsim.units import MILLI
from kvsim.workload.workload import Workload

_ROUNDS = 8
"""Times that the batch and the share of time that prompts take are adjusted to each other: then they hardly move."""


class Ahead:
    """Values of intervals of one length, the first from 0 on."""

    def __init__(self, values: list[float], interval_s: float) -> None:
        self._values, self._interval_s = values, interval_s

    def most(self, start_s: float, end_s: float) -> float:
        """The highest value of an interval between two times; 0 behind the last."""
        first, end = int(start_s / self._interval_s), math.ceil(end_s / self._interval_s)
        return max(self._values[first : max(end, first + 1)], default=0.0)


class InstanceWork:
    """Seconds that requests keep an instance of one role busy, when it has as many as its time per output token allows.

    An estimate by step times, for policies: what is simulated may be better or worse.
    """

    def __init__(self, plan: Plan, workload: Workload, role: Role) -> None:
        instance: Instance = {"colocated": plan.colocated, "prefill": plan.prefill, "decode": plan.decode}[role]
        self._settings, self._times = instance.settings, times_of_engine(instance.step_time)
        self._prompts = role != "decode"
        self._answers = role != "prefill"
        self._tpot_s = plan.config.slo.tpot_ms * MILLI
        hits = workload.info.infinite_cache_hit_rate_tokens or 0.0
        count = max(len(workload), 1)
        self._prompt_tokens = float(workload.prompt_tokens.sum(dtype=np.int64)) / count
        self._output_tokens = float(workload.output_tokens.sum(dtype=np.int64)) / count
        self.prompt_s = (1 - hits) * self._prompt_token_s() if self._prompts else 0.0
        """Seconds of a token of a prompt, what caches have at best taken off."""
        self.output_s = self._output_token_s() if self._answers else 0.0
        """Seconds of a token of an answer."""

    @property
    def requests_per_s(self) -> float:
        """What one instance can serve of this workload."""
        busy_s = self._prompt_tokens * self.prompt_s + self._output_tokens * self.output_s
        return 1 / busy_s if busy_s > 0 else math.inf

    def loads(self, workload: Workload, interval_s: float) -> list[float]:
        """Instances that requests keep busy in each interval: with a prompt when it comes, with the answer as long as
        the time per output token that is allowed lets it take in the mean.
        """
        if not len(workload):
            return []
        bins = (workload.arrival_s / interval_s).astype(np.int64)
        lasts = max(1, round(self._output_tokens * self._tpot_s / interval_s) + 1) if self._answers else 1
        size = int(bins[-1]) + lasts
        prompts = np.bincount(bins, workload.prompt_tokens * self.prompt_s, size)
        answers = np.bincount(bins, workload.output_tokens * self.output_s, size)
        spread = np.convolve(answers, np.full(lasts, 1 / lasts))[:size]
        found: list[float] = ((prompts + spread) / interval_s).tolist()
        return found

    def _prompt_token_s(self) -> float:
        tokens = max(1, min(self._settings.max_num_batched_tokens, round(self._prompt_tokens)))
        return self._times.prefill_alone_s(tokens, 0) / tokens

    def _output_token_s(self) -> float:
        prompts_s, share, found = self._prompt_tokens * self.prompt_s, 0.0, 0.0
        for _ in range(_ROUNDS):
            batch = self._largest_batch(self._tpot_s * (1 - share))
            found = self._step_s(batch) / batch
            share = prompts_s / (prompts_s + self._output_tokens * found) if prompts_s else 0.0
        return found

    def _largest_batch(self, step_s: float) -> int:
        """Sequences that decode together in steps of at most that long; one at least."""
        request_tokens = max(self._prompt_tokens + self._output_tokens, 1.0)
        most = int(min(self._settings.max_num_seqs, self._settings.room_tokens / request_tokens))
        low, high = 1, max(most, 1)
        while low < high:
            middle = (low + high + 1) // 2
            if self._step_s(middle) <= step_s:
                low = middle
            else:
                high = middle - 1
        return low

    def _step_s(self, batch: int) -> float:
        context = max(1, round(self._prompt_tokens + self._output_tokens / 2))
        return self._times.decode_span(batch, batch * context, context)[0]


def rates(workload: Workload, interval_s: float) -> list[float]:
    """Arrivals per second in each interval."""
    if not len(workload):
        return []
    counts = np.bincount((workload.arrival_s / interval_s).astype(np.int64))
    found: list[float] = (counts / interval_s).tolist()
    return found
