"""What tiers of runs side by side did, added up."""

from __future__ import annotations

from collections.abc import Sequence

from kvsim.record.result import TierUse
from kvsim.sim.ended import Ended


def merged_tiers(parts: Sequence[Ended], end_s: float) -> tuple[TierUse, ...]:
    """By tier; shares of time are of that of the longest, which ends at ``end_s``."""
    return tuple(_merged(parts, number, end_s) for number in range(len(parts[0].cache.tiers)))


def _merged(parts: Sequence[Ended], number: int, end_s: float) -> TierUse:
    uses = [part.cache.tiers[number] for part in parts]
    counts = [part.tier_transfers[number] for part in parts]
    transfers = sum(counts)
    waited_s = sum(use.mean_wait_s * count for use, count in zip(uses, counts, strict=True))
    busy_s = max(use.busiest_share * part.end_s for use, part in zip(uses, parts, strict=True))
    return TierUse(
        name=uses[0].name,
        tiers=sum(use.tiers for use in uses),
        capacity_bytes=sum(use.capacity_bytes for use in uses),
        held_bytes=sum(use.held_bytes for use in uses),
        loaded_tokens=sum(use.loaded_tokens for use in uses),
        stored_chunks=sum(use.stored_chunks for use in uses),
        evicted_chunks=sum(use.evicted_chunks for use in uses),
        refused_chunks=sum(use.refused_chunks for use in uses),
        dropped_chunks=sum(use.dropped_chunks for use in uses),
        read_bytes=sum(use.read_bytes for use in uses),
        written_bytes=sum(use.written_bytes for use in uses),
        busiest_share=busy_s / end_s if end_s > 0 else 0.0,
        mean_wait_s=waited_s / transfers if transfers else 0.0,
    )
