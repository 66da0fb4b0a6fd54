"""Decode reservations as sums, against the requests one by one."""

from __future__ import annotations

from random import Random

from builders import Row, workload
from hypothesis import given
from hypothesis import strategies as st

from kvsim.sim.engine.decode_reservation import DecodeReservation
from kvsim.sim.engine.sequence import RequestState, Sequence, block_path


def sequence() -> Sequence:
    request = next(iter(workload([Row(0.0, 4, 9)])))
    return Sequence(RequestState(request, block_path(request, 4), 9), 4, 9)


@given(st.randoms(use_true_random=False), st.integers(0, 8))
def test_what_is_kept_shrinks_with_every_token(rng: Random, tokens: int) -> None:
    reservation = DecodeReservation(tokens)
    pending, step = 0, 0
    started: dict[Sequence, int] = {}
    for _ in range(40):
        verb = rng.choice(["reserve", "start", "leave", "step", "step"])
        if verb == "reserve":
            reservation.reserve()
            pending += 1
        elif verb == "start" and pending:
            pending -= 1
            fresh = sequence()
            started[fresh] = step
            reservation.start(fresh, step)
        elif verb == "leave" and started:
            gone = rng.choice(list(started))
            del started[gone]
            reservation.leave(gone)
        else:
            step += 1
        kept = sum(max(0, tokens - (step - begun)) for begun in started.values())
        assert reservation.outstanding_tokens(step) == pending * tokens + kept
