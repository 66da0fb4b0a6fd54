"""What the studies of a run take: how large, how often, how sure."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Strict

from kvsim.config.section import Count, Counts, Name, NonNegative, Positive, PositiveShare, Section, Share


class Limits(Section):
    """``limits``: what one simulation may take; what would take more is refused before it starts."""

    cpu_s: Positive


class Studies(Section):
    """``studies``: runs on a sample of the cluster that answer one question each."""

    instances: Annotated[int, Field(ge=2)]
    replications: Annotated[int, Field(ge=2)]
    most_replications: Annotated[int, Field(ge=2)]
    budget_requests: Count
    tier_budget_requests: Count
    max_requests: Count
    fewest_requests: Count
    confidence: Annotated[float, Field(gt=0, lt=1)]
    precision: PositiveShare
    tie_share: Share
    context_tokens: Counts
    context_output_tokens: Count
    capacity_shares: Annotated[tuple[PositiveShare, ...], Field(min_length=1), Strict(False)]
    evictions: Annotated[tuple[Name, ...], Strict(False)]
    eic_gb_per_rack: Annotated[tuple[NonNegative, ...], Field(min_length=1), Strict(False)]
