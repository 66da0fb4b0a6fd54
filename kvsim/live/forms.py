"""What of step times a measured run decides: all of them by a short formula, or what a profile misses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kvsim.live.from_tokens import first_values
from kvsim.live.served import Chosen, Served, metrics_of, predict
from kvsim.plan.plan import Plan
from kvsim.record.detail import Detail
from kvsim.steptime import AffineStepTime, Coefficients
from kvsim.validate.accuracy import Floats


class Form(Protocol):
    """Step times that are a sum of terms, each with one number that is fitted; none of them is negative."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the numbers are called, with their units."""
        ...

    @property
    def least(self) -> Floats:
        """The least that each number may be."""
        ...

    def first(self, runs: Sequence[Served], learned: Sequence[Chosen]) -> Floats:
        """Where a search begins, by the requests of each run that may be looked at."""
        ...

    def plan(self, values: Floats) -> Plan:
        """The deployment with these step times."""
        ...

    def terms(self, detail: Detail, values: Floats) -> Floats:
        """What each number is multiplied by, over the spans of steps of a run that had ``values``; a column each."""
        ...

    def keys(self, values: Floats) -> dict[str, Any]:
        """kvsim's keys that say so."""
        ...


WHOLE = ("const_s", "p1_s_per_token", "s_s_per_seq", "a_s_per_kv_token", "b_s_per_token2")
"""Coefficients of a step whose machine nobody has a profile of: each step, each of its tokens, each sequence, each KV
token that is read, attention of prompts."""


@dataclass(frozen=True)
class WholeSteps:
    """Nothing is known of the machine: the time of a step is fitted whole."""

    base: Plan
    """The deployment, with any step times."""
    names: tuple[str, ...] = WHOLE

    @property
    def least(self) -> Floats:
        """A step takes some time: a microsecond."""
        return np.array([1e-6, 0.0, 0.0, 0.0, 0.0])

    def first(self, runs: Sequence[Served], learned: Sequence[Chosen]) -> Floats:
        """By what came between an answer's tokens: others' tokens, and prompts that were computed."""
        return first_values(runs, learned, self.least)

    def plan(self, values: Floats) -> Plan:
        sizes = self.base.config.engine.cudagraph_capture_sizes
        return self.base.with_instances(step_time=AffineStepTime(coefficients_of(values), tuple(sorted(sizes))))

    def terms(self, detail: Detail, values: Floats) -> Floats:
        steps, chunks = detail.steps, detail.chunks
        number = steps["num_steps"]
        decodes = steps["decode_seqs"] * number
        step, tokens, before = chunks["step"].astype(np.int64), chunks["tokens"], chunks["before"]
        reads = steps["kv_tokens"] - np.bincount(step, before, len(number))
        work = np.bincount(step, tokens * (before + tokens / 2), len(number))
        seqs = decodes + steps["prefill_seqs"]
        return np.column_stack((number, decodes + steps["prefill_tokens"], seqs, reads, work))

    def keys(self, values: Floats) -> dict[str, Any]:
        return {"steptime.method": "fitted"} | coefficient_keys(coefficients_of(values))


def coefficients_of(values: Floats) -> Coefficients:
    """The formula of ``WHOLE``; KV costs a mixed step what it costs one that only decodes."""
    const_s, token_s, seq_s, kv_s, work_s = map(float, values)
    return Coefficients(
        w0_s=0.0,
        w1_s_per_token=0.0,
        p0_s=0.0,
        p1_s_per_token=token_s,
        a_s_per_kv_token=kv_s,
        a_mixed_s_per_kv_token=kv_s,
        straggler_s_per_token=0.0,
        straggler_min_seqs=0.0,
        b_s_per_token2=work_s,
        prefill_chunk_floor_tokens=0.0,
        s_s_per_seq=seq_s,
        comm0_s=0.0,
        comm1_s_per_token=0.0,
        const_s=const_s,
    )


FACTORS = (0.1, 10.0)
"""A machine that is farther from a profile is not the profile's."""


def coefficient_keys(found: Coefficients) -> dict[str, Any]:
    """A formula by kvsim's keys."""
    values = {name: getattr(found, name) for name in Coefficients.__dataclass_fields__ if name != "drafts_per_seq"}
    values["dense_knots"] = [list(knot) for knot in found.dense_knots]
    return {f"steptime.coefficients.{name}": value for name, value in values.items()}


@dataclass(frozen=True)
class Residual:
    """A profile of the machine is known: every step takes ``factor`` times what it says and a host's time more."""

    load: Callable[[dict[str, Any]], Plan]
    """The deployment with further keys of its configuration."""
    keys_of: Callable[[float, float], dict[str, Any]]
    """``keys_of(factor, host_s)``: the keys that say that steps take ``factor x (profile + host_s)``."""
    names: tuple[str, ...] = ("factor", "host_s")

    @property
    def least(self) -> Floats:
        return np.array([FACTORS[0], 0.0])

    def first(self, runs: Sequence[Served], learned: Sequence[Chosen]) -> Floats:
        """The profile as it is, scaled so that tokens come as fast as they did."""
        plain = np.array([1.0, 0.0])
        ratios = []
        for run, chosen in zip(runs, learned, strict=True):
            ours = metrics_of(predict(run, self.plan(plain), 0.0).requests)["tpot"]
            ratios.append((metrics_of(run.requests)["tpot"] / ours)[chosen])
        known = np.concatenate(ratios)
        known = known[np.isfinite(known)]
        return np.array([np.clip(np.median(known), *FACTORS) if len(known) else 1.0, 0.0])

    def plan(self, values: Floats) -> Plan:
        return self.load(self.keys(values))

    def terms(self, detail: Detail, values: Floats) -> Floats:
        """What is left of each span without the host's time is the profile's, scaled."""
        factor, host_s = values
        steps = detail.steps
        seconds = steps["end_s"] - steps["start_s"]
        return np.column_stack(((seconds - host_s * steps["num_steps"]) / factor, steps["num_steps"]))

    def keys(self, values: Floats) -> dict[str, Any]:
        factor, host_s = map(float, values)
        return self.keys_of(factor, host_s / factor)
