"""What all answers of studies have: where they ran, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvsim.record.plain import spliced
from kvsim.study.context import Size
from kvsim.study.replication import Runs


@dataclass(frozen=True, kw_only=True)
class StudyAnswer:
    """A section of a report's ``studies``: its JSON is a dump of its fields, those of ``size`` and ``runs`` first."""

    size: Size = field(metadata=spliced())
    runs: Runs = field(metadata=spliced())


@dataclass(frozen=True, kw_only=True)
class DrivenAnswer(StudyAnswer):
    """An answer of runs that were offered what the run above was, on as many instances as they have."""

    requests: int
    """The mean of a run."""
    requests_per_s: float
    loads: Mapping[str, float]
    """By system: what share of its maximum rate it was offered in these runs as configured."""
