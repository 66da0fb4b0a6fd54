"""What the studies of a run take: how large, how often, how sure."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kvsim.config.section import Count, Counts, PositiveShare, Section


class Studies(Section):
    """``studies``: runs on a sample of the cluster that answer one question each."""

    instances: Annotated[int, Field(ge=2)]
    replications: Annotated[int, Field(ge=2)]
    max_requests: Count
    confidence: PositiveShare
    context_tokens: Counts
    context_output_tokens: Count
