"""A user's own admission policy, held to what :class:`Admission` promises."""

from __future__ import annotations

import numpy as np

from kvsim.policy.admission.base import Admission, AdmissionSettings
from kvsim.policy.checked_policy import Guard, shown
from kvsim.policy.eviction.base import Access


class CheckedAdmission(Admission):
    """Raises ``ConfigError`` when the policy raises something or answers neither yes nor no."""

    name = "own"

    def __init__(self, found: type[Admission], name: str, settings: AdmissionSettings) -> None:
        super().__init__(settings)
        self._guard = Guard("admission", name)
        self._policy = self._guard.call("__init__", found, settings)

    def admits(self, key: int, access: Access) -> bool:
        return self._yes("admits", self._guard.call("admits", self._policy.admits, key, access))

    def expired(self, key: int, access: Access) -> bool:
        return self._yes("expired", self._guard.call("expired", self._policy.expired, key, access))

    def _yes(self, method: str, answer: object) -> bool:
        if isinstance(answer, bool | np.bool_):
            return bool(answer)
        raise self._guard.error(f"{method} returned {shown(answer)}; allowed: True, False")
