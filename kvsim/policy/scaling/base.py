"""What a scaling policy is: how many instances of a role there are to be, decided at every look."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class ScalingSettings:
    """What scaling policies may be told of the role that they decide on; each takes what it needs."""

    role: str
    """``colocated``, ``prefill`` or ``decode``."""
    metric: str
    """What reactive policies look at: a field of ``Seen`` without its unit."""
    target: float
    """What one instance is to have of it; a TTFT in seconds."""
    tolerance: float
    """Relative distance from the target at which nothing is done."""
    target_load: float
    """Share of an instance's rate that predictive policies use."""
    instance_requests_per_s: float
    """What one instance can serve."""
    interval_s: float
    """Between two looks."""
    cold_start_s: float
    """From the decision until a new instance serves."""
    horizon_s: float
    """How far ahead a forecast looks."""
    forecast: str
    level_smoothing: float
    trend_smoothing: float
    noise_cv: float
    schedule: tuple[tuple[float, int], ...]
    """Times and instances from each of them on, the earliest first."""
    rate_ahead: Callable[[float, float], float]
    """The highest rate of arrivals between two times, in requests/s over an interval: what really is to come."""
    load_ahead: Callable[[float, float], float]
    """Instances that are busy all the time with what really is to come between two times: the most of any interval."""
    random: np.random.Generator


@dataclass(frozen=True)
class Seen:
    """What there is of one role at a look. Figures of all instances that serve are summed up, not averaged."""

    now_s: float
    serving: int
    """Instances that take requests."""
    coming: int
    """Instances that do not serve yet, or again."""
    minimum: int
    maximum: int
    queue: float
    """Requests that wait for an instance, or on one."""
    utilisation: float
    """Requests over the seats of an instance; of prefill instances prompt tokens over those of a step."""
    kv: float
    """Share of the KV blocks that requests held since the last look."""
    ttft_s: float
    """The mean of those who got their first token since the last look; nan: nobody did."""
    requests_per_s: float
    """Arrivals since the last look."""

    @property
    def current(self) -> int:
        """Instances that serve or come."""
        return self.serving + self.coming


class ScalingPolicy(ABC):
    """Asked at every look; knows nothing of SimPy. What it wants is brought between the least and the most instances
    that there may be.
    """

    name: ClassVar[str]
    is_steadied: ClassVar[bool] = True
    """Whether the stabilisation window, cool-downs and largest steps hold for what it wants."""

    def __init__(self, settings: ScalingSettings) -> None:
        """Raises ``ConfigError`` for a setting that it needs and cannot use."""
        self.settings = settings

    def first(self) -> int | None:
        """Instances at the start; ``None``: it does not know."""
        return None

    @abstractmethod
    def wanted(self, seen: Seen) -> int | None:
        """Instances that there are to be, those that come counted; ``None``: as many as there are."""
