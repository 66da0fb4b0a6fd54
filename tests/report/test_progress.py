import io

import pytest

from kvsim.report import progress
from kvsim.report.progress import Progress, TerminalProgress, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("quiet, stream", [(False, io.StringIO()), (True, Terminal())])
def test_silent_without_a_terminal_or_when_quiet(quiet, stream):
    with progress_bar("PD", 100, quiet=quiet, stream=stream) as bar:
        assert type(bar) is Progress
        bar.update(50, 1.0)
    assert stream.getvalue() == ""


def test_stderr_is_the_default(capsys):
    with progress_bar("PD", 100, quiet=False) as bar:
        bar.update(50, 1.0)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_the_state_and_the_end(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with progress_bar("PD", 4000, quiet=False, stream=stream) as bar:
        assert isinstance(bar, TerminalProgress)
        bar.update(1000, 12.5)
        bar.update(4000, 40.0)
    text = stream.getvalue()
    assert "1000/4000" in text and "simulated 12.5 s" in text and "requests/s" in text and "ETA" in text
    assert "4000/4000" in text and "simulated 40.0 s" in text


def test_it_draws_at_most_five_times_a_second(monkeypatch):
    clock_s = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock_s[0])
    drawn = []
    monkeypatch.setattr(TerminalProgress, "_draw", lambda self: drawn.append(clock_s[0]))
    with progress_bar("PD", 1000, quiet=False, stream=Terminal()) as bar:
        for tick in range(100):
            clock_s[0] = tick * 0.01
            bar.update(tick, tick)
    assert len(drawn) == 6


def test_an_interrupt_gives_the_line_back():
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), progress_bar("PD", 1000, quiet=False, stream=stream) as bar:
        bar.update(10, 1.0)
        raise KeyboardInterrupt
    assert "10/1000" in stream.getvalue()
