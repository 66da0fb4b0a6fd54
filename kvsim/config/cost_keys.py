"""The schema of ``cost``: what a run's GPUs and memory are charged at, and what GPUs draw."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Strict

from kvsim.config.section import Item, Name, NonNegative, Positive, Section


class Power(Section):
    """``cost.power``: what one GPU draws; ``null`` leaves what the known GPU has."""

    idle_w: NonNegative | None
    memory_bound_w: Positive | None
    compute_bound_w: Positive | None


class GpuCost(Item):
    """An item of ``cost.other_gpus``: as ``cost.gpu_usd_per_hour`` and ``cost.power``, of the GPU that it names."""

    gpu: Name
    gpu_usd_per_hour: NonNegative | None = None
    idle_w: NonNegative | None = None
    memory_bound_w: Positive | None = None
    compute_bound_w: Positive | None = None


class Cost(Section):
    """``cost``: money and energy of a run. Nothing of serving depends on it."""

    gpu_usd_per_hour: NonNegative | None
    dram_usd_per_gb_month: NonNegative | None
    ssd_usd_per_gb_month: NonNegative | None
    power: Power
    other_gpus: Annotated[tuple[GpuCost, ...], Field(min_length=1), Strict(False)] | None
