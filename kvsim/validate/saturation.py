"""Whether a load is more than was served: then waiting has no limit but the length of the run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kvsim.validate.clients.traffic import Traffic

_ANSWERED = 0.95
"""Share of the rate that is sent: a little less is answered in every run, which ends with its last answer."""
_WAITS = 0.05
"""Mean TTFT over the time of sending: half of what the last requests wait longer than the first."""
_ALONE = 3.0
"""Mean TTFT over that of a lone request: what it must be beyond for waiting to have grown at all."""
_LONGER = 1.1
"""The run over the time of sending and one answer."""


@dataclass(frozen=True)
class Answered:
    """One side of a comparison."""

    completed: int
    requests_per_s: float
    ttft_mean_s: float | None
    e2e_mean_s: float | None


@dataclass(frozen=True)
class Saturation:
    """What was sent at a rate, and whether the rate was beyond what was served."""

    rate_per_s: float
    measured_per_s: float
    predicted_per_s: float
    measured: bool
    predicted: bool

    @property
    def sentence(self) -> str | None:
        """``None``: on neither side."""
        if not (self.measured or self.predicted):
            return None
        rates = (
            f"{self.rate_per_s:.3g} requests/s are sent, {self.measured_per_s:.3g} were answered and "
            f"{self.predicted_per_s:.3g} are predicted"
        )
        grows = "waiting grows with the length of the run"
        if self.measured and self.predicted:
            return f"beyond saturation, as measured and as predicted: {rates}; {grows}"
        side, other = ("measured", "predicted") if self.measured else ("predicted", "measured")
        return (
            f"beyond saturation as {side}, not as {other}: {rates}; {grows}, so that errors of TTFT and E2E mean little"
        )


def saturation_of(traffic: Traffic, alone_s: float, measured: Answered, predicted: Answered) -> Saturation | None:
    """``alone_s``: TTFT of a lone request. ``None`` for a closed loop, and where everything is sent at once."""
    rate_per_s = traffic.rate_per_s
    if not math.isfinite(rate_per_s) or traffic.requests < 2:
        return None
    return Saturation(
        rate_per_s=rate_per_s,
        measured_per_s=measured.requests_per_s,
        predicted_per_s=predicted.requests_per_s,
        measured=_is_saturated(traffic, alone_s, measured),
        predicted=_is_saturated(traffic, alone_s, predicted),
    )


def _is_saturated(traffic: Traffic, alone_s: float, found: Answered) -> bool:
    sending_s = traffic.requests / traffic.rate_per_s
    if not found.requests_per_s or found.requests_per_s >= _ANSWERED * traffic.rate_per_s:
        return False
    ttft_s, e2e_s = found.ttft_mean_s, found.e2e_mean_s
    waits = ttft_s is not None and ttft_s >= _WAITS * sending_s and ttft_s >= _ALONE * alone_s
    run_s = found.completed / found.requests_per_s
    return waits or (e2e_s is not None and run_s > _LONGER * (sending_s + e2e_s) and e2e_s < sending_s)
