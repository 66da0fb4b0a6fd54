"""Time to recover within the SLO, and requests before, during and after an incident, against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.record.recovery import Came, Windows, phases

NEVER = -math.inf


def came(ttfts_s: list[float], share: float = 0.9, lost_s: dict[int, float] | None = None) -> Came:
    """A request a second, from 0 s on; the limit is 1 s."""
    lost = np.full(len(ttfts_s), NEVER)
    for row, at_s in (lost_s or {}).items():
        lost[row] = at_s
    return Came(np.arange(len(ttfts_s), dtype=float), np.array(ttfts_s), lost, 1.0, share)


GOOD, BAD = [0.5], [3.0]


@pytest.mark.parametrize(
    ("ttfts_s", "begin_s", "end_s", "expected"),
    [
        # Ten a window, of which one may be late: the last window outside begins with the second last late request.
        (GOOD * 20 + BAD * 5 + GOOD * 35, 20.0, 20.0, ("recovered", 4.0)),
        (GOOD * 20 + BAD * 5 + GOOD * 35, 19.5, 30.0, ("recovered", 4.5)),
        (GOOD * 60, 20.0, math.nan, ("never_outside", 0.0)),
        (GOOD * 20 + BAD * 1 + GOOD * 39, 20.0, 25.0, ("never_outside", 0.0)),
        # What began before is counted from its own begin, and what comes long after its end is not counted.
        (BAD * 20 + GOOD * 40, 30.0, 35.0, ("never_outside", 0.0)),
        (GOOD * 20 + BAD * 3 + GOOD * 20 + BAD * 3 + GOOD * 20, 20.0, 25.0, ("recovered", 2.0)),
        # It never ends: the last time outside counts.
        (GOOD * 20 + BAD * 3 + GOOD * 20 + BAD * 3 + GOOD * 20, 20.0, math.nan, ("recovered", 25.0)),
        (GOOD * 20 + BAD * 40, 20.0, 25.0, ("not_by_the_end", None)),
        # Requests without an answer are late.
        (GOOD * 20 + [math.inf] * 5 + GOOD * 35, 20.0, 20.0, ("recovered", 4.0)),
        (GOOD * 60, 51.5, 52.0, ("too_few_requests", None)),
        (GOOD * 5, 0.0, 1.0, ("too_few_requests", None)),
    ],
)
def test_the_time_to_recover_is_that_counted_by_hand(
    ttfts_s: list[float], begin_s: float, end_s: float, expected: tuple[str, float | None]
) -> None:
    requests = came(ttfts_s)
    assert requests.window == 10
    assert Windows(requests).recovery(begin_s, end_s) == expected


def by_hand(requests: Came, begin_s: float, end_s: float) -> tuple[str, float | None]:
    """The same from its definition, window by window."""
    arrival_s, size = requests.arrival_s.tolist(), requests.window
    good = (requests.ttft_s <= requests.limit_s).tolist()
    firsts = range(len(arrival_s) - size + 1)
    kept = [sum(good[first : first + size]) / size >= requests.share - 1e-12 for first in firsts]
    own = [first for first in firsts if arrival_s[first] >= begin_s]
    if not own:
        return "too_few_requests", None
    looked = [first for first in own if math.isnan(end_s) or arrival_s[first] <= end_s] or own[:1]
    outside = [first for first in looked if not kept[first]]
    if not outside:
        return "never_outside", 0.0
    back = [first for first in firsts if first > outside[-1] and kept[first]]
    return ("recovered", arrival_s[back[0]] - begin_s) if back else ("not_by_the_end", None)


@given(
    st.lists(st.tuples(st.floats(0, 3), st.sampled_from([0.5, 0.5, 0.5, 3.0, math.inf])), max_size=60),
    st.floats(0, 60),
    st.one_of(st.floats(0, 60), st.just(math.nan)),
    st.sampled_from([0.5, 0.8, 0.99, 1.0]),
)
def test_windows_are_those_of_the_definition(
    requests: list[tuple[float, float]], begin_s: float, lasts_s: float, share: float
) -> None:
    arrival_s = np.cumsum([gap_s for gap_s, _ in requests])
    found = Came(arrival_s, np.array([ttft for _, ttft in requests]), np.full(len(requests), NEVER), 1.0, share)
    end_s = begin_s + lasts_s
    assert Windows(found).recovery(begin_s, end_s) == by_hand(found, begin_s, end_s)


def test_requests_count_before_during_or_after_once() -> None:
    # Row 18 came before and lost an attempt later; row 5 had lost one before.
    requests = came(GOOD * 20 + BAD * 5 + [math.inf] + GOOD * 34, lost_s={18: 20.5, 5: 7.0, 25: 40.0})
    before, during, after = phases(requests, 20.0, 30.0)
    assert (before.requests, before.within_ttft, before.failed, before.ttft_p99_ms) == (10, 1.0, 0, 500.0)
    assert (during.requests, during.failed, during.within_ttft) == (11, 1, 5 / 11)
    assert during.ttft_p50_ms == pytest.approx(1750.0), "of ten answered, five are late"
    assert (after.requests, after.within_ttft) == (10, 1.0)
    nothing = phases(requests, 20.0, math.inf)[2]
    assert (nothing.requests, nothing.within_ttft, nothing.ttft_p50_ms) == (0, None, None)
