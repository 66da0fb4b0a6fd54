"""Why plain accesses to the blocks of a trace and an engine's prompts hit differently."""

from __future__ import annotations

from kvsim.policy.eviction.base import Access, Eviction, next_uses
from kvsim.reasons.reason import Reason
from kvsim.workload.accesses import Accesses


def missing_head(name: str, policy: Eviction, accesses: Accesses) -> Reason | None:
    """Hits that stand behind a missing block of their prompt, of all hits of a new ``policy``."""
    hits, behind = _hits(policy, accesses)
    if not behind:
        return None
    said = (
        f"{name} with {policy.capacity_blocks:,} blocks: {behind:,} of {hits:,} accesses that hit stand behind a "
        "missing block of their prompt, and an engine computes them again."
    )
    figures = {"hits": hits, "hits_behind_missing": behind, "capacity_blocks": policy.capacity_blocks}
    return Reason(about="hit_rate", rule="missing_head", sentence=said, figures=figures, weight=behind / hits)


def tails_first(name: str, policy: Eviction, accesses_rate: float, engine_rate: float) -> Reason | None:
    """An engine, which frees a prompt from its tail on, hits more than accesses in the order of the file."""
    if engine_rate <= accesses_rate or policy.heads_first:
        return None
    said = (
        f"{name} with {policy.capacity_blocks:,} blocks: an engine uses the blocks of a prompt from its tail to its "
        f"head and hits {engine_rate:.4f}; in the order of the file, head to tail, {accesses_rate:.4f} hit."
    )
    figures = {"engine_rate": engine_rate, "accesses_rate": accesses_rate, "capacity_blocks": policy.capacity_blocks}
    weight = engine_rate - accesses_rate
    return Reason(about="hit_rate", rule="tails_first", sentence=said, figures=figures, weight=weight)


def _hits(policy: Eviction, accesses: Accesses) -> tuple[int, int]:
    """Hits block by block, and those of them behind a block of the same prompt that missed."""
    access = Access()
    uses = next_uses(accesses.keys) if policy.is_offline else None
    hits = behind = 0
    for start, stop, access.time_s, access.session_id, access.turn in accesses.prompts():
        access.blocks = stop - start
        is_broken = False
        for depth, key in enumerate(accesses.keys[start:stop]):
            access.depth, access.index = depth, start + depth
            if uses is not None:
                access.next_use = uses[start + depth]
            if key in policy:
                hits += 1
                behind += is_broken
                policy.hit(key, access)
            else:
                is_broken = True
                policy.admit(key, access)
    return hits, behind
