"""Requests in the order in which they came, around what happens to a cluster: when the SLO's TTFT is kept again.

A window is ``Came.window`` requests that came one after the other. It is within the SLO where at least ``share`` of
them have their first token within the limit; a request that was given up, or had nobody left to serve it, is not.
Requests that fit no instance, which no fleet would serve, are left out; those of the warm-up count as all others do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kvsim.record.fleet_figures import Around, Recovery
from kvsim.record.percentiles import Floats, percentiles
from kvsim.record.plain import known
from kvsim.record.result import SystemResult
from kvsim.record.summary import ttft_s

WINDOW, FEWEST, TENTH = 100, 10, 10
"""Requests of a window: so many, or a tenth of all where that is less, and ten at least."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Came:
    """Requests by their arrival."""

    arrival_s: Floats
    ttft_s: Floats
    """Infinite where a request has no answer."""
    lost_s: Floats
    """When its last attempt was over that came to nothing; before all time where none did."""
    limit_s: float
    share: float
    """What an SLO asks: TTFTs up to ``limit_s`` for at least so large a share of requests."""

    @property
    def window(self) -> int:
        return min(WINDOW, max(FEWEST, len(self.arrival_s) // TENTH))


def came(result: SystemResult, limit_s: float, share: float) -> Came:
    """The requests of a run, those that its fleet lost among them."""
    table, fleet = result.table, result.fleet
    arrival_s, ttfts_s = table["arrival_s"], ttft_s(table)
    lost_s = np.where(table["retry_s"] > 0, arrival_s + table["retry_s"], -math.inf)
    if fleet is not None:
        arrival_s = np.append(arrival_s, fleet.failed_arrival_s)
        ttfts_s = np.append(ttfts_s, np.full(len(fleet.failed_arrival_s), math.inf))
        lost_s = np.append(lost_s, fleet.failed_s)
    order = np.argsort(arrival_s, kind="stable")
    return Came(arrival_s[order], ttfts_s[order], lost_s[order], limit_s, share)


class Windows:
    """All windows of the requests that came, and from each the next one within the SLO."""

    def __init__(self, requests: Came) -> None:
        self.requests = requests
        good = np.cumsum(np.append(0, requests.ttft_s <= requests.limit_s))
        size = requests.window
        inside = good[size:] - good[:-size] if len(good) > size else np.zeros(0, dtype=np.int64)
        kept = inside >= requests.share * size - _ROUNDING
        places = np.arange(len(kept))
        self.kept: npt.NDArray[np.bool_] = kept
        """By the place of a window's first request."""
        self._last_out = np.maximum.accumulate(np.where(kept, -1, places)) if len(kept) else places
        self._next_kept = np.minimum.accumulate(np.where(kept, places, len(kept))[::-1])[::-1] if len(kept) else places

    def recovery(self, begin_s: float, end_s: float) -> tuple[Recovery, float | None]:
        """How requests fared from ``begin_s`` on, and how many seconds later they were within the SLO for good.

        Of the windows whose first request came from ``begin_s`` to ``end_s`` (nan: to the end of the run; one at least)
        the last is sought that is outside the SLO: it has recovered with the first request of the next window that is
        within it. 0 where all of them are within; ``None`` where no such window follows, or no window is left.
        """
        arrival_s = self.requests.arrival_s
        first = int(np.searchsorted(arrival_s, begin_s, side="left"))
        if first >= len(self.kept):
            return "too_few_requests", None
        until_s = math.inf if math.isnan(end_s) else end_s
        last = min(max(first, int(np.searchsorted(arrival_s, until_s, side="right")) - 1), len(self.kept) - 1)
        out = int(self._last_out[last])
        if out < first:
            return "never_outside", 0.0
        back = int(self._next_kept[out])
        if back >= len(self.kept):
            return "not_by_the_end", None
        return "recovered", float(arrival_s[back]) - begin_s


def phases(requests: Came, begin_s: float, until_s: float) -> tuple[Around, Around, Around]:
    """TTFT before, during and after what lasted from ``begin_s`` to ``until_s``.

    Before are the requests of a window that came last and lost nothing to it, after those of a window from ``until_s``
    on; during all that came between, and those that had come before and lost an attempt later.
    """
    arrival_s, lost_s, size = requests.arrival_s, requests.lost_s, requests.window
    earlier, is_hit = arrival_s < begin_s, lost_s >= begin_s
    during = ((arrival_s >= begin_s) & (arrival_s < until_s)) | (earlier & is_hit)
    before = np.flatnonzero(earlier & ~is_hit)[-size:]
    after = np.flatnonzero(arrival_s >= until_s)[:size]
    return _around(requests, before), _around(requests, np.flatnonzero(during)), _around(requests, after)


def _around(requests: Came, rows: npt.NDArray[np.int64]) -> Around:
    ttfts_s = requests.ttft_s[rows]
    answered = ttfts_s[np.isfinite(ttfts_s)]
    p50_s, p99_s = percentiles(answered, (50.0, 99.0)).tolist()
    return Around(
        requests=len(rows),
        failed=len(rows) - len(answered),
        within_ttft=float((ttfts_s <= requests.limit_s).mean()) if len(rows) else None,
        ttft_p50_ms=known(p50_s * 1e3),
        ttft_p99_ms=known(p99_s * 1e3),
    )
