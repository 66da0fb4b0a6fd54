"""What fails alone costs itself: notes of why, and what goes on regardless."""

from __future__ import annotations

import pytest

from kvsim.errors import ConfigError
from kvsim.failures import Failures


def test_what_is_made_is_returned() -> None:
    failures = Failures()
    assert failures.attempt("a part", lambda: 3) == 3
    assert not failures.found and not failures.has_defects


def test_bad_input_is_no_defect() -> None:
    def refuses() -> int:
        raise ConfigError("no such policy")

    failures = Failures()
    assert failures.attempt("study capacity", refuses) is None
    assert failures.found[0].sentence() == "study capacity failed: no such policy"
    assert not failures.has_defects and not failures.found[0].trace
    with pytest.raises(ConfigError, match="no such policy"):
        failures.reraise()


def test_a_defect_is_named_with_its_trace() -> None:
    failures = Failures()
    assert failures.attempt("pd", lambda: [][0]) is None
    assert failures.found[0].sentence() == "pd failed, a defect of kvsim: IndexError: list index out of range"
    assert failures.has_defects and "list index out of range" in failures.found[0].trace


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_an_interrupt_and_a_closed_pipe_go_on(error: type[BaseException]) -> None:
    def ends() -> None:
        raise error

    with pytest.raises(error):
        Failures().attempt("a part", ends)
