"""Steps of the instances of one kind, which count among those of their side, too."""

from __future__ import annotations

from kvsim.sim.log.steps import Floats, StepLog


class PoolStepLog(StepLog):
    """A ``StepLog`` whose spans are told to another one as well."""

    def __init__(self, whole: StepLog) -> None:
        super().__init__()
        self._whole = whole

    def fold(self, rows: Floats) -> None:
        """Count spans here and in the whole."""
        super().fold(rows)
        self._whole.fold(rows)
