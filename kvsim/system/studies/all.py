"""Which studies there are, and running those that are wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kvsim.config.comparison import Comparison
from kvsim.system.studies.bed import Bed
from kvsim.system.studies.budget import unified_budget_study
from kvsim.system.studies.compare import compare_study
from kvsim.system.studies.context import context_study
from kvsim.system.studies.pd_ratio import pd_ratio_study
from kvsim.system.studies.transfer import transfer_study

STUDIES: Mapping[str, Callable[[Bed], dict[str, Any]]] = {
    "pd_ratio": pd_ratio_study,
    "transfer": transfer_study,
    "unified_budget": unified_budget_study,
    "context": context_study,
}


def run_studies(bed: Bed, names: Sequence[str], comparisons: Sequence[Comparison] = ()) -> tuple[dict[str, Any], bool]:
    """The report's ``studies``, and whether an interrupt cut them short."""
    found: dict[str, Any] = {}
    try:
        if comparisons:
            found["compare"] = compare_study(bed, comparisons)
        for name in names:
            found[name] = STUDIES[name](bed)
    except KeyboardInterrupt:
        return found, True
    return found, False
