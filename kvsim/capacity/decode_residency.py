"""The decodes of one instance: how long answers keep it busy, and how much KV they hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kvsim.capacity.demand import Demand
from kvsim.plan.engine_settings import Speculation
from kvsim.plan.plan import Plan
from kvsim.workload.workload import Floats

_NEAR = 1e-13
"""Part of a number that it may be off by: a few roundings."""


@dataclass(frozen=True)
class DecodeLoad:
    """One instance's decodes in the mean over steps."""

    num_seqs: float
    kv_tokens_per_seq: float
    longest_tokens: float
    """The mean, where step times do not ask for it."""


@dataclass(frozen=True, eq=False)
class DecodeResidency:
    """The decoding of a population: means over steps weight a request by the steps it takes."""

    steps: Floats
    context_tokens: Floats
    """KV tokens that a request's first step reads; ``tokens_per_step`` more each step."""
    reservation_tokens: float
    """Tokens of an answer that room is kept for when its request is let in (decode reservation)."""
    needs_longest: bool
    """Whether step times ask for the longest of a batch."""
    tokens_per_step: float = 1.0
    """What a step gives a sequence in the mean."""

    @classmethod
    def of_decode(cls, plan: Plan, demand: Demand) -> DecodeResidency:
        """Decoding on a decode instance; a first token that prefill has forwarded is no step there."""
        forwarded = float(plan.config.pd_separation.first_token == "prefill")
        reservation_tokens = float(plan.decode_settings.output_margin_tokens)
        contexts = demand.prompt_tokens + forwarded
        steps, per_step = _steps(demand.output_tokens - forwarded, plan.decode_settings.speculation)
        return cls(steps, contexts, reservation_tokens, plan.decode.step_time.needs_longest, per_step)

    @classmethod
    def of_colocated(cls, plan: Plan, demand: Demand) -> DecodeResidency:
        """Decoding on a colocated instance, where the prefill's last step gives the first token."""
        steps, per_step = _steps(demand.output_tokens - 1, plan.colocated_settings.speculation)
        return cls(steps, demand.prompt_tokens + 1, 0.0, plan.step_time.needs_longest, per_step)

    @cached_property
    def mean_steps(self) -> float:
        return float(self.steps.mean())

    @cached_property
    def weight(self) -> Floats:
        """Each request's share of the steps; they sum to 1."""
        weight: Floats = self.steps / self.steps.sum()
        return weight

    @cached_property
    def mean_generated_tokens(self) -> float:
        """Generated tokens with KV: 0 in a request's first step, then 1, 2, ..."""
        return float((self.weight * (self.steps - 1)).sum()) / 2 * self.tokens_per_step

    @cached_property
    def mean_reserved_tokens(self) -> float:
        """Reservation a decoding request still has in the mean: M - 1 tokens in its first step, none after M steps."""
        lasting = self.reservation_tokens / self.tokens_per_step
        within = np.minimum(self.steps, lasting)
        steps = float((within * (lasting - 1) - within * (within - 1) / 2).sum() / self.steps.sum())
        return steps * self.tokens_per_step

    @cached_property
    def share_beyond_reservation(self) -> float:
        """Share of steps taken by requests that have used up their reservation."""
        lasting = self.reservation_tokens / self.tokens_per_step
        return float(np.maximum(self.steps - lasting, 0).sum() / self.steps.sum())

    @cached_property
    def _kv_tokens_per_seq(self) -> float:
        return float((self.weight * self.context_tokens).sum()) + self.mean_generated_tokens

    @cached_property
    def _by_length(self) -> tuple[Floats, Floats]:
        """The different context lengths in rising order, and the share of steps at or below each."""
        lengths, which = np.unique(self.context_tokens, return_inverse=True)
        return lengths, np.cumsum(np.bincount(which, self.weight))

    def load(self, num_seqs: float) -> DecodeLoad:
        """``num_seqs`` requests drawn independently; the longest of n is at most x with probability F(x)^n."""
        if not self.needs_longest:
            return DecodeLoad(num_seqs, self._kv_tokens_per_seq, self._kv_tokens_per_seq)
        lengths, at_most = self._by_length
        longest_share = np.diff(at_most ** max(num_seqs, 1.0), prepend=0.0)
        longest_tokens = float((lengths * longest_share).sum()) + self.mean_generated_tokens
        return DecodeLoad(num_seqs, self._kv_tokens_per_seq, longest_tokens)


def _steps(tokens: Floats, speculation: Speculation | None) -> tuple[Floats, float]:
    """Decode steps that give so many tokens each, and how many one gives in the mean."""
    if speculation is None:
        return tokens, 1.0
    steps: Floats = np.where(tokens > 0, tokens + speculation.overshoot_tokens, 0.0) / speculation.tokens_per_step
    return steps, speculation.tokens_per_step


@dataclass(frozen=True, eq=False)
class KvFootprint:
    """KV tokens that requests hold on an instance."""

    demand: Demand
    residency: DecodeResidency
    block_size: int

    @cached_property
    def _whole_prompt_tokens(self) -> float:
        return float((self.residency.weight * self.demand.prompt_tokens).sum())

    @cached_property
    def _mean_prompt_tokens(self) -> float:
        return float(self.demand.prompt_tokens.mean())

    def held_tokens(self, num_seqs: float) -> float:
        """KV tokens of ``num_seqs`` decoding requests: prompts (shared parts once), answers, reservations."""
        each = self.residency.mean_generated_tokens + self.residency.mean_reserved_tokens + (self.block_size - 1) / 2
        return self.demand.shared.held_tokens(num_seqs) + num_seqs * each

    def pending_tokens(self, num_pending: float, num_seqs: float) -> float:
        """KV tokens of ``num_pending`` more requests that have reserved and do not decode: prompts and reservations."""
        return num_pending * (self._own_share(num_seqs) * self._mean_prompt_tokens + self.residency.reservation_tokens)

    def prompt_tokens(self, num_seqs: float) -> Floats:
        """What each prompt takes when ``num_seqs`` others are there: its blocks, less those they hold."""
        blocks: Floats = np.ceil(self.demand.prompt_tokens * self._own_share(num_seqs) / self.block_size)
        return blocks * self.block_size

    def drawn_tokens(self, num_seqs: float, seed: int) -> Floats:
        """``prompt_tokens`` in the mean, but each prompt finds all that others have of it, or nothing."""
        own, alone = self._own_share(num_seqs), self.demand.shared.private_tokens / self._whole_prompt_tokens
        absent = min((own - alone) / (1 - alone), 1.0) if own > alone else 0.0
        prompts = self.demand.prompt_tokens
        finds_nothing = np.random.default_rng(seed).random(len(prompts)) < absent
        blocks: Floats = np.ceil(prompts * np.where(finds_nothing, 1.0, alone) / self.block_size)
        return blocks * self.block_size

    def common_tokens(self, num_seqs: float) -> float:
        """What several of ``num_seqs`` requests hold together: all of their prompts less ``prompt_tokens`` each."""
        own_tokens = num_seqs * self._own_share(num_seqs) * self._whole_prompt_tokens
        return max(self.demand.shared.held_tokens(num_seqs) - own_tokens, 0.0)

    def _own_share(self, num_seqs: float) -> float:
        """Share of a prompt that nobody else holds."""
        shared = self.demand.shared
        one_more = shared.held_tokens(num_seqs + 1) - shared.held_tokens(num_seqs)
        return min(one_more / self._whole_prompt_tokens, 1.0)


def largest(rising: Callable[[float], float], limit: float, most: float) -> float:
    """The largest ``x`` up to ``most`` with ``rising(x) <= limit``, to a relative ``_NEAR``; 0 where there is none.

    By false position with Illinois' halving of the end that stays (Dowell and Jarratt, "A modified regula falsi method
    for computing the root of an equation", BIT 11, 1971), and by bisection where that does not halve what is left.
    """
    at_most = rising(most)
    if at_most <= limit:
        return most
    low, high, below, above = 0.0, most, min(-limit, 0.0), at_most - limit
    if not math.isfinite(above):
        above = 1.0  # a guess: where to look next is all that it decides
    was_low, slow, width = False, 0, most
    while high - low > _NEAR * high and high > _NEAR * most:
        middle, least = (low + high) / 2, _NEAR / 2 * high
        if slow < 2:
            middle = min(max(low + (high - low) * below / (below - above), low + least), high - least)
        found = rising(middle) - limit
        is_low = found <= 0
        if is_low:
            low, below, above = middle, found, above / 2 if was_low else above
        else:
            high, below = middle, below if was_low else below / 2
            above = found if math.isfinite(found) else 1.0
        slow = slow + 1 if slow < 2 and high - low > width / 2 else 0
        was_low, width = is_low, high - low
    return low
