"""Selective write: only the head of each prompt enters, which is what prompts have in common."""

from __future__ import annotations

from kvsim.errors import ConfigError
from kvsim.policy.admission.base import Admission, AdmissionSettings
from kvsim.policy.eviction.base import Access


class SelectiveWrite(Admission):
    """Blocks at a depth below ``depth_threshold``. It saves the writes of deep blocks, at the price of their hits."""

    name = "selective_write"

    def __init__(self, settings: AdmissionSettings) -> None:
        super().__init__(settings)
        if settings.depth_threshold < 0:
            raise ConfigError(f"selective_write: a depth threshold of {settings.depth_threshold}; allowed: 0 or more")
        self._threshold = settings.depth_threshold

    def admits(self, key: int, access: Access) -> bool:
        return access.depth < self._threshold
