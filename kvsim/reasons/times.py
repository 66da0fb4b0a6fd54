"""When requests were admitted, computed and let go of on the instances that compute prompts, by the table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvsim.reasons.evidence import Evidence
from kvsim.reasons.prefixes import prefilled_at_s
from kvsim.record.result import Table
from kvsim.workload.workload import Floats


@dataclass(frozen=True)
class Times:
    """By request; pairs are bounds, alike where the table tells."""

    from_s: Floats
    """The first step of each request began."""
    computed_s: tuple[Floats, Floats]
    """Each left its seat: the prompt's KV was there, or, where it is answered there, the answer."""
    released_s: tuple[Floats, Floats]
    """The blocks of each were free."""


def sent_s(table: Table, row: int) -> float:
    """When the attempt of a request that was answered came to the instance of its prompt."""
    return float(table["arrival_s"][row] + table["retry_s"][row] + table["proxy_s"][row])


def times_of(evidence: Evidence) -> Times:
    table = evidence.result.table
    # What tiers have of a prompt is loaded before its first step.
    from_s = table["arrival_s"] + table["retry_s"] + table["proxy_s"] + table["queue_s"] + table["tier_load_s"]
    if not evidence.is_pd:
        return Times(from_s, (table["finish_s"], table["finish_s"]), (table["finish_s"], table["finish_s"]))
    separation, computed_s = evidence.plan.config.pd_separation, prefilled_at_s(table)
    never_s = np.full_like(from_s, np.inf)
    if separation.first_token == "prefill":
        sent_s = computed_s + table["transfer_s"]
        is_landed = separation.transfer.decode_start == "last_chunk"
        landed_s = table["first_token_s"]
        return Times(from_s, (computed_s, computed_s), (landed_s, landed_s) if is_landed else (sent_s, never_s))
    # Part of the interference may be the first decode step's, part of the wait for decoding the sending's.
    least_s = computed_s - table["interference_s"]
    return Times(from_s, (least_s, computed_s), (least_s + table["transfer_s"], never_s))
