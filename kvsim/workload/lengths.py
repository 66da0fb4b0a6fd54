"""How long prompts and answers are: distributions of whole tokens, drawn, and read from words such as ``2000±500``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from kvsim.errors import WorkloadError
from kvsim.workload.records import MAX_TOKENS
from kvsim.workload.workload import Ints

FORMS = "a number (2000, 2k), a range (1000-3000), or a mean and its standard deviation (2000±500)"
_NUMBER = r"(\d{1,9}(?:\.\d{1,3})?)(k?)"
_FIXED = re.compile(_NUMBER)
_RANGE = re.compile(rf"{_NUMBER}\s*(?:-|\.\.)\s*{_NUMBER}")
_SPREAD = re.compile(rf"{_NUMBER}\s*(?:±|\+-|\+/-)\s*{_NUMBER}")


@dataclass(frozen=True)
class Uniform:
    """Every whole number from ``least`` to ``most`` alike."""

    least: int
    most: int

    def draw(self, count: int, random: np.random.Generator) -> Ints:
        return random.integers(self.least, self.most, count, endpoint=True)


@dataclass(frozen=True)
class LogNormal:
    """A lognormal of that median and standard deviation of the logarithm, rounded, drawn again outside its bounds."""

    median: float
    sigma: float
    least: int = 1
    most: int = MAX_TOKENS

    @classmethod
    def spread(cls, mean: float, deviation: float) -> LogNormal:
        """The one of that mean and standard deviation."""
        variance = math.log1p((deviation / mean) ** 2)
        return cls(mean * math.exp(-variance / 2), math.sqrt(variance))

    def draw(self, count: int, random: np.random.Generator) -> Ints:
        found = self._some(count, random)
        while len(wrong := np.flatnonzero((found < self.least) | (found > self.most))):
            found[wrong] = self._some(len(wrong), random)
        return found

    def _some(self, count: int, random: np.random.Generator) -> Ints:
        drawn = random.lognormal(math.log(self.median), self.sigma, count)
        return np.rint(np.minimum(drawn, 2.0 * MAX_TOKENS)).astype(np.int64)


Lengths = Uniform | LogNormal


def drawn_pairs(
    prompts: Lengths, answers: Lengths, most_tokens: int | None, count: int, random: np.random.Generator
) -> tuple[Ints, Ints]:
    """Lengths of prompts and answers; pairs of more than ``most_tokens`` together are drawn again."""
    prompt, answer = prompts.draw(count, random), answers.draw(count, random)
    while most_tokens is not None and len(long := np.flatnonzero(prompt + answer > most_tokens)):
        prompt[long], answer[long] = prompts.draw(len(long), random), answers.draw(len(long), random)
    return prompt, answer


def lengths_of_word(name: str, text: str) -> Lengths:
    """The lengths that a word says. Raises ``WorkloadError`` with ``name``, the value and what is allowed."""
    for form in (_FIXED, _RANGE, _SPREAD):
        if match := form.fullmatch(text.strip()):
            numbers = [_tokens(*pair) for pair in zip(match.groups()[::2], match.groups()[1::2], strict=True)]
            break
    else:
        raise WorkloadError(f"{name} is {text!r}; allowed: {FORMS}")
    if any(number > MAX_TOKENS for number in numbers) or numbers[0] < 1:
        raise WorkloadError(f"{name} is {text!r}; allowed: 1 to {MAX_TOKENS:,} tokens")
    if form is _SPREAD:
        return LogNormal.spread(numbers[0], numbers[1]) if numbers[1] else Uniform(numbers[0], numbers[0])
    if numbers[-1] < numbers[0]:
        raise WorkloadError(f"{name} is {text!r}; allowed: a range from the smaller to the larger number")
    return Uniform(numbers[0], numbers[-1])


def _tokens(number: str, thousands: str) -> int:
    return round(float(number) * (1000 if thousands else 1))
