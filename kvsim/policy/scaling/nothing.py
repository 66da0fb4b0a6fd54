"""No scaling: as many instances as there are at the start."""

from __future__ import annotations

from kvsim.policy.scaling.base import ScalingPolicy, Seen


class Nothing(ScalingPolicy):
    """Leaves the instances of a role alone, while those of another come and go."""

    name = "none"
    is_steadied = False

    def wanted(self, seen: Seen) -> int | None:
        return None
