"""How far off step times are that were not measured: measured ones, predicted from each other or by the roofline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from kvsim.plan.measured_profiles import MeasuredProfile, measured_profiles
from kvsim.spec import InstanceSpec
from kvsim.steptime import AffineStepTime, Coefficients, Efficiencies, roofline
from kvsim.steptime.sibling import scaled_to

DECODES, CONTEXTS_TOKENS, PROMPTS_TOKENS = (1, 16, 64, 256), (1_000, 4_000), (512, 2_048, 8_192)
"""Steps that are compared: batches that decode at a context, and whole prompts."""


@dataclass(frozen=True)
class ScalingError:
    """Mean absolute errors of an instance's steps, percent, over measured instances: in the median, and at worst."""

    instances: int
    """Pairs of measured and predicted ones that this is known of."""
    decode_pct: float
    decode_worst_pct: float
    prefill_pct: float
    prefill_worst_pct: float

    def words(self) -> str:
        """The figures, to stand behind "is off by"."""
        return (
            f"{self.decode_pct:.0f}% in decode and {self.prefill_pct:.0f}% in prefill steps "
            f"({self.decode_worst_pct:.0f}% and {self.prefill_worst_pct:.0f}% at worst, of {self.instances})"
        )


def scaling_error(differences: Sequence[str], like: InstanceSpec, efficiencies: Efficiencies) -> ScalingError | None:
    """How far off measured instances are that differ in just ``differences``, scaled to each other.

    ``None`` where no two measured ones do.
    """
    return _scaling_error(tuple(differences), like.expert_parallel, efficiencies)


def roofline_error(like: InstanceSpec, efficiencies: Efficiencies) -> ScalingError | None:
    """How far off the roofline is over all measured instances; ``None`` where there is none."""
    return _roofline_error(like.expert_parallel, efficiencies)


@cache
def _scaling_error(
    differences: tuple[str, ...], expert_parallel: int, efficiencies: Efficiencies
) -> ScalingError | None:
    """Nothing of the instance that is asked about bears on it but over how many GPUs its experts are split."""
    found = []
    for measured in measured_profiles():
        here = _spec(measured, expert_parallel)
        for target in measured_profiles():
            there = _spec(target, expert_parallel)
            if target is not measured and measured.differences(there) == differences:
                times = scaled_to(measured.coefficients, here, there, efficiencies)
                found.append(_error(times, target))
    return _over(found)


@cache
def _roofline_error(expert_parallel: int, efficiencies: Efficiencies) -> ScalingError | None:
    found = [(one, roofline(_spec(one, expert_parallel), efficiencies)) for one in measured_profiles()]
    return _over([_error(times, one) for one, times in found])


def _spec(measured: MeasuredProfile, expert_parallel: int) -> InstanceSpec:
    """The measured instance; memory, which no step time knows of, is anything."""
    return InstanceSpec(
        model=measured.model,
        gpu=measured.gpu,
        tensor_parallel=measured.tensor_parallel,
        weight_dtype=measured.weight_dtype,
        kv_dtype=measured.kv_dtype,
        block_size_tokens=1,
        memory_utilisation=1.0,
        expert_parallel=expert_parallel,
    )


def _over(errors: list[tuple[float, float]]) -> ScalingError | None:
    if not errors:
        return None
    decode, prefill = np.array(errors).T
    return ScalingError(
        len(errors), float(np.median(decode)), float(decode.max()), float(np.median(prefill)), float(prefill.max())
    )


def _error(times: Coefficients, measured: MeasuredProfile) -> tuple[float, float]:
    """Mean absolute errors of the decode and of the prefill steps, percent."""
    decode_s, prefill_s = _steps(times)
    true_decode_s, true_prefill_s = _measured_steps(measured.name)
    return _mean_pct(decode_s / true_decode_s), _mean_pct(prefill_s / true_prefill_s)


def _mean_pct(ratios: np.ndarray) -> float:
    return float(np.abs(ratios - 1).mean()) * 100


@cache
def _measured_steps(name: str) -> tuple[np.ndarray, np.ndarray]:
    return _steps(next(one.coefficients for one in measured_profiles() if one.name == name))


def _steps(coefficients: Coefficients) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of the decode and of the prefill steps that are compared."""
    times = AffineStepTime(coefficients)
    decode_s = [times.decode_span(num, num * tokens, tokens)[0] for num in DECODES for tokens in CONTEXTS_TOKENS]
    prefill_s = [times.mixed_s(tokens, 1, 0, 0, 0, times.chunk_work(tokens, 0)) for tokens in PROMPTS_TOKENS]
    return np.array(decode_s), np.array(prefill_s)
