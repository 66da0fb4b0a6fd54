"""Room for answers as sums, against the requests one by one."""

from __future__ import annotations

from random import Random

from builders import Row, workload
from hypothesis import given
from hypothesis import strategies as st

from kvsim.node.margin import AnswerMargin
from kvsim.node.sequence import Journey, Sequence, block_path


def sequence() -> Sequence:
    request = next(iter(workload([Row(0.0, 4, 9)])))
    return Sequence(Journey(request, block_path(request, 4), 9), 4, 9)


@given(st.randoms(use_true_random=False), st.integers(0, 8))
def test_what_is_kept_shrinks_with_every_token(rng: Random, tokens: int) -> None:
    margin = AnswerMargin(tokens)
    pending, step = 0, 0
    started: dict[Sequence, int] = {}
    for _ in range(40):
        verb = rng.choice(["reserve", "start", "leave", "step", "step"])
        if verb == "reserve":
            margin.reserve()
            pending += 1
        elif verb == "start" and pending:
            pending -= 1
            fresh = sequence()
            started[fresh] = step
            margin.start(fresh, step)
        elif verb == "leave" and started:
            gone = rng.choice(list(started))
            del started[gone]
            margin.leave(gone)
        else:
            step += 1
        kept = sum(max(0, tokens - (step - begun)) for begun in started.values())
        assert margin.outstanding_tokens(step) == pending * tokens + kept
