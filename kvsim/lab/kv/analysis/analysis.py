"""All that follows from the rows of a design, typed; reports, pages and comparisons are readers of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from kvsim.errors import ConfigError
from kvsim.lab.kv.analysis.claims import KEY, effect_claim, growth_claim, order_claim
from kvsim.lab.kv.analysis.growth import BatchRow, Growth, batch_rows, growth
from kvsim.lab.kv.analysis.hits import HitCheck, hit_checks
from kvsim.lab.kv.analysis.memory import Bound, Capacity, CurvePoint, bounds, capacity, memory_curve
from kvsim.lab.kv.analysis.metrics import Rows
from kvsim.lab.kv.analysis.paired import Effect, paired
from kvsim.lab.kv.analysis.stability import OrderEffect, Stability, order_effects, stability
from kvsim.lab.kv.analysis.summary import Percentiles, SummaryRow, percentiles, summary
from kvsim.lab.kv.analysis.table_claims import (
    batch_claims,
    bound_claims,
    capacity_claims,
    completion_claims,
    curve_claims,
    hit_claims,
    hit_conclusion,
    stability_claims,
)
from kvsim.lab.kv.design import Design
from kvsim.lab.kv.trial import Trials

HEADLINE = "ttft_mean_ms"
"""The metric that the terminal tells of each point where there are several."""


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """Figures by what they are of."""

    design: Design
    rows: Rows
    summary: list[SummaryRow]
    effects: list[Effect]
    order: list[OrderEffect]
    """Empty unless the design alternates."""
    growth: list[Growth]
    stability: list[Stability]
    hits: list[HitCheck]
    capacity: list[Capacity]
    memory_curve: list[CurvePoint]
    bounds: list[Bound]
    batch: list[BatchRow]
    percentiles: list[Percentiles]

    def intervals(self) -> Iterator[str]:
        """A sentence for every difference."""
        confidence = self.design.confidence
        yield from (effect_claim(each, confidence) for each in self.effects)
        yield from (order_claim(each, confidence) for each in self.order)
        yield from (growth_claim(each, confidence) for each in self.growth)

    def key_results(self) -> Iterator[str]:
        """Sentences that answer the design's question, and what else is to be known of the run."""
        yield from self._answers(KEY)
        yield from self._tables()
        yield from hit_claims(self.hits)
        yield from capacity_claims(self.capacity)
        yield from stability_claims(self.stability, self.design.confidence)

    def conclusion(self) -> Iterator[str]:
        """Key results in short: where there are several points, of one metric each."""
        several = len(self.rows.points) > 1
        yield from self._answers((HEADLINE,) if several else KEY)
        yield from self._tables()
        yield from hit_conclusion(self.hits)
        if not several:
            yield from stability_claims(self.stability, self.design.confidence)

    def _answers(self, metrics: tuple[str, ...]) -> Iterator[str]:
        confidence = self.design.confidence
        yield from completion_claims(self.summary)
        yield from (effect_claim(each, confidence) for each in self.effects if each.metric in metrics)
        yield from (growth_claim(each, confidence) for each in self.growth if each.metric in metrics)
        if self.order:
            yield from (order_claim(each, confidence) for each in self.order if each.metric == HEADLINE)
        elif self.effects:
            yield (
                "whether it matters which phase came first cannot be told: "
                f"order is {self.design.order}, 'alternate' is wanted"
            )

    def _tables(self) -> Iterator[str]:
        yield from bound_claims(self.bounds)
        yield from curve_claims(self.memory_curve)
        yield from batch_claims(self.batch)


def analyse(found: Trials) -> Analysis:
    """Raises ``ConfigError`` for rows whose design is none of this version's, or which are none."""
    design = design_of(found)
    if not found.phases:
        raise ConfigError(f"{found.name}: has no rows of phases; nothing follows from it")
    rows = Rows(found)
    confidence, compare = design.confidence, design.compare
    return Analysis(
        design=design,
        rows=rows,
        summary=summary(rows, confidence),
        effects=paired(rows, confidence, compare),
        order=order_effects(rows, confidence, compare) if design.order == "alternate" else [],
        growth=growth(rows, confidence, compare),
        stability=stability(rows),
        hits=hit_checks(rows),
        capacity=capacity(rows),
        memory_curve=memory_curve(rows, list(design.vary)),
        bounds=bounds(rows, None if design.search is None else design.search.key),
        batch=batch_rows(rows, list(design.vary)),
        percentiles=percentiles(rows),
    )


def design_of(found: Trials) -> Design:
    """The design that rows were made by. Raises ``ConfigError`` where it is none of this version's."""
    try:
        return Design.model_validate(dict(found.design))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "design"
        raise ConfigError(f"{found.name}: the rows' design: {key}: {first['msg']}") from None
