"""A cache alone with a trace: nothing is computed and no time passes, only hits are counted.

Either block by block as the file has them, which is how cache simulators count, or as an engine would use them.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvsim.policy.admission.base import Admission
from kvsim.policy.eviction.base import Access, Eviction, next_uses
from kvsim.workload.accesses import Accesses


def replay(policy: Eviction, accesses: Accesses, admission: Admission | None = None) -> int:
    """How many of ``accesses`` hit a cache that starts empty; what ``admission`` (default: all) refuses stays outside.

    ``policy`` and ``admission`` must be new. Only what they ask for is filled into :class:`Access`.
    """
    if admission is None and not policy.needs_access:
        return policy.replay(accesses.keys)
    access = Access()
    uses = next_uses(accesses.keys) if policy.is_offline else None
    hits = 0
    for start, stop, access.time_s, access.session_id, access.turn in accesses.prompts():
        access.index, access.blocks = start, stop - start
        keys, future = accesses.keys[start:stop], uses[start:stop] if uses is not None else None
        if admission is None:
            hits += _all_admitted(policy, access, keys, future)
        else:
            hits += _asked(policy, admission, access, keys, future)
    return hits


def replay_engine(policy: Eviction, accesses: Accesses, admission: Admission | None = None) -> int:
    """How many blocks an engine would find, as :func:`found_by_prompt` has them."""
    return sum(found_by_prompt(policy, accesses, admission))


def found_by_prompt(policy: Eviction, accesses: Accesses, admission: Admission | None = None) -> list[int]:
    """How many blocks of each prompt an engine would find, whose prefix cache starts empty and evicts by ``policy``.

    A prompt's blocks are found from its head on, up to the first that is missing: what stands behind it is computed
    again. Found blocks stay while the others come in; all are used from the tail to the head, so that tails go first,
    as vLLM releases them, but for policies that are told of heads first. Blocks are whole ones, and the last token of a
    prompt is no matter here.
    """
    access = Access()
    uses = next_uses(accesses.keys) if policy.is_offline else None
    usable = []
    for start, stop, access.time_s, access.session_id, access.turn in accesses.prompts():
        access.blocks = stop - start
        keys = accesses.keys[start:stop]
        found = _found(policy, admission, access, keys)
        usable.append(found)
        depths = range(len(keys)) if policy.heads_first else (*_down(0, found), *_down(found, len(keys)))
        for place, depth in enumerate(depths):
            access.depth, access.index = depth, start + place
            if uses is not None:
                access.next_use = uses[start + depth]
            key = keys[depth]
            if key in policy:
                policy.hit(key, access)
            elif admission is None or admission.admits(key, access):
                policy.admit(key, access)
        policy.refresh([key for key in reversed(keys) if key in policy])
    return usable


def _down(first: int, end: int) -> range:
    return range(end - 1, first - 1, -1)


def _found(policy: Eviction, admission: Admission | None, access: Access, keys: Sequence[int]) -> int:
    """Blocks from the head on that are there; those that ``admission`` takes for too old leave."""
    for depth, key in enumerate(keys):
        if key not in policy:
            return depth
        access.depth = depth
        if admission is not None and admission.expired(key, access):
            policy.discard(key)
            return depth
    return len(keys)


def _all_admitted(policy: Eviction, access: Access, keys: Sequence[int], future: Sequence[int] | None) -> int:
    """The hits of one prompt; ``access.index`` is that of its first block."""
    hits, first = 0, access.index
    for depth, key in enumerate(keys):
        access.depth = depth
        access.index = first + depth
        if future is not None:
            access.next_use = future[depth]
        if key in policy:
            hits += 1
            policy.hit(key, access)
        else:
            policy.admit(key, access)
    return hits


def _asked(
    policy: Eviction, admission: Admission, access: Access, keys: Sequence[int], future: Sequence[int] | None
) -> int:
    """The hits of one prompt where ``admission`` has a say in what comes in and how long it counts."""
    hits, first = 0, access.index
    for depth, key in enumerate(keys):
        access.depth = depth
        access.index = first + depth
        if future is not None:
            access.next_use = future[depth]
        if key in policy:
            if not admission.expired(key, access):
                hits += 1
                policy.hit(key, access)
                continue
            policy.discard(key)
        if admission.admits(key, access):
            policy.admit(key, access)
    return hits
