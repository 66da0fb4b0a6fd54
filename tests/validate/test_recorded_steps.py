"""Step times out of first and last tokens, from engines of a few lines whose every step is known."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from builders import coefficients
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.record.result import Table
from kvsim.steptime import AffineStepTime
from kvsim.validate.compare_steps import compare_steps
from kvsim.validate.recorded_steps import StepsUnknownError, moments_of, stretches_of

GUESS = AffineStepTime(coefficients(const_s=0.010, s_s_per_seq=1e-4))
PROMPT_S = 0.03


def served(
    seed: int, count: int = 40, slots: int = 6, factor: float = 1.0, stall: int = -1
) -> tuple[Table, list[float]]:
    """An engine that computes a prompt in one step, beside those that decode; and every step's end. Request ``stall``
    is out for three steps."""
    generator = np.random.default_rng(seed)
    outputs = generator.integers(2, 60, count)
    arrival_s = np.cumsum(generator.exponential(0.2, count))
    columns: dict[str, list[float]] = {name: [0.0] * count for name in ("scheduled_s", "first_token_s", "finish_s")}
    waiting, running, now_s, ends_s = list(range(count)), dict[int, int](), 0.0, list[float]()
    out = 0
    while waiting or running:
        new = [i for i in waiting[: slots - len(running)] if arrival_s[i] <= now_s]
        if not running and not new:
            now_s = arrival_s[waiting[0]]
            continue
        for i in new:
            columns["scheduled_s"][i] = now_s
        rests = stall in running and running[stall] >= 1 and out < 3
        out += rests
        moving = [i for i in running if not (rests and i == stall)]
        now_s += factor * (0.010 + 1e-4 * (len(moving) + len(new))) + PROMPT_S * len(new)
        ends_s.append(now_s)
        for i in new:
            columns["first_token_s"][i], running[i] = now_s, 0
        waiting = waiting[len(new) :]
        for i in moving:
            running[i] += 1
        for i in [i for i in running if running[i] == outputs[i] - 1]:
            columns["finish_s"][i] = now_s
            del running[i]
    table = {name: np.array(values) for name, values in columns.items()}
    return table | {"output_tokens": outputs.astype(float), "prompt_tokens": np.full(count, 100.0)}, ends_s


@settings(max_examples=12)
@given(st.integers(0, 1000), st.floats(0.8, 1.25))
def test_the_steps_between_all_tokens_are_found(seed: int, factor: float) -> None:
    """Whatever the guess says of their length, within a quarter; a prompt may be taken for some decode steps."""
    requests, ends_s = served(seed, factor=factor)
    found = stretches_of(requests, GUESS)
    moments_s = moments_of(requests).times_s
    right = found.steps == np.diff(np.searchsorted(ends_s, moments_s - 1e-6))
    assert right[found.is_decode].all()
    assert right.mean() > 0.7


def test_steps_are_held_against_their_batches() -> None:
    requests, _ = served(3, factor=1.25)
    rows = compare_steps(requests, np.zeros(40), GUESS, 1000)
    decode, mixed = (next(row for row in rows if row.kind == kind) for kind in ("decode", "mixed"))
    assert decode.error_pct == pytest.approx(-20.0, abs=0.1)
    assert mixed.measured_ms - 1.25 * mixed.predicted_ms == pytest.approx(1e3 * PROMPT_S, rel=0.3)
    assert not [row for row in compare_steps(requests, np.zeros(40), GUESS, 50) if row.kind == "mixed"]


@pytest.mark.parametrize("seed", [3, 5, 11])
def test_a_request_that_was_preempted_misleads_nobody(seed: int) -> None:
    """It took three steps more than it has tokens. Decode steps come out right within a fifteenth, or are left out."""
    told = 0
    for stall in range(0, 40, 4):
        requests, ends_s = served(seed, stall=stall)
        with contextlib.suppress(StepsUnknownError):
            found = stretches_of(requests, GUESS)
            first, last = (
                np.searchsorted(ends_s, times_s - 1e-6) for times_s in (found.begin_s, found.begin_s + found.seconds)
            )
            assert np.abs(found.steps / (last - first) - 1)[found.is_decode].max(initial=0.0) < 1 / 15
            told += 1
    assert told > 5


def test_times_of_a_client_are_no_ends_of_steps() -> None:
    requests, _ = served(3)
    late_s = np.random.default_rng(1).exponential(0.02, (2, 40))
    noisy = requests | {"first_token_s": requests["first_token_s"] + late_s[0]}
    noisy["finish_s"] = np.maximum(requests["finish_s"] + late_s[1], noisy["first_token_s"])
    with pytest.raises(
        StepsUnknownError, match=r"^its times are no ends of steps: those of batches as large differ by"
    ):
        compare_steps(noisy, np.zeros(40), GUESS, 1000)


def test_without_starts_it_is_not_known_which_steps_compute_prompts() -> None:
    requests, _ = served(3)
    del requests["scheduled_s"]
    with pytest.raises(StepsUnknownError, match=r"^without scheduled_ts it is not known which"):
        compare_steps(requests, np.zeros(40), GUESS, 1000)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "^first and last tokens came at 2 moments alone; 3 are needed$"),
        (4, r"^decode steps alone lie between \d neighbouring tokens; 10 are needed$"),
    ],
)
def test_few_requests_do_not_say_how_long_steps_took(count: int, said: str) -> None:
    with pytest.raises(StepsUnknownError, match=said):
        compare_steps(served(3, count=count)[0], np.zeros(count), GUESS, 1000)
