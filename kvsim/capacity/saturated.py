"""A colocated instance that never lacks work, played by its admission rule: seats, token budget, pool, preemption."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np

from kvsim.capacity.kv_saturation import ADMISSIONS, evenly
from kvsim.workload.workload import Floats


@dataclass(frozen=True, eq=False)
class Saturated:
    """Requests and the instance they crowd; tokens, one entry a request for arrays."""

    needs: Floats
    """Room that a prompt takes, what it shares with others that are there left out."""
    computed: Floats
    """Tokens of it that steps must compute before it decodes."""
    contexts: Floats
    """KV that its first decode step reads."""
    steps: Floats
    """Decode steps that it takes."""
    room_tokens: float
    """Room for ``needs`` and generated tokens."""
    kept_tokens: float
    """Tokens of the room that are kept free at admission while anybody runs."""
    seats: int
    budget_tokens: int
    caches: bool
    """Whether blocks that are given back can be found again until others take them."""


@dataclass
class Played:
    """Steps of a saturated instance."""

    pure: list[tuple[int, int, float]] = field(default_factory=list)
    """Spans that only decode: steps, sequences, and the KV tokens that a step reads in the mean."""
    mixed: list[tuple[int, float, float, int]] = field(default_factory=list)
    """Steps with prompts: sequences that decode, KV tokens that they read, prompt tokens, and chunks."""
    generated: int = 0
    """Tokens beyond first ones: one for each step of a sequence."""
    again: list[tuple[float, float]] = field(default_factory=list)
    """Chunks of requests that had given their blocks back: tokens computed again, and the prefix they stand behind."""

    def times(self, tokens: float) -> Played:
        """These steps where so many tokens were played as one."""
        if tokens == 1.0:
            return self
        return Played(
            [(steps, seqs, kv * tokens) for steps, seqs, kv in self.pure],
            [(seqs, kv * tokens, prefilled * tokens, chunks) for seqs, kv, prefilled, chunks in self.mixed],
            self.generated,
            [(computed * tokens, prefix * tokens) for computed, prefix in self.again],
        )

    @property
    def mean_seqs(self) -> float:
        """Mean number of decoding sequences, over steps."""
        steps = sum(span[0] for span in self.pure) + len(self.mixed)
        decodes = sum(span[0] * span[1] for span in self.pure) + sum(step[0] for step in self.mixed)
        return decodes / steps


class _Sequence:
    __slots__ = ("base", "context", "end", "finished", "held", "left", "mark", "run", "to_compute")

    def __init__(self, held: float, to_compute: float, context: float, left: int) -> None:
        self.held, self.to_compute, self.context, self.left = held, to_compute, context, left
        self.base = self.end = -1
        """Decode steps at which it began, and at which it will be done."""
        self.mark = -1.0
        """Once it has given its blocks back: what others had taken by then."""
        self.run = 0


def played(case: Saturated, around: float, seed: int) -> Played:
    """``ADMISSIONS`` requests, after as many as are inside at a time, about ``around``, have come before them.

    As in vLLM decodes and prompts under way go first; where the pool has no block for the next token of one, who came
    last gives all of his back and is the first to be let in again; who is let in needs room for all that he has, and
    nobody overtakes him. What others took meanwhile, his last blocks first, he has to compute again.
    """
    random = np.random.default_rng(seed)
    number = ADMISSIONS + int(around)
    rows = evenly(case.needs + case.steps, random, number)
    steps = np.floor(_scaled(case.steps, rows) + random.random(number)).astype(np.int64)
    waiting = [
        _Sequence(*values)
        for values in zip(
            _scaled(case.needs, rows).tolist(),
            _scaled(case.computed, rows).tolist(),
            _scaled(case.contexts, rows).tolist(),
            steps.tolist(),
            strict=True,
        )
    ]
    weight = case.steps / case.steps.sum()
    inside = random.choice(len(weight), int(around), p=weight)
    ages = np.floor(random.random(len(inside)) * case.steps[inside]).astype(np.int64)
    instance = _Instance(case, waiting, ADMISSIONS)
    for row, age in zip(inside.tolist(), ages.tolist(), strict=True):
        instance.start(float(case.needs[row]), float(case.contexts[row]), max(int(case.steps[row]), 1), age)
    return instance.played()


def _scaled(values: Floats, rows: np.ndarray) -> Floats:
    """``values`` of ``rows``, with the mean of all: that of a sample of heavy tails is a percent off."""
    found = values[rows]
    mean = float(found.mean())
    scaled: Floats = found * (float(values.mean()) / mean) if mean else found
    return scaled


class _Instance:
    def __init__(self, case: Saturated, waiting: list[_Sequence], counted: int) -> None:
        self._case, self._counted = case, counted
        self._waiting = waiting
        """The next is last."""
        self._running: dict[_Sequence, None] = {}
        self._prefilling: _Sequence | None = None
        self._ends: list[tuple[int, int, int, _Sequence]] = []
        self._step = self._serial = 0
        self._num = 0
        self._kv_tokens = 0.0
        """Read by the next step."""
        self._empty = case.room_tokens
        self._taken = 0.0
        """By growth and admissions, since the beginning."""
        self.result = Played()

    def start(self, need: float, context: float, steps: int, age: int) -> None:
        """One that has been decoding for ``age`` steps, where there is room for it."""
        if need + age > self._empty or len(self._running) >= self._case.seats:
            return
        sequence = _Sequence(need + age, 0.0, context + age, steps - age)
        self._empty -= sequence.held
        self._running[sequence] = None
        self._decode(sequence)

    def played(self) -> Played:
        while self._waiting:
            if len(self._waiting) == self._counted:
                # What came before has filled the instance.
                self.result = Played()
                self._counted = -1
            preempts = self._make_room()
            tokens, chunks, ready = self._compute(admits=not preempts)
            if chunks:
                self._mixed(tokens, chunks, ready)
            elif self._num:
                self._pure(1 if preempts else self._steps_alike())
        return self.result

    def _make_room(self) -> bool:
        """For the next token of every decode; whether that took somebody's blocks."""
        preempts = False
        while self._num > self._empty and len(self._running) > 1:
            self._preempt(next(reversed(self._running)))
            preempts = True
        return preempts

    def _preempt(self, victim: _Sequence) -> None:
        del self._running[victim]
        if victim is self._prefilling:
            self._prefilling = None
        elif victim.base >= 0:
            done = self._step - victim.base
            self._num -= 1
            self._kv_tokens -= victim.context + done
            victim.held += done
            victim.context += done
            victim.left -= done
            victim.base = -1
            victim.run += 1
        self._empty += victim.held
        victim.mark = self._taken
        self._waiting.append(victim)

    def _compute(self, *, admits: bool) -> tuple[float, int, list[_Sequence]]:
        """Prompt tokens and chunks of the next step, and those that are complete with it."""
        case, left, chunks = self._case, float(self._case.budget_tokens - self._num), 0
        ready: list[_Sequence] = []
        growth = self._num
        if self._prefilling is not None and left > 0:
            left -= self._advance(self._prefilling, left, ready)
            chunks += 1
        while admits and left > 0 and self._prefilling is None and self._waiting and len(self._running) < case.seats:
            sequence = self._waiting[-1]
            room = self._empty - growth - (case.kept_tokens if self._running else 0.0)
            if sequence.held > room and self._running:
                break
            self._waiting.pop()
            if sequence.mark >= 0:
                self._look_up(sequence)
            self._taken += sequence.to_compute
            self._empty -= sequence.held
            self._running[sequence] = None
            left -= self._advance(sequence, left, ready)
            chunks += 1
        return case.budget_tokens - self._num - left, chunks, ready

    def _look_up(self, sequence: _Sequence) -> None:
        """What is left of its blocks; the last token is always computed."""
        lost = min(self._taken - sequence.mark, sequence.held) if self._case.caches else sequence.held
        sequence.to_compute = max(min(lost + sequence.to_compute, sequence.held), 1.0)
        self.result.again.append((sequence.to_compute, max(sequence.context - sequence.to_compute, 0.0)))
        sequence.mark = -1.0

    def _advance(self, sequence: _Sequence, left: float, ready: list[_Sequence]) -> float:
        tokens = min(sequence.to_compute, left)
        sequence.to_compute -= tokens
        self._prefilling = sequence if sequence.to_compute > 1e-9 else None
        if self._prefilling is None:
            ready.append(sequence)
        return tokens

    def _mixed(self, tokens: float, chunks: int, ready: list[_Sequence]) -> None:
        result = self.result
        result.mixed.append((self._num, self._kv_tokens, tokens, chunks))
        self._ran(1)
        for sequence in ready:
            if sequence.run:
                # The token that a computation gives again is one that was to be decoded.
                sequence.left -= 1
                sequence.context += 1
                result.generated += 1
            self._decode(sequence)

    def _decode(self, sequence: _Sequence) -> None:
        if sequence.left < 1:
            self._leave(sequence)
            return
        sequence.base, sequence.end = self._step, self._step + sequence.left
        self._serial += 1
        heappush(self._ends, (sequence.end, self._serial, sequence.run, sequence))
        self._num += 1
        self._kv_tokens += sequence.context

    def _steps_alike(self) -> int:
        """Until somebody ends, or the pool does."""
        ends = self._ends
        while ends[0][2] != ends[0][3].run:
            heappop(ends)
        return max(min(ends[0][0] - self._step, int(self._empty / self._num)), 1)

    def _pure(self, steps: int) -> None:
        result = self.result
        result.pure.append((steps, self._num, self._kv_tokens + self._num * (steps - 1) / 2))
        self._ran(steps)

    def _ran(self, steps: int) -> None:
        growth = self._num * steps
        self.result.generated += growth
        self._empty -= growth
        self._taken += growth
        self._kv_tokens += growth
        self._step += steps
        ends = self._ends
        while ends and ends[0][0] <= self._step:
            _, _, run, sequence = heappop(ends)
            if run == sequence.run:
                self._num -= 1
                self._kv_tokens -= sequence.context + self._step - sequence.base
                sequence.held += self._step - sequence.base
                sequence.run = -1
                self._leave(sequence)

    def _leave(self, sequence: _Sequence) -> None:
        del self._running[sequence]
        self._empty += sequence.held
