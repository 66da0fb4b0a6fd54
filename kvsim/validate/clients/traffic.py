"""The requests that a load client sends: how many, when, and what their prompts have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from kvsim.workload.chains import Pieces
from kvsim.workload.info import WorkloadInfo
from kvsim.workload.workload import Counts, Floats, Ints, Workload

POISSON, EQUAL = 1.0, math.inf
"""Values of ``burstiness``: exponential gaps, equal ones."""
PREAMBLE_S = 2.0
"""Between two requests that an earlier stage left in the cache: each is over before the next one comes."""


@dataclass(frozen=True)
class SharedPrompts:
    """``groups`` x ``per_group`` prompts that are sent again and again; those of a group begin with the same tokens."""

    groups: int
    per_group: int
    head_tokens: int
    sent_before: bool = False
    """An earlier stage sent all of them to the same server."""

    @property
    def num(self) -> int:
        return self.groups * self.per_group

    @property
    def words(self) -> str:
        return f"{self.groups} x {self.per_group} prompts in turn, {self.head_tokens} tokens shared within a group"


@dataclass(frozen=True, eq=False)
class SentPrompts:
    """What prompts share, where a client says it: chains as those of :class:`kvsim.workload.request.Request`."""

    pieces: Pieces
    output_chain: Ints

    @property
    def prompt_tokens(self) -> Counts:
        """Tokens of each prompt."""
        ends = np.concatenate(([0], np.cumsum(self.pieces.tokens, dtype=np.int64)))[self.pieces.offsets]
        return np.diff(ends).astype(np.int32)


@dataclass(frozen=True, eq=False)
class SentRows:
    """The requests one by one, in the order of sending."""

    prompt_tokens: Counts
    output_tokens: Counts
    sent_s: Floats | None
    """From the first on; ``None`` where it was not recorded, or follows from how fast answers came: then as the
    description has it."""
    prompts: SentPrompts | None = None
    """``None``: as the description has it."""


@dataclass(frozen=True)
class Traffic:
    """An open loop, or a closed one where ``max_in_flight`` binds. Where ``rows`` are known they take the place of the
    description: their lengths of the means, and their times, where there are any, of rate and gaps."""

    requests: int
    """Sent, whatever became of them."""
    rate_per_s: float
    """``inf``: everything at once."""
    prompt_tokens: float
    output_tokens: float
    """Means; both may be fractions."""
    burstiness: float = POISSON
    """Gaps are gamma distributed of this shape: ``POISSON``, ``EQUAL`` or anything between and below."""
    scaled: bool = False
    """Gaps are scaled so that they sum to ``requests / rate_per_s``: the last request comes at the very end."""
    max_in_flight: int | None = None
    timeout_s: float | None = None
    """From sending a request until its client gives it up."""
    shared: SharedPrompts | None = None
    """``None``: prompts that share nothing."""
    rows: SentRows | None = None
    """There are ``requests`` of them."""

    @property
    def is_recorded(self) -> bool:
        """Whether requests are sent at the times that the client recorded."""
        return self.rows is not None and self.rows.sent_s is not None

    @property
    def preamble(self) -> int:
        """Requests at the head of ``workload`` that belong to an earlier stage."""
        return self.shared.num if self.shared is not None and self.shared.sent_before else 0

    @property
    def gaps(self) -> str:
        """In a word."""
        if self.is_recorded:
            return "sent as recorded"
        if self.burstiness == EQUAL:
            return "equal gaps"
        shape = "exponential gaps" if self.burstiness == POISSON else f"gaps of burstiness {self.burstiness:g}"
        return f"{shape}, scaled to the duration" if self.scaled else shape

    def workload(self, source: str, seed: int) -> Workload:
        """The preamble, and then the requests themselves."""
        generator = np.random.default_rng(seed)
        arrival_s = self._arrivals_s(generator)
        if self.preamble:
            before_s = np.arange(self.preamble) * PREAMBLE_S
            arrival_s = np.concatenate((before_s, arrival_s + self.preamble * PREAMBLE_S))
        prompts = np.full(len(arrival_s), max(1, round(self.prompt_tokens)), dtype=np.int32)
        outputs = _whole(self.output_tokens, len(arrival_s))
        if self.rows is not None:
            prompts[self.preamble :], outputs[self.preamble :] = self.rows.prompt_tokens, self.rows.output_tokens
        outputs[: self.preamble] = 1
        info = WorkloadInfo(source=source, format="synthetic")
        found = Workload.private(arrival_s, prompts, outputs, info)
        if self.rows is not None and self.rows.prompts is not None:
            found = _as_sent(found, self.rows.prompts)
        elif self.shared is not None:
            found = _shared(found, self.shared, self.preamble, generator)
        return replace(found, max_concurrency=self.max_in_flight)

    def _arrivals_s(self, generator: np.random.Generator) -> Floats:
        count, rate = self.requests, self.rate_per_s
        if self.rows is not None and self.rows.sent_s is not None:
            return self.rows.sent_s
        if not math.isfinite(rate):
            return np.zeros(count)
        if self.burstiness == EQUAL:
            return np.arange(count) / rate
        found: Floats = np.cumsum(generator.gamma(self.burstiness, 1 / (rate * self.burstiness), count))
        if self.scaled and found[-1] > 0:
            found *= count / rate / found[-1]
        return found


def _whole(mean: float, count: int) -> npt.NDArray[np.int32]:
    """Whole tokens whose mean is the mean: 62.4 becomes 62 or 63."""
    whole, share = divmod(mean, 1)
    found: npt.NDArray[np.int32] = (whole + (np.arange(count) * 0.618 % 1 < share)).clip(min=1).astype(np.int32)
    return found


def _as_sent(alone: Workload, prompts: SentPrompts) -> Workload:
    return replace(
        alone,
        output_chain=prompts.output_chain,
        piece_offsets=prompts.pieces.offsets,
        piece_chain=prompts.pieces.chain,
        piece_tokens=prompts.pieces.tokens,
    )


def _shared(alone: Workload, shared: SharedPrompts, preamble: int, generator: np.random.Generator) -> Workload:
    """The prompts shuffled once and then sent in turn; every stage begins with the first."""
    order = generator.permutation(shared.num)
    count = len(alone)
    turn = np.concatenate((np.arange(preamble), np.arange(count - preamble)))
    prompt = order[turn % shared.num].astype(np.int64)
    head = min(shared.head_tokens, int(alone.prompt_tokens.min()) - 1)
    if head == 0:
        return replace(alone, piece_chain=prompt)
    chains = np.stack((prompt // shared.per_group, shared.groups + prompt), axis=1)
    tokens = np.stack((np.full(count, head), alone.prompt_tokens - head), axis=1)
    return replace(
        alone,
        piece_offsets=np.arange(0, 2 * count + 1, 2, dtype=np.int64),
        piece_chain=chains.reshape(-1),
        piece_tokens=tokens.reshape(-1).astype(np.int32),
    )
