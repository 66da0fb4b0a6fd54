"""The frame around every command: exit codes, and one line on stderr for whatever a person got wrong."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kvsim.cli.saying import BAD_INPUT, DONE, OTHER, one_line
from kvsim.errors import KvsimError
from kvsim.report.atomic import give_up, reaching_stdout

_INTERRUPTED = 130
"""What the command-line library returns after a Ctrl-C that no command handled."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on ``argv``, the process's own arguments unless given; returns the exit code.

    Bad input is answered by one line on stderr. What is left to raise is a defect, and its traceback is wanted.
    """
    try:
        with reaching_stdout():
            return _run(argv)
    except KvsimError as error:
        return complain(str(error))
    except MemoryError as error:
        return complain(f"out of memory{f': {error}' if str(error) else ''}; fewer requests or instances would fit")
    except KeyboardInterrupt:
        print("kvsim: interrupted", file=sys.stderr)
        return OTHER
    except BrokenPipeError:
        give_up(sys.stdout)  # nobody reads it any more
        return OTHER


def complain(message: str) -> int:
    """Say on one line of stderr what is wrong; returns the exit code for it."""
    print(f"kvsim: error: {one_line(message)}", file=sys.stderr)
    return BAD_INPUT


def _run(argv: Sequence[str] | None) -> int:
    import typer

    from kvsim.cli.app import app
    from kvsim.cli.help_text import readable
    from kvsim.cli.usage import UsageError, explained

    command = readable(typer.main.get_command(app))
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = command.main(args=arguments, prog_name="kvsim", standalone_mode=False)
    except UsageError as error:
        return complain(explained(error))
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit as leaving:
        # The library leaves this way, past its own handling of exit codes, when stdout is closed.
        return leaving.code if isinstance(leaving.code, int) else OTHER
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    return int(code or DONE)
