"""The least time that instances have to be there for what they have served: what no scaling policy can beat.

A step that computes p tokens of prompts beside d sequences that decode on k tokens of KV takes at least as long as a
step with fewer of any of these. Where prices of a prompt token, of a decoded token and of a KV token that is read are
such that no step is worth more than it takes, all that was served together is worth no more than all steps took: a
lower bound of the time that instances were busy, whoever decided when they come and go. The dearest such prices are a
linear programme over steps of all sizes, taken in ranges: no range may be worth more at its largest than a step takes
at its smallest. Contexts of a batch are ranges of their mean. Instances are paid while they are busy, and there is
never less than the least number of them; nothing can be computed before it has been asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kvsim.plan.engine_settings import EngineSettings
from kvsim.steptime.curves.base import StepTime
from kvsim.workload.workload import Floats

_FINENESS, _CONTEXT_FINENESS = 1.25, 1.5
"""Ratio of one size of step, and of one mean context, to the next."""


@dataclass(frozen=True)
class Prices:
    """Seconds that a step takes at least, of each of these."""

    prompt_token_s: float
    output_token_s: float
    kv_token_s: float


@dataclass(frozen=True)
class Served:
    """What steps have computed, in all."""

    prompt_tokens: float
    output_tokens: float
    """But for the first of each answer, which comes of the last step of its prompt."""
    kv_tokens: float
    """KV tokens that those read, as many times as they were."""


def dearest_prices(times: StepTime, settings: EngineSettings, served: Served, longest_tokens: int) -> Prices:
    """The prices at which what was served is worth the most. ``longest_tokens``: of a sequence."""
    from scipy.optimize import linprog

    most_decodes = min(settings.max_num_seqs, settings.max_num_batched_tokens)
    prompts = _cells(settings.max_num_batched_tokens if served.prompt_tokens else 0, _FINENESS)
    decodes = _cells(most_decodes if served.output_tokens else 0, _FINENESS)
    contexts = _cells(longest_tokens, _CONTEXT_FINENESS)[1:]
    rows: list[list[int]] = []
    limits: list[float] = []
    for prompt, most_prompt in prompts:
        for decode, most_decode in decodes:
            if not prompt and not decode:
                continue
            for context, most_context in contexts if decode else [(0, 0)]:
                rows.append([most_prompt, most_decode, most_decode * most_context])
                limits.append(_step_s(times, prompt, decode, decode * context))
    if not rows:
        return Prices(0.0, 0.0, 0.0)
    amounts = (served.prompt_tokens, served.output_tokens, served.kv_tokens)
    found: Any = linprog([-amount for amount in amounts], A_ub=np.array(rows), b_ub=np.array(limits), bounds=(0, None))
    prices = [float(price) if amount else 0.0 for price, amount in zip(found.x, amounts, strict=True)]
    return Prices(*prices)


def least_instance_s(work: Floats, arrival_s: Floats, end_s: float, minimum: int) -> float:
    """Instance-seconds up to ``end_s`` that ``work`` takes, seconds of an instance by request, of which nothing is done
    before it came, where there are ``minimum`` instances at least.
    """
    order = np.argsort(arrival_s, kind="stable")
    behind = np.cumsum(work[order][::-1])[::-1]
    beyond = behind - minimum * (end_s - arrival_s[order])
    return minimum * end_s + max(0.0, float(beyond.max(initial=0.0)))


def _cells(most: int, fineness: float) -> list[tuple[int, int]]:
    """Whole numbers from 0 to ``most`` in ranges, 0 and 1 alone, each range about so many times as wide as the last."""
    found, first = [(0, 0)], 1
    while first <= most:
        last = min(max(first, int(first * fineness)), most)
        found.append((first, last))
        first = last + 1
    return found


def _step_s(times: StepTime, prompt: int, decode: int, kv_tokens: int) -> float:
    """Seconds of the shortest step that has so much at least."""
    longest = -(-kv_tokens // decode) if decode else 0
    if prompt:
        return times.mixed_s(prompt + decode, decode + 1, decode, kv_tokens, longest, 0.0)
    alone_s = times.mixed_s(decode, decode, decode, kv_tokens, longest, 0.0)
    return min(alone_s, times.decode_span(decode, kv_tokens, longest)[0])
