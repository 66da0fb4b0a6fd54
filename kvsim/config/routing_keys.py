"""The schema of ``routing``, with the settings of routers that people deploy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from kvsim.config.section import Count, Name, NonNegative, Section, Share, Whole


class DynamoRouter(Section):
    """``routing.dynamo``: as the flags of NVIDIA Dynamo's KV router."""

    overlap_credit: Share
    prefill_load_scale: NonNegative
    temperature: NonNegative


class LlmdScorers(Section):
    """``routing.llmd``: weights of llm-d's scorers."""

    prefix: NonNegative
    queue: NonNegative
    kv_cache: NonNegative


class SglangRouter(Section):
    """``routing.sglang``: as the flags of SGLang's router."""

    cache_threshold: Share
    balance_abs_threshold: Whole
    balance_rel_threshold: NonNegative


def _cells(given: object) -> object:
    if given is None or given == "rack" or (isinstance(given, int) and not isinstance(given, bool) and given >= 1):
        return given
    raise ValueError("must be null, a whole number of 1 or more, or 'rack'")


Cells = Annotated[Count | Literal["rack"] | None, BeforeValidator(_cells)]


class Routing(Section):
    """``routing``: policy names are checked against the registry where the system is built."""

    prefill: Name
    decode: Name
    load_guard: NonNegative
    candidates: Count
    index_staleness_ms: NonNegative
    lora_affinity: bool
    sees_tiers: bool
    max_in_flight: Count | None
    cells: Cells
    dynamo: DynamoRouter
    llmd: LlmdScorers
    sglang: SglangRouter
