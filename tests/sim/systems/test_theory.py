"""The real engine against queueing theory. Seeds are fixed; intervals are those of batch means at 99%."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from builders import coefficients, colocated, plan, served
from scipy import stats

from kvsim.record.result import Table
from kvsim.sim.systems.pd import PdSystem
from kvsim.sim.systems.unified import UnifiedSystem
from kvsim.steptime import AffineStepTime
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.workload import Workload

Floats = npt.NDArray[np.float64]
STEP_S = 0.01
MEAN_TOKENS = 100


def poisson(num: int, rate_per_s: float, output_tokens: npt.NDArray[np.int32], seed: int) -> Workload:
    """Short prompts of their own, at exponential gaps."""
    arrival_s = np.cumsum(np.random.default_rng(seed).exponential(1 / rate_per_s, num))
    prompt_tokens = np.full(num, 16, dtype=np.int32)
    return Workload.private(arrival_s, prompt_tokens, output_tokens, WorkloadInfo("test", "synthetic"))


def one_server(requests: Workload) -> Table:
    """One seat: an answer of n tokens occupies the server for n steps. Rows stand in the order of arrival."""
    found = plan(times=coefficients(const_s=STEP_S), max_num_seqs=1, enable_prefix_caching=False)
    return served(UnifiedSystem, colocated(found), requests).requests.table()


def interval(values: Floats, batches: int = 30) -> tuple[float, float]:
    """Mean and half width of its 99% confidence interval, from the means of batches."""
    means = np.array([batch.mean() for batch in np.array_split(values, batches)])
    half_width = stats.t.ppf(0.995, batches - 1) * means.std(ddof=1) / math.sqrt(batches)
    return float(means.mean()), float(half_width)


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_equal_answers_wait_like_m_d_1(load: float) -> None:
    service_s = MEAN_TOKENS * STEP_S
    tokens = np.full(15_000, MEAN_TOKENS, dtype=np.int32)
    wait_s, half_width_s = interval(one_server(poisson(len(tokens), load / service_s, tokens, 11))["queue_s"])
    expected_s = load * service_s / (2 * (1 - load))
    assert abs(wait_s - expected_s) <= half_width_s
    assert half_width_s < 0.15 * expected_s


@pytest.mark.parametrize("load", [0.3, 0.6])
def test_exponential_answers_wait_like_m_m_1(load: float) -> None:
    tokens = np.ceil(np.random.default_rng(12).exponential(MEAN_TOKENS, 24_000)).astype(np.int32)
    service_s = STEP_S / -math.expm1(-1 / MEAN_TOKENS)  # the mean of a rounded-up exponential
    wait_s, half_width_s = interval(one_server(poisson(len(tokens), load / service_s, tokens, 13))["queue_s"])
    expected_s = load * service_s / (1 - load)
    assert abs(wait_s - expected_s) <= half_width_s
    assert half_width_s < 0.2 * expected_s


def test_the_wait_is_pollaczek_khinchine_s_for_answers_of_two_lengths() -> None:
    tokens = np.random.default_rng(14).choice(np.array([20, 300], dtype=np.int32), 20_000, p=[0.8, 0.2])
    service_s = STEP_S * np.array([20, 300])
    mean_s = float(service_s @ [0.8, 0.2])
    rate_per_s = 0.5 / mean_s
    wait_s, half_width_s = interval(one_server(poisson(len(tokens), rate_per_s, tokens, 15))["queue_s"])
    expected_s = rate_per_s * float(service_s**2 @ [0.8, 0.2]) / (2 * (1 - 0.5))
    assert abs(wait_s - expected_s) <= half_width_s


def decoding(requests: Workload) -> Table:
    """A decode instance with room for all, fed by a prefill instance and a network that take no time."""
    found = plan(
        sets=("routing.decode=least_loaded",),
        times=coefficients(const_s=STEP_S),
        nic_bytes_per_s=math.inf,
        max_num_seqs=100_000,
        num_blocks=10**7,
        enable_prefix_caching=False,
    )
    system = PdSystem(found, requests, 1)
    system.prefill_engines[0].step_time = AffineStepTime(coefficients())
    system.run()
    return system.requests.table()


def test_decoding_with_a_constant_step_is_m_g_infinity() -> None:
    """Nobody disturbs anybody: the population is Poisson, its mean rate x time in the system."""
    rate_per_s, num = 30.0, 27_000
    tokens = np.ceil(np.random.default_rng(16).exponential(MEAN_TOKENS, num)).astype(np.int32)
    table = decoding(poisson(num, rate_per_s, tokens, 17))
    assert table["queue_s"].sum() == table["preemptions"].sum() == 0
    sojourn_s = table["finish_s"] - table["arrival_s"]
    # A request waits for the next step boundary, and then for its own steps alone.
    waits_s = sojourn_s - table["output_tokens"] * STEP_S
    assert -1e-9 <= waits_s.min() <= waits_s.max() <= STEP_S + 1e-9
    service_s = STEP_S / -math.expm1(-1 / MEAN_TOKENS) + STEP_S / 2
    at_s = np.arange(20.0, float(table["arrival_s"].max()), 5.0)  # five mean service times apart
    present = np.searchsorted(np.sort(table["arrival_s"]), at_s) - np.searchsorted(np.sort(table["finish_s"]), at_s)
    expected = rate_per_s * service_s
    assert abs(present.mean() - expected) <= 2.576 * math.sqrt(expected / len(at_s))
    dispersion = present.var(ddof=1) / present.mean()
    low, high = stats.chi2.ppf([0.005, 0.995], len(at_s) - 1) / (len(at_s) - 1)
    assert low <= dispersion <= high
    assert poisson_p_value(present, expected) > 0.01


def poisson_p_value(counts: npt.NDArray[np.int64], mean: float) -> float:
    """Of a chi-square test over bins that expect at least 5 counts each."""
    edges = stats.poisson.ppf(np.linspace(0, 1, 12)[1:-1], mean)
    bins = np.concatenate(([-0.5], np.unique(edges) + 0.5, [np.inf]))
    observed, _ = np.histogram(counts, bins)
    expected = np.diff(np.concatenate(([0.0], stats.poisson.cdf(bins[1:-1], mean), [1.0]))) * len(counts)
    assert expected.min() >= 5
    return float(stats.chisquare(observed, expected).pvalue)
