"""Stages of a pipeline: which layers each has, as vLLM's ``get_pp_indices`` splits them."""

from __future__ import annotations

MOST_STAGES = 1024
"""More than any model has layers."""


def stage_layers(num_layers: int, stages: int) -> tuple[int, ...]:
    """Layers of each stage. Those that are left over when all have equally many go one each to the last but one, the
    one before it and so on: the last stage has the output projection beside its layers."""
    found = [num_layers // stages] * stages
    for place in range(2, num_layers % stages + 2):
        found[-place] += 1
    return tuple(found)
