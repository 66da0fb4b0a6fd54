"""Recommendations on several kinds of GPUs, each kind answered for itself, beside one another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kvsim.errors import ConfigError, KvsimError
from kvsim.recommend.answer import Recommendation
from kvsim.recommend.question import Question
from kvsim.recommend.recommending import recommend
from kvsim.record.labels import counted, number, percent
from kvsim.sim.executor import Executor
from kvsim.spec import find_gpu


@dataclass(frozen=True)
class OfKind:
    """What is best on one kind of GPUs, or why nothing is."""

    gpu: str
    found: Recommendation | None
    why_not: str | None
    price_per_h: float | None
    """What one GPU costs, in any currency."""

    @property
    def cost_per_h(self) -> float | None:
        """What the first deployment costs."""
        if self.found is None or self.price_per_h is None:
            return None
        return self.found.best[0].gpus * self.price_per_h

    def as_json(self) -> dict[str, Any]:
        """The kind, its answer and what it costs an hour."""
        answer = None if self.found is None else self.found.as_json()
        return {"gpu": self.gpu, "cost_per_h": self.cost_per_h, "why_not": self.why_not, "answer": answer}


def kinds_of(names: Sequence[str], prices_per_h: Mapping[str, float]) -> dict[str, float | None]:
    """Catalogue names of the kinds, and what one GPU of each costs an hour. Raises ``ConfigError``."""
    kinds = [str(find_gpu(name).name) for name in names]
    for name in kinds:
        if kinds.count(name) > 1:
            raise ConfigError(f"--gpu names {name} twice; give it once")
    prices = {str(find_gpu(name).name): price for name, price in prices_per_h.items()}
    for name in prices:
        if name not in kinds:
            raise ConfigError(f"--price has {name}, which --gpu has not; there are: {', '.join(kinds)}")
    if prices and len(prices) < len(kinds):
        lacking = ", ".join(name for name in kinds if name not in prices)
        raise ConfigError(f"--price: {lacking} has none; give one of each kind, or of none")
    return {name: prices.get(name) for name in kinds}


def of_kinds(question: Question, kinds: Mapping[str, float | None], executor: Executor) -> tuple[OfKind, ...]:
    """The answer of each kind, the best first: the cheapest where there are prices, else by what is asked for.

    A kind on which nothing fits has the reason, and stands last; where none has an answer, the first one's error is
    raised.
    """
    found, errors = [], []
    for gpu, price_per_h in kinds.items():
        try:
            priced = () if price_per_h is None else (f"cost.gpu_usd_per_hour={price_per_h!r}",)
            asked = replace(question, gpu=gpu, sets=(*question.sets, *priced))
            found.append(OfKind(gpu, recommend(asked, executor), None, price_per_h))
        except KvsimError as error:
            errors.append(error)
            found.append(OfKind(gpu, None, str(error), price_per_h))
    if len(errors) == len(found):
        raise errors[0]
    return tuple(sorted(found, key=lambda one: _order(one, question.goal)))


def _order(one: OfKind, goal: str) -> tuple[float, ...]:
    if one.found is None:
        return (2.0,)
    first, keeps = one.found.best[0], 0.0 if one.found.keeps else 1.0
    rate_per_s = one.found.max_rate.requests_per_s if one.found.max_rate is not None else 0.0
    cost = float(first.gpus) if one.cost_per_h is None else one.cost_per_h
    if goal == "rate":
        return keeps, -rate_per_s if one.cost_per_h is None else -rate_per_s / cost
    if goal == "latency":
        return keeps, first.slo_use.mean
    return keeps, cost, first.slo_use.mean


def kinds_in_words(answers: Sequence[OfKind]) -> str:
    """Each kind's deployment beside the others'; no claim that GPUs of two kinds are alike."""
    said = []
    for one in answers:
        if one.found is None:
            said.append(f"{one.gpu}: {one.why_not}")
            continue
        first = one.found.best[0]
        parts = [f"{first.structure} on {counted(first.gpus, 'GPU')}", f"{percent(first.slo_use.mean)} of the limits"]
        if one.cost_per_h is not None:
            parts.append(f"{number(one.cost_per_h)} an hour")
        known = one.found.max_rate
        if known is not None and math.isfinite(known.requests_per_s) and known.requests_per_s > 0:
            parts.append(f"up to {number(known.requests_per_s)} requests/s")
        if not one.found.keeps:
            parts.append("the SLO is missed")
        said.append(f"{one.gpu}: {', '.join(parts)}")
    return f"{'; '.join(said)}."
