"""Which instances hold how much of a prefix."""

from __future__ import annotations

from collections.abc import Iterable


class PrefixIndex:
    """chain -> instance -> blocks of the chain computed and still cached there. Chains of one request are not kept."""

    def __init__(self) -> None:
        self._holders: dict[int, dict[int, int]] = {}

    def computed(self, instance: int, path: Iterable[tuple[int, int, int]], blocks: int) -> None:
        """The first ``blocks`` blocks of a sequence with this path are computed on ``instance``."""
        for chain, first, end in path:
            size = min(end, blocks) - first
            if size <= 0:
                return
            if chain < 0:
                continue
            holders = self._holders.get(chain)
            if holders is None:
                self._holders[chain] = {instance: size}
            elif holders.get(instance, 0) < size:
                holders[instance] = size

    def evicted(self, instance: int, chain: int, blocks: int) -> None:
        """Only ``blocks`` blocks of ``chain`` are left on ``instance``."""
        holders = self._holders.get(chain)
        if holders is None or holders.get(instance, 0) <= blocks:
            return
        if blocks:
            holders[instance] = blocks
            return
        del holders[instance]
        if not holders:
            del self._holders[chain]

    def matched(self, instance: int, path: Iterable[tuple[int, int, int]], limit: int) -> int:
        """Blocks of the path's head, at most ``limit``, that ``instance`` holds."""
        total = 0
        for chain, first, end in path:
            holders = self._holders.get(chain)
            found = min(holders.get(instance, 0), min(end, limit) - first) if holders else 0
            if found <= 0:
                break
            total += found
            if found < end - first:
                break
        return total

    def candidates(self, path: tuple[tuple[int, int, int], ...], most: int) -> list[int]:
        """Up to ``most`` holders of the deepest chain of the path that anyone holds, latest first."""
        for chain, _, _ in reversed(path):
            holders = self._holders.get(chain)
            if holders:
                found = []
                for instance in reversed(holders):
                    found.append(instance)
                    if len(found) == most:
                        break
                return found
        return []
