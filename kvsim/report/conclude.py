"""The one sentence of a report."""

from __future__ import annotations

from kvsim.report.conclusion import conclude_systems
from kvsim.report.prediction import conclude_prediction
from kvsim.report.sections import Sections
from kvsim.report.tier_conclusion import conclude_tiers


def conclude(report: Sections) -> str:
    """Which system is better, or which policy or memory, under which condition and why; with its own reservations."""
    if report.run.mode == "predict":
        return conclude_prediction(report)
    return conclude_systems(report) if report.run.mode == "pd" else conclude_tiers(report)
